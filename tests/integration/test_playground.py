"""`scripts/playground` brings up what it prints, and leaves nothing behind."""

import json
import re
import signal
import subprocess
import sys
import urllib.request
from functools import partial
from http.cookiejar import CookieJar

import pytest

from cxr_dicom.records import StudyState
from cxr_dicom.web.ohif.install import VERSION
from tests.integration import rig
from tests.integration.test_view_in_ohif import installed


@pytest.fixture
def playground(needs, tmp_path, monkeypatch):
    needs(rig.storescu)
    monkeypatch.setenv("CXR_DICOM_MODELS__FOLDER", str(tmp_path / "weights"))  # OHIF lies beside it
    installed(needs(rig.ohif_build, VERSION), tmp_path / f"ohif-{VERSION}")
    heeds_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in background
    command = [sys.executable, "-m", "tests.integration.playground"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=heeds_ctrl_c) as process:
        yield process
        process.terminate()


def test_the_printed_study_is_there_until_the_playground_ends(playground):
    states, pages, study, token = _printed(playground)
    assert states[-1] == "ENCODED"
    visitor = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    visitor.addheaders = [("Origin", pages)]
    visitor.open(f"{pages}/enter", data=f"token={token}".encode()).close()
    with visitor.open(f"{pages}/dicom-web/studies/{study}/series") as answer:
        modalities = sorted(series["00080060"]["Value"][0] for series in json.load(answer))
    assert modalities == ["CR", "OT", "OT", "OT", "SEG", "SR", "SR", "SR"]
    with visitor.open(f"{pages}/studies/{study}") as answer:
        (link, *_) = re.findall(r'href="(/ohif/viewer\?[^"]+)"', answer.read().decode())
    with visitor.open(pages + link.replace("&amp;", "&")) as answer:
        assert "OHIF" in answer.read().decode()
    playground.send_signal(signal.SIGINT)
    assert playground.wait(30) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(pages)


def _printed(process):
    """The states that the study went through, the address of the pages, the study, and what lets in."""
    states, study = [], ""
    for line in process.stdout:
        if line.split()[:1] and line.split()[0] in set(StudyState):  # with its reason behind it
            states.append(line.split()[0])
        if found := re.fullmatch(r"Open +(http://\S+)/studies/(\S+)\n", line):
            study = found[2]
        if found := re.fullmatch(r"Pages +(http://\S+)/enter#(\S+)\n", line):
            return states, found[1], study, found[2]
    pytest.fail("no link was printed")
    return None
