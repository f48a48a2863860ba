"""What an archive cannot give is put off and told, and holds up nothing else."""

from datetime import date

import pytest

from cxr_dicom.cli.poll import print_rounds
from cxr_dicom.errors import ConnectionFailedError, FetchError
from cxr_dicom.ingest.archive import IncompleteAnswerError, StudyQuery
from tests.ingest.shelf import image

TODAY = date(2026, 1, 6)
UNAVAILABLE = ConnectionFailedError("HTTP 503", "Service Unavailable", http_status=503)
BROKEN = ConnectionFailedError("BROKEN_OFF", "IncompleteRead")
GONE = FetchError("WADO-RS: HTTP 404")
UNFORESEEN = KeyError("Doe^Jane")


@pytest.fixture
def clock(monkeypatch):
    """Time that only a test moves."""
    now = {"time": 1e9, "monotonic": 0.0}
    monkeypatch.setattr("cxr_dicom.ingest.polling.time.time", lambda: now["time"])
    monkeypatch.setattr("cxr_dicom.ingest.polling.time.monotonic", lambda: now["monotonic"])

    def move(seconds):
        now["time"] += seconds
        now["monotonic"] += seconds

    return move


def two(shelf):
    """A study that comes first in every round, and one behind it."""
    shelf.images = sorted((image("20260105"), image("20260106", 1, "a")), key=lambda each: each.StudyInstanceUID)
    return shelf.images


