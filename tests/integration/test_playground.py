"""`scripts/playground` brings up what it prints, and leaves nothing behind."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import rig

PLAYGROUND = Path(__file__).with_name("playground.py")


@pytest.fixture
def playground(needs):
    for get in (rig.orthanc_program, rig.node):
        needs(get)
    needs(rig.ohif_build, rig.OHIF_VERSIONS[-1])
    with subprocess.Popen([sys.executable, str(PLAYGROUND)], stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def test_the_printed_study_is_there_until_the_playground_ends(playground):
    viewer, study = _printed(playground)
    with urllib.request.urlopen(f"{viewer}/dicom-web/studies/{study}/series") as answer:
        modalities = sorted(series["00080060"]["Value"][0] for series in json.load(answer))
    assert modalities == ["CR", "OT", "OT", "OT", "SEG", "SR", "SR"]
    with urllib.request.urlopen(f"{viewer}/viewer?StudyInstanceUIDs={study}") as answer:
        assert "OHIF" in answer.read().decode()
    playground.send_signal(signal.SIGINT)
    assert playground.wait(30) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(viewer)


def _printed(process):
    for line in process.stdout:
        if found := re.fullmatch(r"Open +(http://\S+)/viewer\?StudyInstanceUIDs=(\S+)\n", line):
            return found.groups()
    pytest.fail("no link was printed")
    return None
