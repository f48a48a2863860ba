"""The poller's promises: misses nothing, repeats nothing, whatever breaks off or steps."""

import threading
from datetime import date
from types import SimpleNamespace

import pytest
from pydicom.uid import CTImageStorage, DigitalXRayImageStorageForPresentation

from cxr_dicom.errors import ConnectionFailedError
from cxr_dicom.ingest.archive import StudyQuery
from cxr_dicom.ingest.polling import Round
from tests.ingest.shelf import Shelf, image


class Stop(threading.Event):
    """Writes down how long it is waited for, and comes after so many times."""

    def __init__(self, times=1):
        super().__init__()
        self.waited, self._times = [], times

    def wait(self, timeout=None):
        self.waited.append(timeout)
        if len(self.waited) >= self._times:
            self.set()
        return self.is_set()


def test_the_second_round_fetches_nothing(poll, shelf):
    shelf.images = [image("20260105", 0), image("20260105", 1)]
    assert poll(date(2026, 1, 5)).instances == 2
    assert poll(date(2026, 1, 5)).instances == 0
    assert len(shelf.fetched) == 2


def test_a_study_that_grows(poll, shelf):
    shelf.images = [image("20260105", 0)]
    poll(date(2026, 1, 5))
    shelf.images.append(image("20260105", 1))
    assert poll(date(2026, 1, 5)).instances == 1


def test_a_study_that_comes_late(poll, shelf):
    shelf.images = [image("20260105")]
    poll(date(2026, 1, 5))
    shelf.images.append(image("20260103", 1, "late"))
    assert poll(date(2026, 1, 6)).instances == 1


def test_a_round_that_breaks_off_is_repeated_without_what_it_had(poll, shelf):
    shelf.images = [image("20260105", seed) for seed in range(3)]
    shelf.breaks_after = 1
    assert "pulled the plug" in poll(date(2026, 1, 5)).error
    assert poll.ledger.polls.watermark("shelf") is None
    shelf.breaks_after = None
    assert poll(date(2026, 1, 5)).instances == 2
    assert len(set(shelf.fetched)) == len(shelf.fetched) == 3


def test_days_without_a_round_are_made_up_for(poll, shelf):
    shelf.images = [image("20260105")]
    poll(date(2026, 1, 5))
    shelf.images += [image("20260110", 1, "a"), image("20260120", 2, "b")]
    assert poll(date(2026, 2, 1)).instances == 2


@pytest.mark.parametrize("today", [date(2020, 1, 1), date(2035, 1, 1)])
def test_a_clock_that_was_stepped_misses_and_repeats_nothing(poll, shelf, today):
    shelf.images = [image("20260105")]
    poll(date(2026, 1, 5))
    shelf.images.append(image("20260106", 1, "a"))
    assert poll(today).instances == 1
    shelf.images.append(image("20260107", 2, "b"))
    assert poll(date(2026, 1, 7)).instances == 1
    assert len(set(shelf.fetched)) == len(shelf.fetched) == 3


def test_a_study_of_next_century_does_not_hide_this_one(poll, shelf):
    shelf.images = [image("21260105")]
    poll(date(2026, 1, 5))
    shelf.images.append(image("20260106", 1, "a"))
    assert poll(date(2026, 1, 6)).instances == 1


def test_what_is_refused_is_not_asked_for_again(poll, shelf):
    shelf.images = [image("20260105")]
    shelf.images[0].StudyInstanceUID = "1.2.3"
    shelf.images[0].Manufacturer = "cxr-dicom"
    assert poll(date(2026, 1, 5)).refused == 1
    assert poll(date(2026, 1, 5)).instances == 0


def test_a_fetched_study_is_complete_at_once(poll, shelf):
    shelf.images = [image("20260105")]
    poll(date(2026, 1, 5))
    assert poll.ledger.studies.uids("COMPLETE") == [shelf.images[0].StudyInstanceUID]


