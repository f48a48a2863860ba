"""A sender and a receiver that share no code with us or with DCMTK: dcmjs-dimse, in JavaScript."""

import json
import subprocess
from pathlib import Path

import pytest
from pydicom import dcmread

from cxr_dicom.synthetic import radiograph
from tests.integration import rig
from tests.service_helpers import derived_uid, free_port, serving, wait_for, wait_for_state

SCRIPT = Path(__file__).parent / "dcmjs.cjs"


@pytest.fixture
def dcmjs(needs):
    return [needs(rig.node), SCRIPT, needs(rig.dcmjs_dimse)]


def test_what_dcmjs_sends_is_processed_and_what_we_send_it_takes(tmp_path, dcmjs):
    image, port = radiograph(64, 48), free_port()
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    pacs = {"kind": "dicom", "name": "pacs", "address": "127.0.0.1", "port": port, "ae_title": "DCMJS"}
    (tmp_path / "there").mkdir()
    with (
        rig.process([*map(str, dcmjs), "receive", str(tmp_path / "there"), str(port)], tmp_path / "log"),
        serving(tmp_path / "spool", destinations=[pacs]) as service,
    ):
        listener = str(service.settings.listener.port)
        sent = subprocess.run([*dcmjs, "send", listener, tmp_path / "image.dcm"], capture_output=True, text=True)
        told = [json.loads(line) for line in sent.stdout.splitlines() if line.startswith("{")]
        assert told == [{"status": 0}, {"released": True}], sent
        wait_for_state(service, image.StudyInstanceUID, "SENT", seconds=60)
        (source,) = (tmp_path / "spool" / "sources").glob("*/*.dcm")
        received = dcmread(source)
        assert received.PixelData == image.PixelData
        assert received.PatientName == image.PatientName
        made = derived_uid(image.SOPInstanceUID)
        wait_for((tmp_path / "there" / f"{made}.dcm").exists)
        (ours,) = (tmp_path / "spool" / "objects").glob("*/*.dcm")
        assert dcmread(tmp_path / "there" / f"{made}.dcm").PixelData == dcmread(ours).PixelData
        audit = (tmp_path / "spool" / "audit.jsonl").read_text()
    assert "association_broken" not in audit
