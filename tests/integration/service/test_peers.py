"""From a real modality to a real archive and back, with DCMTK and Orthanc."""

import pytest

from cxr_dicom.service.service import poll_once
from cxr_dicom.service.worker import build_pipeline
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.synthetic import radiograph, write_study
from tests.service_helpers import (
    FastPipeline,
    derived_uid,
    free_port,
    serving,
    settings,
    state_of,
    wait_for,
    wait_for_state,
)


def dicom(port, title, **more):
    return {"kind": "dicom", "name": "pacs", "address": "127.0.0.1", "port": port, "ae_title": title, **more}


@pytest.fixture
def image():
    return radiograph(64, 48)


def test_storescu_to_orthanc_by_c_store_committed_and_by_stow(tmp_path, image, storescu, orthanc):
    port = free_port()
    pacs = orthanc(port)
    destinations = [
        dicom(pacs.dicom_port, "ORTHANC", verify="commitment"),
        {"kind": "dicomweb", "name": "web", "url": f"{pacs.url}/dicom-web", "verify": "query"},
    ]
    (path,) = write_study(tmp_path / "in", [image])
    with serving(tmp_path / "spool", listener={"port": port}, destinations=destinations) as service:
        sent = storescu(port, path)
        assert sent.returncode == 0, sent.stderr
        wait_for_state(service, image.StudyInstanceUID, "COMMITTED", seconds=40)
        assert pacs.sop_instance_uids() == {derived_uid(image.SOPInstanceUID)}
    ledger = Ledger(tmp_path / "spool")  # the couriers are at their end
    (made,) = ledger.stories.show(image.StudyInstanceUID)["objects"]
    ledger.close()
    told = {(each["state"], each["status"], each["attempts"]) for each in made["deliveries"]}
    assert told == {("committed", "COMMITTED", 0), ("committed", "FOUND", 0)}


def test_what_orthanc_loses_is_sent_again(tmp_path, image, storescu, orthanc):
    port = free_port()
    script = tmp_path / "lose.lua"
    script.write_text(
        "function OnStoredInstance(id)\n  if not lost then\n    lost = true\n"
        "    RestApiDelete('/instances/' .. id)\n  end\nend\n"
    )
    pacs = orthanc(port, LuaScripts=[str(script)])
    destination = dicom(pacs.dicom_port, "ORTHANC", verify="commitment")
    (path,) = write_study(tmp_path / "in", [image])
    with serving(tmp_path / "spool", listener={"port": port}, destinations=[destination]) as service:
        assert storescu(port, path).returncode == 0
        wait_for_state(service, image.StudyInstanceUID, "COMMITTED", seconds=40)
        assert pacs.sop_instance_uids() == {derived_uid(image.SOPInstanceUID)}
    assert "object_refused" in (tmp_path / "spool" / "audit.jsonl").read_text()


def test_storescu_is_refused_with_the_right_words(tmp_path, image, storescu):
    (path,) = write_study(tmp_path / "in", [image])
    with serving(tmp_path / "spool", listener={"calling_ae_titles": ["MODALITY"]}) as service:
        port = service.settings.listener.port
        assert "Called AE Title Not Recognized" in storescu(port, path, aec="OTHER").stderr
        assert "Calling AE Title Not Recognized" in storescu(port, path, aet="STRANGER").stderr
        assert storescu(port, path).returncode == 0


def test_polled_from_orthanc_by_dicomweb_and_back(tmp_path, image, orthanc):
    pacs = orthanc()
    later = radiograph(64, 48, seed=1)
    pacs.upload(write_study(tmp_path / "in", [image])[0])
    archive = {"kind": "dicomweb", "name": "web", "url": f"{pacs.url}/dicom-web"}
    tables = {
        "poller": {"archives": [archive], "start_days": 20000},
        "destinations": [{"kind": "dicomweb", "name": "back", "url": f"{pacs.url}/dicom-web", "verify": "query"}],
    }
    made = settings(tmp_path / "spool", **tables)
    first = poll_once(made, build=FastPipeline)
    assert [(r.studies, r.instances, r.error) for r in first] == [(1, 1, "")]
    again = poll_once(made, build=FastPipeline)
    assert [(r.studies, r.instances, r.error) for r in again] == [(0, 0, "")]
    pacs.upload(write_study(tmp_path / "later", [later])[0])  # the study grows
    third = poll_once(made, build=FastPipeline)
    assert [(r.studies, r.instances, r.error) for r in third] == [(1, 1, "")]
    sources = {image.SOPInstanceUID, later.SOPInstanceUID}
    assert pacs.sop_instance_uids() == sources | {derived_uid(uid) for uid in sources}


