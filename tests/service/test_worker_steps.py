"""One step of a worker: what it claims, what it records, and what it tells the audit trail."""

import json

import pytest

from cxr_dicom.errors import WeightsError
from cxr_dicom.records import ModelInfo, Outcome
from cxr_dicom.service.worker import Worker
from cxr_dicom.synthetic import radiograph
from tests.service_helpers import FastPipeline, derived_uid, listening, send
from tests.store.ledger.helpers import actions

INFO = ModelInfo(
    name="m",
    version="2",
    title="",
    predicts=(),
    input_size=None,
    manufacturer="",
    licence="",
    citation="",
)


class Loaded:
    info = INFO


class Watched(FastPipeline):
    """Has a model, says how often it ran, and does something else first when it is told to."""

    models = (Loaded(),)

    def __init__(self, settings):
        super().__init__(settings)
        self.processed, self.closed, self.before = 0, 0, lambda: None

    def process(self, study, folder):
        self.processed += 1
        self.folder = folder
        self.before()
        return super().process(study, folder)

    def close(self):
        self.closed += 1


DESTINATIONS = [
    {"name": "pacs", "kind": "folder", "path": "somewhere"},
    {"name": "research", "kind": "folder", "path": "elsewhere", "rules": {"senders": ["NOBODY"]}},
]


@pytest.fixture
def here(tmp_path):
    with listening(tmp_path, destinations=DESTINATIONS, service={"max_interruptions": 2}) as here:
        yield here


@pytest.fixture
def pipeline(here):
    return Watched(here.settings)


@pytest.fixture
def worker(here, pipeline):
    made = Worker(here.settings, pipeline, "first")
    yield made
    made.close()


def received(here, *images):
    assert set(send(here.port, *images)) == {0}
    here.ledger.studies.complete(images[0].StudyInstanceUID)
    return images[0].StudyInstanceUID


def told(here, action):
    lines = map(json.loads, here.audit().splitlines())
    return [
        {k: v for k, v in line.items() if k not in ("time", "action")} for line in lines if line["action"] == action
    ]


def test_without_a_study_there_is_nothing_to_do(worker, pipeline):
    assert worker.step() is False
    assert pipeline.processed == 0


def test_a_result_is_kept_with_its_models_and_goes_where_the_rules_say(here, worker, pipeline):
    image = radiograph(32, 32)
    study = received(here, image)
    assert worker.step() is True
    story = here.ledger.stories.show(study)
    (made,) = story["objects"]
    assert [each["destination"] for each in made["deliveries"]] == ["pacs"]
    assert (here.spool.folder / made["path"]).is_file()
    assert not pipeline.folder.exists()
    (job,) = story["jobs"]
    assert job["models"] == [{"name": "m", "version": "2", "weights_sha256": None}]
    source = image.SOPInstanceUID
    assert told(here, "object_made") == [
        {
            "study_instance_uid": study,
            "series_instance_uid": derived_uid(f"series {source}"),
            "sop_instance_uid": derived_uid(source),
            "sop_class_uid": made["sop_class_uid"],
        }
    ]
    assert told(here, "study_processed") == [{"study_instance_uid": study, "state": "ENCODED", "seconds": 0.01}]


def test_an_equal_study_is_not_processed_again(here, worker, pipeline):
    study = received(here, radiograph(32, 32))
    assert worker.step()
    with here.ledger.transaction() as connection:
        connection.execute("UPDATE studies SET state = 'COMPLETE'")
    assert worker.step() is True
    assert pipeline.processed == 1
    assert here.ledger.stories.show(study)["state"] == "ENCODED"
    assert len(told(here, "study_processed")) == 1


def test_the_reasons_of_what_is_not_eligible_are_told_once_each_and_in_order(here, worker):
    study = received(
        here,
        *(radiograph(32, 32, seed=seed, BodyPartExamined="HAND") for seed in range(2)),
        radiograph(32, 32, seed=3, ViewPosition="LL"),
    )
    assert worker.step()
    assert told(here, "study_processed") == [
        {"study_instance_uid": study, "state": "IGNORED", "reason": "NOT_CHEST, NOT_FRONTAL", "seconds": 0.01}
    ]


def test_a_study_that_is_at_work_belongs_to_the_worker_by_its_name(here, worker, pipeline):
    study, owners = received(here, radiograph(32, 32)), []
    pipeline.before = lambda: owners.append(here.ledger.stories.show(study)["claimed_by"])
    assert worker.step()
    assert owners == ["first"]


