"""A study that fails in a way that may pass: when it is tried again, how often, and what is kept of it."""

import time

import pytest

from cxr_dicom.records import InstanceResult, Outcome, Reason, StudyResult
from cxr_dicom.service.worker import Worker
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.synthetic import radiograph
from tests.service_helpers import FastPipeline, listening, send


class Trouble(FastPipeline):
    """Fails ``failures`` times, by an exception or by a result whose images have ``reason``."""

    error = RuntimeError

    def __init__(self, settings, failures, reason):
        super().__init__(settings)
        self.processed, self._failures, self._reason = 0, failures, reason

    def process(self, study, folder):
        self.processed += 1
        if self.processed > self._failures:
            return super().process(study, folder)
        if self._reason is None:
            raise self.error("Doe^Jane")
        failed = tuple(
            InstanceResult(path=i.path, outcome=Outcome.FAILED, instance=i, reason=self._reason, detail="")
            for i in study.instances
        )
        return StudyResult(study_instance_uid=study.study_instance_uid, job_key="key", instances=failed)


class Case:
    """A study that waits, a worker whose pipeline is in trouble, and a clock that can be moved on."""

    def __init__(self, here, monkeypatch, failures, reason):
        self._here, self._monkeypatch, self._now = here, monkeypatch, time.time
        self.pipeline = Trouble(here.settings, failures, reason)
        self.worker = Worker(here.settings, self.pipeline, "w")
        image = radiograph(32, 32)
        self._study = image.StudyInstanceUID
        assert send(here.port, image) == [0]
        here.ledger.studies.complete(self._study)

    def story(self):
        return self._here.ledger.stories.show(self._study)

    def wait(self, seconds):
        before = self._now
        self._now = lambda: before() + seconds
        self._monkeypatch.setattr(time, "time", self._now)

    def seconds_to_wait(self):
        return self.story()["next_attempt_at"] - time.time()


@pytest.fixture
def case(tmp_path, monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: high)  # no pause is shortened by chance
    with listening(tmp_path) as here:
        made = []

        def make(failures, reason):
            made.append(Case(here, monkeypatch, failures, reason))
            return made[0]

        yield make
        made[0].worker.close()


MAY_PASS = [None, Reason.ENCODING_FAILED, Reason.INTERNAL_ERROR]


@pytest.mark.parametrize("reason", MAY_PASS)
def test_it_is_tried_three_times_with_growing_pauses_then_dead(case, reason):
    made = case(9, reason)
    for attempt, pause in enumerate((4, 8), start=1):
        assert made.worker.step()
        story = made.story()
        assert (story["state"], story["attempts"], made.pipeline.processed) == ("COMPLETE", attempt, attempt)
        assert made.seconds_to_wait() == pytest.approx(pause, abs=1)
        made.wait(pause - 2)
        assert not made.worker.step(), "tried again before its pause was over"
        made.wait(2)
    assert made.worker.step()
    story = made.story()
    assert (story["state"], made.pipeline.processed) == ("DEAD", 3)
    assert story["reason"].startswith(str(reason or Reason.INTERNAL_ERROR))
    made.wait(900)
    assert not made.worker.step()
    assert "Doe" not in str(made.story())


@pytest.mark.parametrize("reason", MAY_PASS)
@pytest.mark.parametrize("failures", [1, 2])
def test_trouble_that_passes_is_forgotten(case, failures, reason):
    made = case(failures, reason)
    for _ in range(failures + 1):
        assert made.worker.step()
        made.wait(10)
    story = made.story()
    assert (story["state"], story["attempts"], story["next_attempt_at"]) == ("ENCODED", 0, None)
    assert [each["outcome"] for each in story["instances"]] == ["processed"]


def test_what_cannot_pass_is_dead_at_once(case):
    made = case(9, Reason.MODEL_FAILED)
    assert made.worker.step()
    assert (made.story()["state"], made.pipeline.processed) == ("DEAD", 1)


@pytest.mark.parametrize("error", [MemoryError, PermissionError])
def test_a_want_of_this_machine_is_no_attempt_and_has_no_end(case, error):
    made = case(failures=12, reason=None)
    made.pipeline.error = error
    pauses = []
    while made.worker.step() and made.story()["state"] == "COMPLETE":
        assert made.story()["attempts"] == 0
        pauses.append(round(made.seconds_to_wait()))
        made.wait(pauses[-1] + 1)
    assert len(pauses) == 12
    assert pauses == sorted(pauses)
    assert pauses[-1] == 900
    assert made.story()["state"] == "ENCODED"


def test_without_room_on_the_disk_no_study_is_taken_and_none_dies(tmp_path, monkeypatch):
    with listening(tmp_path) as here:
        case = Case(here, monkeypatch, 1, Reason.ENCODING_FAILED)
        spool = case.worker._spool
        spool._min_free = 1 << 60
        assert not case.worker.step()
        assert (case.story()["state"], case.pipeline.processed) == ("COMPLETE", 0)
        process = case.pipeline.process

        def fill(study, folder):
            spool._min_free = 1 << 60  # it becomes full at work
            return process(study, folder)

        spool._min_free = 0
        monkeypatch.setattr(case.pipeline, "process", fill)
        assert case.worker.step()
        assert (case.story()["state"], case.story()["attempts"]) == ("COMPLETE", 0)
        spool._min_free = 0
        case.wait(60)
        assert case.worker.step()
        assert case.story()["state"] == "ENCODED"


def test_a_trail_that_cannot_be_written_stops_neither_reception_nor_work(tmp_path, monkeypatch):
    (tmp_path / "audit.jsonl").mkdir()
    with listening(tmp_path) as here:
        case = Case(here, monkeypatch, 0, None)  # its image is acknowledged
        assert case.worker.step()
        assert case.story()["state"] == "ENCODED"
        assert "cannot be written: Is a directory" in AuditTrail(tmp_path).problem()
        (tmp_path / "audit.jsonl").rmdir()
        assert AuditTrail(tmp_path).problem() is None
