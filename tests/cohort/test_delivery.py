"""A cohort straight to an archive: what it does not take is replaced or said, what it has is not sent again."""

import json
from collections import Counter

import pytest
from pydicom import dcmread
from pydicom.uid import SecondaryCaptureImageStorage, SegmentationStorage

from cxr_dicom import synthetic
from cxr_dicom.cohort import run as cohort_run
from cxr_dicom.cohort.delivery import DestinationDownError, OutageGuard
from cxr_dicom.cohort.engines.here import Here
from cxr_dicom.cohort.options import Options
from cxr_dicom.cohort.states import begun, crash_count
from cxr_dicom.config import Settings
from cxr_dicom.dicom.files import read_whole
from cxr_dicom.encode.binary_fallback import binary_fallback_of
from cxr_dicom.encode.segments import LABEL_MAP_STORAGE
from cxr_dicom.ingest import manifest
from tests.deliver.test_binary_fallback import BOTH_CLASSES
from tests.kept import all_kept
from tests.service_helpers import archive, free_port, storescp

SEGMENTATIONS_AND_CAPTURES = (SegmentationStorage, SecondaryCaptureImageStorage)


def studies(folder, count):
    for number in range(count):
        synthetic.write_study(folder / str(number), [synthetic.radiograph(97, 81, study=str(number), seed=number)])
    return folder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return studies(tmp_path_factory.mktemp("inputs"), 2)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    return studies(tmp_path_factory.mktemp("many"), 6)


@pytest.fixture
def run(inputs, tmp_path):
    """Run the cohort to `port`; what is encoded can be chosen."""

    def run(port, destination="pacs", inputs=inputs, **encode):
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
        return cohort_run.run(manifest.read(str(inputs)), tmp_path / "out", settings, Here(), options=options)

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
            twin = binary_fallback_of(read_whole(tmp_path / "out" / each["path"]))
            received = taken[each["sent_as"]]
            assert (received.SOPClassUID, received.SOPInstanceUID) == (SegmentationStorage, twin.SOPInstanceUID)
            assert received.PixelData == twin.PixelData
        for path in (tmp_path / "taken").iterdir():
            path.unlink()
        said = objects(tmp_path)
        assert run(port).computed == 0
        assert not list((tmp_path / "taken").iterdir())
        assert objects(tmp_path) == said
    assert not list((tmp_path / "out" / ".cxr-dicom").glob("twins-*"))


def test_rows_speak_of_the_destination_of_the_run(run, tmp_path):
    with archive(contexts=SEGMENTATIONS_AND_CAPTURES) as (port, received):
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
    binary_fallback = [each["sent_as"] for each in objects(tmp_path) if "sent_as" in each]
    assert len(binary_fallback) == 1
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


# --- an archive that is down ---------------------------------------------------------------------


@pytest.fixture
def no_pauses(monkeypatch):
    monkeypatch.setattr("cxr_dicom.system.retry.FIRST_PAUSE", 0.001)


def uids(tmp_path):
    return {each.get("sent_as", each["sop_instance_uid"]) for each in objects(tmp_path)}


@pytest.mark.usefixtures("no_pauses")
def test_a_run_whose_archive_is_down_stops_and_the_same_command_goes_on(run, many, tmp_path):
    port = free_port()
    with pytest.raises(DestinationDownError, match=r"^DESTINATION_UNREACHABLE: destination 'pacs' .*UNREACHABLE: "):
        run(port, inputs=many)
    assert len(all_kept(tmp_path / "out")) == 3
    assert not [key for key in begun(tmp_path / "out") if crash_count(tmp_path / "out", key)], "nobody died"
    (session,) = json.loads((tmp_path / "out" / "run.json").read_text())["sessions"]
    assert session["stopped_by"] == "DESTINATION_UNREACHABLE"
    with storescp(tmp_path / "taken", port):
        tally = run(port, inputs=many)
    assert (tally.images, tally.reused) == ({"processed": 6}, 0)
    assert {dcmread(path).SOPInstanceUID for path in (tmp_path / "taken").iterdir()} == uids(tmp_path)


@pytest.mark.usefixtures("no_pauses")
def test_an_archive_that_goes_down_on_the_way_keeps_what_it_took(run, many, tmp_path):
    with archive(contexts=SEGMENTATIONS_AND_CAPTURES) as (port, received):
        run(port)  # two of the six
    with pytest.raises(DestinationDownError):
        run(port, inputs=many)
    with archive(port=port, contexts=SEGMENTATIONS_AND_CAPTURES) as (_, later):
        assert run(port, inputs=many).reused == 2
    assert not set(received) & set(later)
    assert set(received) | set(later) == uids(tmp_path)


@pytest.mark.usefixtures("no_pauses")
def test_fewer_studies_than_it_takes_to_stop_wait_for_the_next_run(run, tmp_path):
    port = free_port()
    assert run(port).reasons == {("failed", "DESTINATION_UNREACHABLE"): 2}
    assert objects(tmp_path)
    with archive(port=port, contexts=SEGMENTATIONS_AND_CAPTURES) as (_, received):
        assert run(port).images == {"processed": 2}
        assert run(port).computed == 0
    assert set(received) == uids(tmp_path)


@pytest.mark.usefixtures("no_pauses")
def test_what_waits_for_one_destination_does_not_fail_a_run_to_another(run, tmp_path):
    run(free_port())
    assert run(1, destination="copies").images == {"processed": 2}
    copied = {dcmread(path).SOPInstanceUID for path in (tmp_path / "copies").rglob("*.dcm")}
    assert copied == uids(tmp_path)


@pytest.mark.usefixtures("no_pauses")
def test_refusals_in_a_row_do_not_stop_a_run(run, many):
    with archive(status=0xA900, contexts=(*BOTH_CLASSES, SecondaryCaptureImageStorage)) as (port, _):
        assert run(port, inputs=many).reasons == {("failed", "DELIVERY_FAILED"): 6}


def test_only_studies_without_an_answer_between_them_count():
    outage_guard = OutageGuard("pacs")
    for problem, has_answered in [("no", False), ("no", False), ("", True), ("no", False), ("", False), ("no", False)]:
        outage_guard.note(problem, has_answered=has_answered)
    with pytest.raises(DestinationDownError, match="3 studies in a row: no"):
        outage_guard.note("no", has_answered=False)