def test_one_instance_that_is_not_given_holds_up_no_other_and_is_asked_for_again(poll, shelf):
    shelf.images = [image("20260105"), image("20260106", 1, "a")]
    shelf.withheld = {shelf.images[0].SOPInstanceUID}
    first = poll(date(2026, 1, 6))
    assert (first.instances, first.failed, first.error) == (1, 1, "")
    shelf.withheld = set()
    assert poll(date(2026, 1, 6)).instances == 1


def test_an_instance_that_never_came_is_asked_for_again(poll, shelf):
    shelf.images = [image("20260105")]
    shelf.forgotten = {shelf.images[0].SOPInstanceUID}
    first = poll(date(2026, 1, 6))
    assert (first.instances, first.failed, first.error) == (0, 1, "")
    shelf.forgotten = set()
    assert poll(date(2026, 1, 6)).instances == 1


def test_the_first_round_begins_some_days_ago_and_the_next_ones_before_the_newest_study(poll, shelf):
    shelf.images = [image("20260105"), image("20260103", 1, "a")]
    poll(date(2026, 1, 20))
    assert poll.ledger.polls.watermark("shelf") == "20260105"
    poll(date(2026, 1, 21))
    assert shelf.wanted == [StudyQuery(since="20251221"), StudyQuery(since="20260103")]
    assert shelf.modalities == {("CR", "DX")}


@pytest.mark.parametrize(
    ("day", "watermark"), [("20260105", "20260105"), ("20260106", "20260106"), ("20270105", "20260106")]
)
def test_how_far_it_was_read_is_never_in_the_future(poll, shelf, day, watermark):
    shelf.images = [image(day)]
    poll(date(2026, 1, 6))
    assert poll.ledger.polls.watermark("shelf") == watermark


def test_an_archive_without_studies_was_read_nowhere(poll):
    assert poll(date(2026, 1, 6)) == Round(archive="shelf")
    assert poll.ledger.polls.watermark("shelf") is None


def test_studies_that_are_wanted_are_fetched_and_do_not_move_the_beginning_of_the_next_round(poll, shelf):
    shelf.images = [image("20260105"), image("20200105", 1, "old")]
    wanted = [StudyQuery(study_instance_uid=each.StudyInstanceUID) for each in shelf.images]
    assert poll(date(2026, 1, 6), *wanted) == Round(archive="shelf", studies=2, instances=2)
    assert shelf.wanted == wanted
    assert poll.ledger.polls.watermark("shelf") is None


def test_a_round_counts_what_it_did(poll, shelf):
    shelf.images = [
        *(image("20260105", seed) for seed in range(2)),
        image("20260106", 3, "a"),
        image("20260106", 4, "b"),
    ]
    shelf.images[2].Manufacturer = "cxr-dicom"
    shelf.withheld = {shelf.images[3].SOPInstanceUID}
    first = poll(date(2026, 1, 6))
    assert (first.studies, first.refused, first.failed, first.error) == (3, 1, 1, "")
    received = poll.ledger.stories.show(shelf.images[0].StudyInstanceUID)["instances"]
    assert [each["sender"] for each in received] == ["shelf", "shelf"]
    again = poll(date(2026, 1, 6))
    assert (again.studies, again.instances, again.failed) == (1, 0, 1)


def test_a_study_of_unknown_size_is_listed_in_each_round(poll, shelf):
    shelf.images, shelf.says_how_many = [image("20260105")], False
    assert [poll(date(2026, 1, 5)).instances for _ in range(2)] == [1, 0]
    assert len(shelf.listed) == 2


@pytest.mark.parametrize(("sop_class", "instances"), [(DigitalXRayImageStorageForPresentation, 1), (CTImageStorage, 0)])
def test_only_classes_that_the_listener_takes_are_fetched(poll, shelf, sop_class, instances):
    shelf.images, shelf.sop_class_uid = [image("20260105")], sop_class
    assert poll(date(2026, 1, 5)).instances == len(shelf.fetched) == instances


def test_a_stop_ends_the_round_before_the_next_study(make, shelf):
    shelf.images = [image("20260105")]
    stop = threading.Event()
    stop.set()
    (made,) = make(date(2026, 1, 5)).once(stop=stop)
    assert (made, shelf.listed) == (Round(archive="shelf"), [])
    assert make.here.ledger.polls.watermark("shelf") is None


