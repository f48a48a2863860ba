"""The poller's promises: misses nothing, repeats nothing, whatever breaks off or steps."""

from datetime import date
from io import BytesIO

import pytest

from cxr_dicom.errors import FetchError
from cxr_dicom.ingest.archive import RemoteInstance, RemoteStudy
from cxr_dicom.ingest.intake import Intake
from cxr_dicom.ingest.polling import Polling
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.synthetic import radiograph
from cxr_dicom.system.network import ConnectionFailedError
from tests.service_helpers import listening


class Shelf:
    """An archive in memory that answers as a real one does, and breaks off when it is told to."""

    name = "shelf"

    def __init__(self):
        self.images = []
        self.fetched = []
        self.since = []
        self.breaks_after = None
        self.withheld = set()
        self.forgotten = set()

    def studies(self, wanted, modalities):
        self.since.append(wanted.since)
        found = {}
        for image in self.images:
            if not wanted.since or image.StudyDate >= wanted.since:
                found.setdefault(image.StudyInstanceUID, []).append(image)
        for uid, images in sorted(found.items()):
            yield RemoteStudy(study_instance_uid=uid, study_date=images[0].StudyDate, instances=len(images))

    def instances(self, study, modalities):
        for image in self.images:
            if image.StudyInstanceUID == study.study_instance_uid:
                yield RemoteInstance(
                    study_instance_uid=image.StudyInstanceUID,
                    series_instance_uid=image.SeriesInstanceUID,
                    sop_instance_uid=image.SOPInstanceUID,
                )

    def fetch(self, each, store):
        if self.breaks_after is not None and len(self.fetched) >= self.breaks_after:
            raise ConnectionFailedError("UNREACHABLE", "pulled the plug")
        if each.sop_instance_uid in self.withheld:
            raise FetchError("HTTP 404")
        if each.sop_instance_uid in self.forgotten:
            return  # as C-GET that succeeds with no sub-operation: the file lies on a tape
        (image,) = [image for image in self.images if image.SOPInstanceUID == each.sop_instance_uid]
        file = BytesIO()
        image.save_as(file, enforce_file_format=True)
        self.fetched.append(each.sop_instance_uid)
        store((file.getvalue(),), each)

    def check(self):
        return "is there"


@pytest.fixture
def shelf():
    return Shelf()


@pytest.fixture
def poll(tmp_path, shelf):
    """Make a round on a given day; each is a new process as far as the poller can tell."""
    with listening(tmp_path, poller={"lookback_days": 2}) as here:

        def once(today):
            intake = Intake(
                here.spool, here.ledger, here.assembly, AuditTrail(tmp_path), here.settings.listener.sop_classes
            )
            polling = Polling(here.settings, here.ledger, intake, today=lambda: today)
            polling._archives = [shelf]
            return polling.once()[0]

        once.ledger = here.ledger
        yield once


def image(day, seed=0, study="1"):
    return radiograph(32, 32, seed=seed, study=study, StudyDate=day)


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
