"""`run --to` an archive, from worker processes: it gets every study once, in classes that it knows."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from cxr_dicom import synthetic
from cxr_dicom.encode.segments import LABEL_MAP_STORAGE
from tests import ROOT
from tests.integration import rig
from tests.service_helpers import free_port

STUDIES = 5
PLACES = (Path(__file__).with_name("short_pauses"), ROOT, os.environ.get("PYTHONPATH", ""))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    for number in range(STUDIES):
        image = synthetic.radiograph(97, 81, study=f"to {number}", seed=number)
        synthetic.write_study(folder / str(number), [image])
    return folder


@pytest.fixture
def cohort(manifest, tmp_path):
    """Start the command, with the objects going to `port`; return it when it has ended."""

    def run(port, ae_title="ARCHIVE"):
        config = tmp_path / "cxr-dicom.toml"
        config.write_text(
            '[models]\nnames = ["offline-anatomy"]\ndevice = "cpu"\n[encode]\nobjects = ["seg", "sr"]\n'
            '[[destinations]]\nname = "pacs"\nkind = "dicom"\naddress = "127.0.0.1"\n'
            f'port = {port}\nae_title = "{ae_title}"\ntimeout_seconds = 5\n'
        )
        command = ["run", manifest, "-o", tmp_path / "out", "--config", config, "--to", "pacs"]
        program = [sys.executable, "-m", "cxr_dicom", *map(str, command), "--workers", "2"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, map(str, PLACES)))}
        return subprocess.run(program, env=environment, capture_output=True, text=True, timeout=300, check=False)

    return run


def objects(out):
    rows = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    return [each for row in rows for each in row["objects"]]


def instances(archive):
    with urllib.request.urlopen(f"{archive.url}/instances?expand") as answer:
        return [each["MainDicomTags"]["SOPInstanceUID"] for each in json.load(answer)]


def test_a_run_to_an_archive_that_is_down_stops_and_the_same_command_goes_on(cohort, needs, tmp_path):
    needs(rig.orthanc_program)
    port = free_port()
    stopped = cohort(port)
    assert stopped.returncode == 5, stopped.stderr
    assert "DESTINATION_UNREACHABLE: destination 'pacs'" in stopped.stderr
    (tmp_path / "orthanc").mkdir()
    with rig.orthanc(tmp_path / "orthanc", dicom_port=port) as archive:
        finished = cohort(port)
        taken = instances(archive)
    assert finished.returncode == 0, finished.stderr
    made = objects(tmp_path / "out")
    assert sorted(taken) == sorted({each.get("sent_as", each["sop_instance_uid"]) for each in made})
    label_maps = [each for each in made if each["sop_class_uid"] == LABEL_MAP_STORAGE]
    assert label_maps  # Debian's Orthanc is older than this class
    assert all("sent_as" in each for each in label_maps)
