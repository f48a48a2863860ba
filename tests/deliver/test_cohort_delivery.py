"""A cohort straight to an archive: what it does not take is replaced or said, what it has is not sent again."""

import json
from collections import Counter

import pytest
from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage, SegmentationStorage
from service_helpers import archive
from test_twins import BOTH_CLASSES, storescp

from cxr_dicom import cohort, testing
from cxr_dicom.cohort_task import Options
from cxr_dicom.config import Settings
from cxr_dicom.encode._segments import LABEL_MAP_STORAGE
from cxr_dicom.encode._twin import binary_twin
from cxr_dicom.engine._here import Here
from cxr_dicom.files import read_whole
from cxr_dicom.ingest import manifest


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    for number in range(2):
        testing.write_study(folder / str(number), [testing.radiograph(97, 81, study=str(number), seed=number)])
    return folder


@pytest.fixture
def run(inputs, tmp_path):
    """Run the cohort to `port`; what is encoded can be chosen."""

    def run(port, destination="pacs", **encode):
        pacs = {"name": "pacs", "kind": "dicom", "address": "127.0.0.1", "port": port, "ae_title": "ARCHIVE"}
        copies = {"name": "copies", "kind": "folder", "path": str(tmp_path / "copies")}
        settings = Settings.model_validate(
            {
                "models": {"names": ["offline-anatomy"], "device": "cpu"},
                "encode": {"objects": ["seg", "secondary-capture"]} | encode,
                "destinations": [pacs | {"timeout_seconds": 5}, copies],
            }
        )
        options = Options(destination=destination, retry_failed=False)
        return cohort.run(manifest.read(str(inputs)), tmp_path / "out", settings, Here(), options=options)

    return run


def objects(tmp_path):
    lines = (tmp_path / "out" / "results.jsonl").read_text().splitlines()
    return [each for line in lines for each in json.loads(line)["objects"]]


def of_class(tmp_path, sop_class):
    return [each for each in objects(tmp_path) if each["sop_class_uid"] == sop_class]


def test_storescp_gets_the_twins_of_label_maps_once(run, tmp_path):
    with storescp(tmp_path / "taken") as port:
        assert run(port).images == {"processed": 2}
        taken = {each.SOPInstanceUID: each for each in map(dcmread, (tmp_path / "taken").iterdir())}
        label_maps = of_class(tmp_path, LABEL_MAP_STORAGE)
        assert len(label_maps) >= 2
        assert set(taken) == {each.get("sent_as", each["sop_instance_uid"]) for each in objects(tmp_path)}
        for each in label_maps:
            twin = binary_twin(read_whole(tmp_path / "out" / each["path"]))
            received = taken[each["sent_as"]]
            assert (received.SOPClassUID, received.SOPInstanceUID) == (SegmentationStorage, twin.SOPInstanceUID)
            assert received.PixelData == twin.PixelData.getvalue()
        for path in (tmp_path / "taken").iterdir():
            path.unlink()
        said = objects(tmp_path)
        assert run(port).computed == 0
        assert not list((tmp_path / "taken").iterdir())
        assert objects(tmp_path) == said
    assert not list((tmp_path / "out" / ".cxr-dicom").glob("twins-*"))


def test_rows_speak_of_the_destination_of_the_run(run, tmp_path):
    with archive(contexts=(SegmentationStorage, SecondaryCaptureImageStorage)) as (port, received):
        run(port)
        said = objects(tmp_path)
        run(port, destination="copies")
        assert not any("sent_as" in each for each in objects(tmp_path))
        assert run(port).computed == 0
        assert objects(tmp_path) == said
    assert {len(copies) for copies in received.values()} == {1}
    copied = {dcmread(path).SOPInstanceUID for path in (tmp_path / "copies").rglob("*.dcm")}
    assert copied == {each["sop_instance_uid"] for each in said}


def test_a_status_says_that_the_class_is_not_supported(run, tmp_path):
    with archive(contexts=BOTH_CLASSES, status=lambda number: 0x0122 if number == 0 else 0) as (port, received):
        assert run(port, objects=["seg"]).images == {"processed": 2}
    twins = [each["sent_as"] for each in objects(tmp_path) if "sent_as" in each]
    assert len(twins) == 1
    assert set(received) == {each.get("sent_as", each["sop_instance_uid"]) for each in objects(tmp_path)}


def test_where_binary_goes_anyway_it_counts(run, tmp_path):
    with archive(contexts=(SegmentationStorage,)) as (port, received):
        assert run(port, objects=["seg"], segmentation="both").images == {"processed": 2}
    binary = {each["sop_instance_uid"] for each in of_class(tmp_path, SegmentationStorage)}
    assert {each["sent_as"] for each in of_class(tmp_path, LABEL_MAP_STORAGE)} == binary == set(received)
    assert {len(copies) for copies in received.values()} == {1}


def test_an_archive_without_segmentations_gets_the_rest_and_the_studies_fail(run, tmp_path):
    with archive() as (port, received):
        assert run(port).reasons == {("failed", "DELIVERY_FAILED"): 2}
    others = [each["sop_instance_uid"] for each in objects(tmp_path) if each["sop_class_uid"] != LABEL_MAP_STORAGE]
    assert Counter(received.keys()) == Counter(others)
    assert not any("sent_as" in each for each in objects(tmp_path))
