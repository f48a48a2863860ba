"""Nobody waits where it is proved that all images came, and no image is lost that comes after the proof."""

import subprocess

from cxr_dicom.synthetic import radiograph
from tests.service_helpers import associated, derived_uid, send, serving, state_of, tool, wait_for, wait_for_state

STUDY = "1.2.3"
LONG = {"quiet_seconds": 600}


def image(number, **more):
    return radiograph(64, 48, StudyInstanceUID=STUDY, SOPInstanceUID=f"1.2.3.1.{number}", **more)


def objects(service):
    story = service.ledger.stories.show(STUDY)
    return {each["sop_instance_uid"] for each in story["objects"]}


def test_the_count_in_the_headers_ends_the_waiting_and_a_late_image_makes_its_own_round(tmp_path):
    both, late = [image(n, NumberOfStudyRelatedInstances=2) for n in (1, 2)], image(3)
    with serving(tmp_path, assembly=LONG) as service:
        port = service.settings.listener.port
        assert send(port, both[0]) == [0]
        assert state_of(service, STUDY) == "RECEIVING"
        with associated(port, (late.SOPClassUID, late.file_meta.TransferSyntaxUID)) as association:
            assert association.send_c_store(both[1]).Status == 0
            wait_for_state(service, STUDY, "ENCODED")  # although this association is open
            assert association.send_c_store(late).Status == 0
            wait_for_state(service, STUDY, "RECEIVING")
        assert objects(service) == {derived_uid(each.SOPInstanceUID) for each in both}
        service.ledger.studies.complete(STUDY)  # as the end of the quiet does
        service._bells.study.ring()
        wait_for(lambda: len(objects(service)) == 3)


def test_the_release_of_a_sender_of_whole_studies_ends_the_waiting_and_an_abort_does_not(tmp_path):
    settings = LONG | {"whole_studies_from": ["PACS"]}
    with serving(tmp_path, assembly=settings) as service:
        port, first = service.settings.listener.port, image(1)
        contexts = (first.SOPClassUID, first.file_meta.TransferSyntaxUID)
        with associated(port, contexts, calling="PACS") as association:
            assert association.send_c_store(first).Status == 0
            association.abort()
        wait_for(lambda: service._listener.connections == 0)
        assert send(port, image(2), calling="MODALITY") == [0]
        wait_for(lambda: service._listener.connections == 0)
        assert state_of(service, STUDY) == "RECEIVING"
        assert send(port, image(3), calling="PACS") == [0]
        wait_for(lambda: len(objects(service)) == 3)


def test_dcmtk_as_a_sender_of_whole_studies(tmp_path):
    settings = LONG | {"whole_studies_from": ["PACS"]}
    paths = [tmp_path / f"{number}.dcm" for number in (1, 2)]
    for number, path in enumerate(paths):
        image(number + 1).save_as(path, enforce_file_format=True)
    with serving(tmp_path / "spool", assembly=settings) as service:
        port = str(service.settings.listener.port)
        subprocess.run(
            [tool("storescu"), "-aet", "PACS", "-aec", "CXRDICOM", "127.0.0.1", port, *paths], check=True, timeout=30
        )
        wait_for(lambda: len(objects(service)) == 2)
        assert len(service.ledger.stories.show(STUDY)["jobs"]) == 1
