import time

import pydicom
import pytest

from cxr_dicom.config.service import Rules
from cxr_dicom.records import (
    Code,
    Finding,
    ImageAnalysis,
    InstanceResult,
    ModelInfo,
    Outcome,
    Prediction,
    Presence,
    Statement,
    StudyState,
)
from cxr_dicom.service.routes import applies
from cxr_dicom.service.worker import Worker, build_pipeline
from cxr_dicom.synthetic import radiograph
from tests.service_helpers import listening, send
from tests.store.ledger.helpers import actions

CODE = Code(value="1", scheme="99TEST", meaning="test")


def finding(name, call):
    return Finding(name=name, code=CODE, site=None, raw=0.5, probability=0.5, operating_point=0.5, call=call)


@pytest.fixture
def processed(selected):
    """Give a result in which an effusion is present, a nodule absent, and the heart too large."""
    image = selected(radiograph(64, 48))
    model = ModelInfo(
        name="m",
        version="1",
        title="",
        predicts=(),
        input_size=None,
        manufacturer="",
        licence="",
        citation="",
    )
    prediction = Prediction(
        model=model,
        findings=(finding("effusion", Presence.PRESENT), finding("nodule", Presence.ABSENT)),
        statements=(
            Statement(name="large_heart", concept=CODE, call=Presence.PRESENT, rule="over half", measurement="ratio"),
        ),
    )
    analysis = ImageAnalysis(image=image, pixel_sha256="", predictions=(prediction,))
    return [
        InstanceResult(path=image.instance.path, outcome=Outcome.PROCESSED, instance=image.instance, analysis=analysis)
    ]


@pytest.mark.parametrize(
    ("rules", "passes"),
    [
        ({}, True),
        ({"modalities": ["CR", "DX"]}, True),
        ({"modalities": ["CR"]}, False),
        ({"findings": ["effusion"]}, True),
        ({"findings": ["nodule"]}, False),
        ({"findings": ["nodule", "large_heart"]}, True),
        ({"modalities": ["DX"], "findings": ["nodule"]}, False),
        ({"senders": ["MODALITY"]}, False),
    ],
)
def test_every_rule_must_be_met(processed, rules, passes):
    assert applies(Rules.model_validate(rules), processed) is passes


@pytest.fixture
def service(tmp_path):
    """Give a listener, and a way to let a worker with the offline models process what it received."""
    models = {"names": ("offline-anatomy",), "device": "cpu"}
    with listening(tmp_path, models=models, select={"no_lungs": "process"}, encode={"objects": ["sr"]}) as here:

        def work(study, **encode):
            settings = here.settings.model_copy(
                update={"encode": here.settings.encode.model_copy(update=encode)},
            )
            here.ledger.studies.complete(study)
            worker = Worker(settings, build_pipeline(settings), "w", build_pipeline)
            assert worker.step()
            worker.close()
            return {each["sop_instance_uid"]: each for each in here.ledger.stories.show(study)["objects"]}

        yield here, work


def predecessor(here, made):
    document = pydicom.dcmread(here.spool.folder / made["path"])
    found = document.get("PredecessorDocumentsSequence")
    return found and found[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID


@pytest.mark.parametrize(("choice", "is_now"), [("auto", True), ("now", True), ("source", False)])
def test_objects_of_the_service_are_dated_by_the_clock_unless_told_otherwise(service, choice, is_now):
    here, work = service
    image = radiograph(96, 80)
    send(here.port, image)
    for made in work(image.StudyInstanceUID, content_time=choice).values():
        dated = pydicom.dcmread(here.spool.folder / made["path"]).ContentDate
        assert (dated != image.ContentDate) is is_now


def test_what_is_made_again_later_keeps_its_first_bytes(service):
    here, work = service
    first, second = radiograph(96, 80), radiograph(96, 80, seed=1)
    study = first.StudyInstanceUID
    send(here.port, first)
    before = {uid: (here.spool.folder / made["path"]).read_bytes() for uid, made in work(study).items()}
    time.sleep(1)  # Content Time is in seconds
    send(here.port, second)
    after = work(study)
    assert len(after) > len(before)
    assert all((here.spool.folder / after[uid]["path"]).read_bytes() == content for uid, content in before.items())


def test_a_late_image_gets_a_report_that_takes_the_place_of_none(service):
    here, work = service
    first, late = (radiograph(96, 80, seed=seed) for seed in range(2))
    study = first.StudyInstanceUID
    send(here.port, first)
    once = work(study)
    here.spool.delete(here.ledger.stories.drop_files(study, "instances"))  # sources_days have gone by
    send(here.port, late)
    grown = work(study)
    new = [each for uid, each in grown.items() if uid not in once]
    (found,) = (each for each in new if each["kind"] == "findings_report")
    assert found["sources"] == [late.SOPInstanceUID]
    assert predecessor(here, found) is None


def test_a_second_run_names_its_predecessors_and_an_equal_one_is_none(service):
    here, work = service
    first, second, third = (radiograph(96, 80, seed=seed) for seed in range(3))
    study = first.StudyInstanceUID
    send(here.port, first)
    once = work(study)
    send(here.port, second)
    grown = work(study)
    (old,) = (uid for uid, each in once.items() if each["kind"] == "findings_report")
    (new,) = (uid for uid, each in grown.items() if each["kind"] == "findings_report" and uid != old)
    assert predecessor(here, grown[new]) == old
    assert grown.keys() >= once.keys()
    send(here.port, third)
    otherwise = work(study, geometry="strict")
    (newest,) = (uid for uid, each in otherwise.items() if each["kind"] == "findings_report" and uid not in grown)
    assert predecessor(here, otherwise[newest]) == new
    with here.ledger.transaction() as connection:
        connection.execute(
            "UPDATE studies SET state = ?", (StudyState.COMPLETE,)
        )  # as after a retry that was not forced
    assert work(study, geometry="strict").keys() == otherwise.keys()
    assert len(here.ledger.stories.show(study)["jobs"]) == 3  # what was written before is no new input


def test_other_models_that_a_person_asks_for_make_reports_that_name_the_old_ones(service):
    here, work = service
    image = radiograph(96, 80)
    study = image.StudyInstanceUID
    send(here.port, image)
    once = work(study)
    actions(here.ledger).reprocess(study, ["offline-anatomy", "lung-opacity"])
    again = work(study)
    (old,) = (uid for uid, each in once.items() if each["kind"] == "findings_report")
    (new,) = (uid for uid, each in again.items() if each["kind"] == "findings_report" and uid != old)
    assert predecessor(here, again[new]) == old
    jobs = here.ledger.stories.show(study)["jobs"]
    assert [[model["name"] for model in job["models"]] for job in jobs] == [
        ["offline-anatomy"],
        ["offline-anatomy", "lung-opacity"],
    ]