@pytest.mark.parametrize("trouble", [UNAVAILABLE, BROKEN, GONE, UNFORESEEN], ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("place", ["StudyInstanceUID", "SOPInstanceUID"])
def test_a_study_that_the_archive_cannot_give_holds_up_no_other(poll, shelf, caplog, trouble, place):
    bad, good = two(shelf)
    shelf.troubled = {bad[place].value: trouble}
    made = poll(TODAY)
    assert (made.instances, made.failed, made.error) == (1, 1, "")
    assert shelf.fetched[-1] == good.SOPInstanceUID
    (told,) = (each.fields for each in caplog.records if each.getMessage() == "study_put_off")
    assert (told["archive"], told["study_instance_uid"]) == ("shelf", bad.StudyInstanceUID)
    assert "Doe" not in str(told)
    shelf.troubled = {}
    assert poll(TODAY).instances == 1
    assert poll.ledger.polls.put_off("shelf") == {}


def test_the_pauses_grow_and_are_kept_from_one_process_to_the_next(poll, shelf, clock):
    bad, _ = two(shelf)
    shelf.troubled = {bad.StudyInstanceUID: UNAVAILABLE}
    pauses = []
    for _ in range(9):
        assert (made := poll(TODAY)).failed == 1
        (waiting,) = poll.ledger.polls.put_off("shelf").values()
        pauses.append(round(waiting.next_attempt_at - 1e9 - sum(pauses)))
        if pauses[-1]:
            clock(pauses[-1] - 1)
            made = poll(TODAY)
            assert (made.failed, made.put_off) == (0, 1)
            clock(1)
    assert pauses == [0, 60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert waiting.reason == "HTTP 503: Service Unavailable"


def test_an_archive_that_names_a_pause_gets_it(poll, shelf, clock):
    bad, _ = two(shelf)
    shelf.troubled = {bad.StudyInstanceUID: ConnectionFailedError("HTTP 503", "", 500.0, http_status=503)}
    poll(TODAY)
    clock(499)
    assert poll(TODAY).put_off == 1
    clock(1)
    assert poll(TODAY).failed == 1


def test_what_was_put_off_is_asked_for_by_its_uid_when_the_window_has_moved_on(poll, shelf, clock):
    bad, good = two(shelf)
    bad.StudyDate, good.StudyDate = "20260101", "20260105"
    shelf.troubled = {bad.StudyInstanceUID: UNAVAILABLE}
    poll(TODAY)
    assert poll.ledger.polls.watermark("shelf") == "20260105"
    shelf.troubled = {}
    assert poll(TODAY).instances == 1
    assert shelf.wanted[-2:] == [StudyQuery(since="20260103"), StudyQuery(study_instance_uid=bad.StudyInstanceUID)]


def test_what_was_put_off_and_is_deleted_there_is_told_and_forgotten(poll, shelf, caplog):
    bad, _ = two(shelf)
    shelf.troubled = {bad.StudyInstanceUID: UNAVAILABLE}
    poll(TODAY)
    shelf.images.remove(bad)
    assert poll(TODAY).failed == 0
    assert "study_gone" in caplog.messages
    assert poll.ledger.polls.put_off("shelf") == {}


def test_a_study_that_is_wanted_by_name_is_tried_at_once(poll, shelf, clock):
    bad, _ = two(shelf)
    shelf.troubled = {bad.StudyInstanceUID: UNAVAILABLE}
    poll(TODAY), poll(TODAY)
    shelf.troubled = {}
    assert poll(TODAY).put_off == 1
    assert poll(TODAY, StudyQuery(study_instance_uid=bad.StudyInstanceUID)).instances == 1


def test_an_archive_that_is_down_is_not_asked_for_each_study(poll, shelf):
    for each in two(shelf):
        shelf.troubled[each.StudyInstanceUID] = ConnectionFailedError("UNREACHABLE", "no")
    assert poll(TODAY).error == "UNREACHABLE: no"
    assert len(shelf.listed) == 1
    assert poll.ledger.polls.put_off("shelf") == {}


def test_trouble_with_a_study_while_nothing_else_works_is_the_archive_s(poll, shelf):
    def down(study, modalities):
        shelf.listed.append(study)
        shelf.trouble = UNAVAILABLE
        raise UNAVAILABLE

    two(shelf)
    shelf.instances = down
    assert "HTTP 503" in poll(TODAY).error
    assert (len(shelf.listed), shelf.checked) == (1, 1)
    assert poll.ledger.polls.watermark("shelf") is None


def test_a_replaced_image_is_fetched_although_the_number_stays(poll, shelf):
    """A lateral is rejected and a PA taken again."""
    shelf.images = [image("20260105", 0), image("20260105", 1)]
    assert poll(TODAY).instances == 2
    shelf.images[1] = image("20260105", 2)
    assert poll(TODAY).instances == 1
    assert shelf.fetched[-1] == shelf.images[1].SOPInstanceUID


def test_a_study_that_stays_the_same_is_compared_ever_more_rarely(make, shelf, clock):
    shelf.images = [image("20260105")]
    polling = make(TODAY)
    for _ in range(2016):  # a week of rounds
        polling.once()
        clock(300)
    assert 50 < len(shelf.listed) < 100
    shelf.images.append(image("20260105", 1))
    assert polling.once()[0].instances == 1  # another number of images is seen at once


def test_what_is_no_image_was_not_fetched_and_is_asked_for_again(poll, shelf):
    bad, _ = two(shelf)
    for answer in (b"<html>Please log in</html>", b"", b"\0" * 128 + b"DICM"):
        shelf.answers = {bad.SOPInstanceUID: answer}
        made = poll(TODAY)
        assert (made.refused, made.failed) == (0, 1)
        poll.ledger.polls.set_put_off("shelf", bad.StudyInstanceUID, None)
    shelf.answers = {}
    assert poll(TODAY).instances == 1


def test_another_image_than_asked_is_none(poll, shelf):
    bad, other = two(shelf)
    shelf.images = [bad]
    other.save_as(path := poll.folder / "other.dcm", enforce_file_format=True)
    shelf.answers = {bad.SOPInstanceUID: path.read_bytes()}
    made = poll(TODAY)
    assert (made.refused, made.failed) == (0, 1)
    assert not poll.ledger.studies.knows(other.SOPInstanceUID)


def test_an_image_of_another_study_is_none(poll, shelf):
    wanted, other = two(shelf)
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = wanted.SOPInstanceUID
    shelf.images = [wanted]
    other.save_as(path := poll.folder / "other.dcm", enforce_file_format=True)
    shelf.answers = {wanted.SOPInstanceUID: path.read_bytes()}
    made = poll(TODAY)
    assert (made.refused, made.failed) == (0, 1)
    assert not poll.ledger.studies.knows(wanted.SOPInstanceUID)


def test_an_answer_that_is_not_whole_moves_nothing_on_but_is_used(poll, shelf):
    two(shelf)
    complete = shelf.studies

    def incomplete(query, modalities):
        yield from complete(query, modalities)
        raise IncompleteAnswerError("100 studies, and no more can be proved")

    shelf.studies = incomplete
    made = poll(TODAY)
    assert (made.instances, made.error) == (2, "INCOMPLETE: 100 studies, and no more can be proved")
    assert poll.ledger.polls.watermark("shelf") is None


def test_an_image_that_is_listed_twice_is_fetched_once(poll, shelf):
    shelf.images = [image("20260105")] * 2
    assert poll(TODAY).instances == len(shelf.fetched) == 1


def test_a_round_that_finds_nothing_says_what_it_asked_for(make, shelf, capsys):
    polling = make(TODAY)

    def said(*queries):
        print_rounds(polling.once(queries))
        return capsys.readouterr().out

    nothing = "shelf: 0 studies, 0 images, 0 refused, 0 not given; asked for "
    assert said() == f"{nothing}StudyDate=20251207-, ModalitiesInStudy=CR or DX: no study matches\n"
    assert said(*(StudyQuery(accession_number=number) for number in ("A7", "A8"))) == (
        f"{nothing}2 AccessionNumber, ModalitiesInStudy=CR or DX: no study matches\n"
    )
    shelf.images = [image("20260105")]
    assert said() == "shelf: 1 studies, 1 images, 0 refused, 0 not given\n"
    assert said() == (
        f"{nothing}StudyDate=20260103-, ModalitiesInStudy=CR or DX: 1 studies match, nothing of them is new\n"
    )


def test_an_archive_in_trouble_all_day_is_a_few_lines_and_not_one_for_each_round_and_study(make, shelf, caplog, clock):
    shelf.images = [image("20260106", seed, str(seed)) for seed in range(20)]
    poller = make(TODAY)
    shelf.troubled = {each.SOPInstanceUID: GONE for each in shelf.images}
    poller.once()
    shelf.trouble = ConnectionFailedError("UNREACHABLE", "connection refused")
    for _ in range(20):
        clock(30)
        poller.once()
    shelf.trouble, shelf.troubled = None, {}
    clock(4000)
    poller.once()
    told = [(each.getMessage(), each.fields.get("times")) for each in caplog.records if "archive" in each.fields]
    assert told == [("fetch_failed", None), ("study_put_off", None), ("poll_failed", None), ("poll_recovered", 60)]
