"""Emergencies go first, from the name that is called to the archive."""

import pytest

from cxr_dicom.synthetic import radiograph
from tests.service_helpers import archive, derived_uid, listening, send, serving, wait_for, wait_for_state

URGENT = {"called_ae_titles": ["CXRSTAT"], "senders": ["EMERGENCY"], "words": ["stat"]}
WAYS = {
    "by the name that is called": ({"called": "CXRSTAT"}, {}),
    "by sender": ({"calling": "EMERGENCY"}, {}),
    "by a word": ({}, {"StudyDescription": "CHEST STAT"}),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_emergency_overtakes_what_waits(tmp_path, way):
    options, header = WAYS[way]
    images = [radiograph(64, 48, StudyInstanceUID=f"1.2.{n}", SOPInstanceUID=f"1.2.{n}.1.1") for n in range(3)]
    urgent = radiograph(64, 48, StudyInstanceUID="1.2.9", SOPInstanceUID="1.2.9.1.1", **header)
    with listening(tmp_path, assembly={"urgent": URGENT}) as here:
        assert [send(here.port, image) for image in images] == [[0]] * 3
        assert send(here.port, urgent, **options) == [0]
        for study in here.ledger.studies.uids("RECEIVING"):
            here.ledger.studies.complete(study)
    first = [urgent, *images]
    with archive() as (port, received), serving(tmp_path, destinations=[to(port)]) as service:
        wait_for(lambda: len(received) == 4)
        wait_for_state(service, "1.2.2", "SENT")
        done = service.ledger.rows("SELECT study_instance_uid FROM jobs ORDER BY id")
        assert [row["study_instance_uid"] for row in done] == [image.StudyInstanceUID for image in first]
        assert list(received) == [derived_uid(image.SOPInstanceUID) for image in first]
        assert service.ledger.stories.show("1.2.9")["urgent"] == 1


def test_what_is_sent_again_as_an_emergency_overtakes_too(tmp_path):
    waiting, sent_again = radiograph(64, 48, StudyInstanceUID="1.2.1"), radiograph(64, 48, StudyInstanceUID="1.2.2")
    with listening(tmp_path, assembly={"urgent": URGENT}) as here:
        send(here.port, waiting)
        send(here.port, sent_again)
        assert send(here.port, sent_again, called="CXRSTAT") == [0]
        for study in here.ledger.studies.uids("RECEIVING"):
            here.ledger.studies.complete(study)
        claim = here.ledger.studies.claim("worker", max_interruptions=3)
        assert claim.study.study_instance_uid == "1.2.2"


def to(port):
    return {"kind": "dicom", "name": "pacs", "address": "127.0.0.1", "port": port, "ae_title": "ARCHIVE"}
