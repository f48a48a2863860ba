"""`scripts/playground` brings up what it prints, and leaves nothing behind."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from functools import partial

import pytest

from cxr_dicom.records import StudyState
from tests.integration import rig


@pytest.fixture
def playground(needs):
    for get in (rig.orthanc_program, rig.node, rig.storescu):
        needs(get)
    needs(rig.ohif_build, rig.OHIF_VERSIONS[-1])
    heeds_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in background
    command = [sys.executable, "-m", "tests.integration.playground"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heeds_ctrl_c) as process:
        yield process
        process.terminate()


def test_the_printed_study_is_there_until_the_playground_ends(playground):
    states, viewer, study = _printed(playground)
    assert states[-1] == "SENT"
    with urllib.request.urlopen(f"{viewer}/dicom-web/studies/{study}/series") as answer:
        modalities = sorted(series["00080060"]["Value"][0] for series in json.load(answer))
    assert modalities == ["CR", "OT", "OT", "OT", "SEG", "SR", "SR", "SR"]
    with urllib.request.urlopen(f"{viewer}/viewer?StudyInstanceUIDs={study}") as answer:
        assert "OHIF" in answer.read().decode()
    playground.send_signal(signal.SIGINT)
    assert playground.wait(30) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(viewer)


def _printed(process):
    """The states that the study went through, the viewer's address, and the study."""
    states = []
    for line in process.stdout:
        if line.strip() in set(StudyState):
            states.append(line.strip())
        if found := re.fullmatch(r"Open +(http://\S+)/viewer\?StudyInstanceUIDs=(\S+)\n", line):
            return states, *found.groups()
    pytest.fail("no link was printed")
    return None