def test_a_study_that_was_taken_away_meanwhile_is_neither_kept_nor_counted(here, worker, pipeline):
    study = received(here, radiograph(32, 32))
    pipeline.before = lambda: here.ledger.studies.take_back("first", is_interruption=False)
    assert worker.step() is True
    story = here.ledger.stories.show(study)
    assert (story["state"], story["attempts"], story["objects"], story["jobs"]) == ("COMPLETE", 0, [], [])
    assert told(here, "study_processed") == []


def test_a_study_whose_worker_died_too_often_is_left_alone(here, worker, pipeline):
    study = received(here, radiograph(32, 32))
    for _ in range(2):
        assert here.ledger.studies.claim("dead", max_interruptions=2)
        here.ledger.studies.take_back("dead")
    assert worker.step() is False
    assert (here.ledger.stories.show(study)["state"], pipeline.processed) == ("HELD", 0)


def test_a_failure_of_the_whole_study_says_what_it_was_without_its_text(here, worker, pipeline):
    image = radiograph(32, 32)
    study = received(here, image)

    def fail():
        raise ValueError("Doe^Jane")

    pipeline.before = fail
    assert worker.step() is True
    (instance,) = here.ledger.stories.show(study)["instances"]
    assert (instance["outcome"], instance["reason"]) == (Outcome.FAILED, "INTERNAL_ERROR")
    assert instance["detail"].startswith("ValueError")
    assert "Doe" not in instance["detail"]
    failed = {"study_instance_uid": study, "reason": "INTERNAL_ERROR", "seconds": 0}
    assert told(here, "study_processed") == [{"state": "COMPLETE", **failed}]
    with here.ledger.transaction() as connection:
        connection.execute("UPDATE studies SET attempts = 2, next_attempt_at = NULL")
    assert worker.step()
    assert told(here, "study_processed")[1:] == [{"state": "DEAD", **failed}]
    (job,) = here.ledger.stories.show(study)["jobs"]
    assert (job["models"][0]["name"], job["job_key"], job["outcome"]) == ("m", "", Outcome.FAILED)


def test_models_that_a_person_asks_for_are_built_for_that_study_only(here, pipeline):
    built = []

    def build(settings):
        if settings.models.names == ("gone",):
            raise WeightsError("gone: no weights here")
        built.append(Watched(settings))
        return built[-1]

    worker = Worker(here.settings, pipeline, "first", build)
    study = received(here, radiograph(64, 48))
    assert worker.step()
    actions(here.ledger).reprocess(study, ["other"])
    assert worker.step()
    assert (pipeline.processed, [(each.processed, each.closed) for each in built]) == (1, [(1, 1)])
    actions(here.ledger).reprocess(study, here.settings.models.names)
    assert worker.step()
    assert (pipeline.processed, len(built)) == (2, 1), "they are loaded"
    actions(here.ledger).reprocess(study, ["gone"])
    for _ in range(3):
        assert worker.step()
        with here.ledger.transaction() as connection:
            connection.execute("UPDATE studies SET next_attempt_at = NULL")
    story = here.ledger.stories.show(study)
    assert (story["state"], story["models"], story["jobs"][-1]["models"]) == ("DEAD", ["gone"], [])
    assert "gone: no weights here" in story["reason"]
    actions(here.ledger).reprocess(study)
    assert worker.step()
    assert (pipeline.processed, here.ledger.stories.show(study)["models"]) == (3, [])
    worker.close()


def test_a_worker_that_closes_gives_the_models_and_the_ledger_back(here, pipeline):
    Worker(here.settings, pipeline, "w").close()
    assert pipeline.closed == 1


def test_of_a_study_that_is_forgotten_while_it_runs_no_file_stays(here, worker, pipeline):
    image = radiograph(32, 32)
    study = received(here, image)
    adopt = worker._spool.adopt

    def adopted(*arguments):
        made = adopt(*arguments)
        actions(here.ledger).forget(study)
        return made

    worker._spool.adopt = adopted
    assert worker.step() is True
    assert here.ledger.stories.show(study) is None
    assert here.files("sources") == here.files("objects") == []
    assert told(here, "object_made") == told(here, "study_processed") == []


def test_a_locked_ledger_costs_a_worker_neither_its_models_nor_a_line_each_time(here, worker, pipeline, caplog):
    study = received(here, radiograph(32, 32))
    worker._ledger.rows("PRAGMA busy_timeout = 5")
    with here.ledger.transaction():
        assert [worker.step() for _ in range(5)] == [False] * 5
    assert [each.action for each in caplog.records if each.levelname == "ERROR"] == ["worker_failed"]
    assert worker.step()
    story = here.ledger.stories.show(study)
    assert (story["state"], story["interruptions"], pipeline.closed) == ("ENCODED", 0, 0)