def test_rounds_are_made_until_the_stop_and_the_poller_rests_between_them(make, shelf):
    stop = Stop(times=3)
    make(date(2026, 1, 5)).run(stop)
    assert stop.waited == [60] * 3
    assert len(shelf.wanted) == 3


@pytest.mark.parametrize(("asked", "waited"), [(None, []), (120.0, [120.0]), (1e9, [3600])])
def test_an_archive_that_asks_for_a_pause_gets_it_within_reason(make, shelf, asked, waited):
    shelf.trouble = ConnectionFailedError("503", "busy", retry_after=asked)
    stop = Stop()
    (made,) = make(date(2026, 1, 5)).once(stop=stop)
    assert stop.waited == waited
    assert "busy" in made.error


@pytest.mark.parametrize("trouble", [ConnectionFailedError("UNREACHABLE", "no"), KeyError("Doe^Jane")])
def test_trouble_with_one_archive_does_not_stop_the_others(make, shelf, trouble):
    other = Shelf()
    other.trouble, shelf.images = trouble, [image("20260105")]
    first, second = make(date(2026, 1, 5), other, shelf).once()
    assert type(trouble).__name__ in first.error or "UNREACHABLE" in first.error
    assert "Doe" not in first.error
    assert (second.instances, second.error) == (1, "")


def test_a_full_disk_ends_the_round_and_nothing_counts_as_refused(make, shelf, monkeypatch):
    shelf.images = [image("20260105"), image("20260106", 1, "a")]
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=-1))
    (made,) = make(date(2026, 1, 6)).once()
    assert (made.studies, made.refused, made.instances, len(shelf.fetched)) == (0, 0, 0, 1)
    assert made.error
    assert make.here.ledger.polls.watermark("shelf") is None


def test_several_that_fail_or_are_refused_are_all_counted(poll, shelf):
    shelf.images = [image("20260105", seed) for seed in range(4)]
    for each in shelf.images[:2]:
        each.Manufacturer = "cxr-dicom"
    shelf.withheld = {each.SOPInstanceUID for each in shelf.images[2:]}
    made = poll(date(2026, 1, 5))
    assert (made.refused, made.failed) == (2, 2)


def test_the_log_says_which_instance_an_archive_did_not_give(poll, shelf, caplog):
    shelf.images = [image("20260105")]
    uid = shelf.images[0].SOPInstanceUID
    shelf.forgotten = {uid}
    poll(date(2026, 1, 6))
    (record,) = (each for each in caplog.records if each.getMessage() == "fetch_failed")
    assert record.fields == {
        "archive": "shelf",
        "sop_instance_uid": uid,
        "error": f"expected {uid}, the archive said success and sent nothing",
    }


@pytest.mark.parametrize("trouble", [ConnectionFailedError("503", "busy"), KeyError("Doe^Jane")])
def test_the_log_says_what_a_round_did_and_which_archive_was_in_trouble(poll, shelf, caplog, trouble):
    caplog.set_level("INFO", "cxr_dicom")
    shelf.images = [image("20260105", seed) for seed in range(2)]
    poll(date(2026, 1, 6))
    shelf.trouble = trouble
    poll(date(2026, 1, 6))
    said = [(each.getMessage(), each.fields) for each in caplog.records if each.getMessage().startswith("poll")]
    (failure,) = (fields for name, fields in said if name == "poll_failed")
    assert failure["archive"] == "shelf"
    assert failure["error"].startswith("503: busy" if isinstance(trouble, ConnectionFailedError) else "KeyError at")
    assert [fields for name, fields in said if name == "poll_done"] == [
        {"archive": "shelf", "studies": 1, "files": 2},
    ]


def test_a_stop_that_comes_during_a_round_ends_it(make, shelf):
    shelf.images = [image("20260105"), image("20260105", 1, "a")]
    stop = threading.Event()
    fetch, shelf.fetch = shelf.fetch, lambda each, store: (stop.set(), fetch(each, store))
    make(date(2026, 1, 5)).run(stop)
    assert (len(shelf.wanted), len(shelf.fetched)) == (1, 1)