@pytest.mark.parametrize("retrieve", ["get", "move"])
def test_polled_from_dcmqrscp_by_c_find_and_back(tmp_path, image, storescu, dcmqrscp, retrieve):
    port = free_port()
    archive_port = dcmqrscp(port)
    assert storescu(archive_port, *write_study(tmp_path / "in", [image]), aec="QR").returncode == 0
    archive = dicom(archive_port, "QR") | {"kind": "query-retrieve", "name": "qr", "retrieve": retrieve}
    made = settings(
        tmp_path / "spool",
        listener={"port": port},
        poller={"archives": [archive], "start_days": 20000},
        destinations=[dicom(archive_port, "QR", verify="query")],
    )
    rounds = poll_once(made, [image.StudyInstanceUID], build=FastPipeline)
    assert [(r.studies, r.instances, r.error) for r in rounds] == [(1, 1, "")]
    with serving(tmp_path / "spool", listener={"port": port}, destinations=[dicom(archive_port, "QR")]) as service:
        wait_for(lambda: state_of(service, image.StudyInstanceUID) in ("SENT", "COMMITTED"))


def test_a_list_of_accession_numbers(tmp_path, image, orthanc):
    pacs = orthanc()
    image.AccessionNumber = "A7"
    pacs.upload(write_study(tmp_path / "in", [image])[0])
    archive = {"kind": "dicomweb", "name": "web", "url": f"{pacs.url}/dicom-web"}
    made = settings(tmp_path / "spool", poller={"archives": [archive]})
    assert poll_once(made, [], ["A8"], build=FastPipeline)[0].instances == 0
    assert poll_once(made, [], ["A7"], build=FastPipeline)[0].instances == 1


def test_a_real_radiograph_through_the_real_pipeline(tmp_path, real, storescu, orthanc):
    port = free_port()
    pacs = orthanc(port)
    destinations = [
        dicom(pacs.dicom_port, "ORTHANC", verify="commitment"),
        {"kind": "dicomweb", "name": "web", "url": f"{pacs.url}/dicom-web", "verify": "query"},
    ]
    with serving(
        tmp_path / "spool", build=build_pipeline, listener={"port": port}, destinations=destinations
    ) as service:
        assert storescu(port, real("RG1_UNCR.dcm")).returncode == 0
        (study,) = wait_for(lambda: [row["study_instance_uid"] for row in service.ledger.stories.summaries()])
        wait_for_state(service, study, "COMMITTED", "DEAD", seconds=90)
        story = service.ledger.stories.show(study)
    assert story["state"] == "COMMITTED", story["reason"]
    kinds = {each["kind"] for each in story["objects"]}
    assert kinds >= {"segmentation", "measurement_report", "findings_report"}
    assert pacs.sop_instance_uids() == {each["sop_instance_uid"] for each in story["objects"]}
    replaced = {(r["sop_instance_uid"], r["destination"]) for r in deliveries(story) if r["state"] == "replaced"}
    binary_fallback = [each for each in story["objects"] if each["twin_of"]]
    assert binary_fallback  # Debian's Orthanc is older than Label Map Segmentation, and takes it by STOW-RS only
    assert replaced == {(twin["twin_of"], "pacs") for twin in binary_fallback}
    assert all([row["destination"] for row in twin["deliveries"]] == ["pacs"] for twin in binary_fallback)
    assert [job["outcome"] for job in story["jobs"]] == ["processed"]


def deliveries(story):
    return [row for each in story["objects"] for row in each["deliveries"]]
