"""Images of one study on several routes: each gets what it would get alone, and nothing that speaks of another."""

import json
from dataclasses import replace

import pytest
from pydicom import dcmread

from cxr_dicom import synthetic
from cxr_dicom.config import Settings
from cxr_dicom.ingest.folder import scan
from cxr_dicom.pipeline import Pipeline
from cxr_dicom.records import Outcome, Reason
from cxr_dicom.service.routed import RoutedPipeline

SETTINGS = {
    "models": {"names": ["offline-anatomy"], "device": "cpu"},
    "encode": {"objects": ["seg", "sr"]},
    "select": {"no_lungs": "process"},
    "routes": [
        {"name": "neonates", "stations": ["NICU"], "models": []},
        {
            "name": "research",
            "called_ae_titles": ["CXR_RESEARCH"],
            "models": ["lung-opacity", "offline-anatomy"],
            "objects": ["sr"],
        },
        {"name": "elsewhere", "called_ae_titles": ["CXR_OTHER"], "destinations": []},
    ],
}


@pytest.fixture(scope="module")
def routed():
    pipeline = RoutedPipeline(Settings.model_validate(SETTINGS))
    yield pipeline
    pipeline.close()


@pytest.fixture
def study(tmp_path):
    """A study of images whose senders called us by one name each."""

    def make(*called, **header):
        images = [synthetic.radiograph(160, 128, seed=n, **header) for n in range(len(called))]
        synthetic.write_study(tmp_path / "in", images)
        (found,), _ = scan([tmp_path / "in"])
        ways = dict(zip([image.SOPInstanceUID for image in images], called, strict=True))
        instances = [replace(each, called_ae_title=ways[each.sop_instance_uid]) for each in found.instances]
        return replace(found, instances=tuple(instances))

    return make


def part(study, called):
    """The images of a study that came on one way, as if there were no others."""
    return replace(study, instances=tuple(each for each in study.instances if each.called_ae_title == called))


def on_way(result, called):
    return [each for each in result.instances if each.instance.called_ae_title == called]


def made(instances):
    return {each.sop_instance_uid: each for instance in instances for each in instance.objects}


def folder(tmp_path, name="out"):
    (tmp_path / name).mkdir()
    return tmp_path / name


def test_each_image_goes_its_way_and_no_object_speaks_of_another(routed, study, tmp_path):
    both = study("CXR", "CXR_RESEARCH")
    result = routed.process(both, folder(tmp_path))
    ways = {each.instance.called_ae_title: each for each in result.instances}
    assert {called: each.route for called, each in ways.items()} == {"CXR": "default", "CXR_RESEARCH": "research"}
    assert {called: [p.model.name for p in each.analysis.predictions] for called, each in ways.items()} == {
        "CXR": ["offline-anatomy"],
        "CXR_RESEARCH": ["lung-opacity", "offline-anatomy"],
    }
    kinds = {called: {str(o.kind) for o in each.objects} for called, each in ways.items()}
    assert "segmentation" in kinds["CXR"]
    assert "segmentation" not in kinds["CXR_RESEARCH"]
    assert kinds["CXR"] & kinds["CXR_RESEARCH"] >= {"findings_report"}
    for called, other in (("CXR", "CXR_RESEARCH"), ("CXR_RESEARCH", "CXR")):
        uid = ways[other].instance.sop_instance_uid
        assert all(uid not in json.dumps(dcmread(o.path).to_json_dict()) for o in ways[called].objects)


def test_an_image_gets_what_it_would_get_alone_by_the_settings_of_its_route(routed, study, tmp_path):
    both = study("CXR", "CXR_RESEARCH")
    result = routed.process(both, folder(tmp_path))
    alone = Settings.model_validate(
        {
            **SETTINGS,
            "routes": [],
            "models": {"names": ["lung-opacity", "offline-anatomy"], "device": "cpu"},
            "encode": {"objects": ["sr"]},
        }
    ).decided(service=True)
    pipeline = Pipeline(alone)
    expected = pipeline.process(part(both, "CXR_RESEARCH"), folder(tmp_path, "alone"))
    pipeline.close()
    assert made(on_way(result, "CXR_RESEARCH")).keys() == made(expected.instances).keys()


def test_a_study_on_one_route_is_one_result(routed, study, tmp_path):
    result = routed.process(study("CXR", "CXR"), folder(tmp_path))
    reports = [each for each in made(result.instances).values() if each.kind == "findings_report"]
    assert [len(each.source_sop_instance_uids) for each in reports] == [2]
    without = RoutedPipeline(Settings.model_validate({**SETTINGS, "routes": SETTINGS["routes"][:1]}))
    assert result.job_key == without.job_key(study("CXR", "CXR"))  # other routes are none of its business
    without.close()


def test_the_job_key_follows_from_the_routes_of_all_images(routed, study):
    both = study("CXR", "CXR_RESEARCH", "CXR_OTHER")
    keys = [routed.job_key(each) for each in (both, part(both, "CXR"), part(both, "CXR_RESEARCH"))]
    assert len(set(keys)) == 3
    assert routed.job_key(replace(both, instances=both.instances[::-1])) == keys[0]


def test_a_route_without_models_skips_what_is_eligible_with_a_reason(routed, study, tmp_path):
    result = routed.process(study("CXR", StationName="nicu"), folder(tmp_path))
    (found,) = result.instances
    assert (found.outcome, found.reason, found.route) == (Outcome.SKIPPED, Reason.NO_MODELS, "neonates")
    assert not any((tmp_path / "out").iterdir())


def test_a_second_patient_is_seen_across_routes(routed, study, tmp_path):
    both = study("CXR", "CXR_RESEARCH")
    stranger = both.instances[0].path
    dataset = dcmread(stranger)
    dataset.PatientID = "SOMEBODY ELSE"
    dataset.save_as(stranger)
    result = routed.process(both, folder(tmp_path))
    assert [each.reason for each in result.instances] == [Reason.CONTRADICTORY_IDENTITY] * 2


def test_a_file_that_cannot_be_read_goes_by_its_sender(routed, study, tmp_path):
    (only,) = (broken := study("CXR_RESEARCH")).instances
    only.path.write_bytes(b"no DICOM")
    (found,) = routed.process(broken, folder(tmp_path)).instances
    assert (found.reason, found.route) == (Reason.NOT_DICOM, "research")
