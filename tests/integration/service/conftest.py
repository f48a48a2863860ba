"""Real peers from Debian: DCMTK's servers and Orthanc, on free ports of 127.0.0.1.

Where one is not installed its tests are skipped, except under CI, where that is a failure.
"""

import json
import subprocess
import urllib.request

import pytest

from tests.integration.rig import listens
from tests.service_helpers import free_port, tool, wait_for


@pytest.fixture
def storescu():
    """Send files with DCMTK's storescu."""
    program = tool("storescu")

    def send(port, *paths, aet="MODALITY", aec="CXRDICOM", flags=()):
        command = [program, *flags, "-aet", aet, "-aec", aec, "127.0.0.1", str(port), *map(str, paths)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return send


class Orthanc:
    """A running Orthanc; ``get`` and ``post`` speak its REST interface."""

    def __init__(self, dicom_port, http_port):
        self.dicom_port, self.http_port = dicom_port, http_port
        self.url = f"http://127.0.0.1:{http_port}"

    def get(self, path):
        return json.load(urllib.request.urlopen(f"{self.url}{path}", timeout=10))

    def post(self, path, content):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        return json.load(urllib.request.urlopen(urllib.request.Request(f"{self.url}{path}", data), timeout=10))

    def upload(self, path):
        return self.post("/instances", path.read_bytes())

    def sop_instance_uids(self):
        return {each["MainDicomTags"]["SOPInstanceUID"] for each in self.get("/instances?expand")}


@pytest.fixture
def orthanc(tmp_path):
    """Start Orthanc with DICOMweb; our AE title is known to it, at the port that is given."""
    program = tool("Orthanc")
    running = []

    def start(listener_port=11112, **more):
        folder = tmp_path / "orthanc"
        folder.mkdir()
        here = Orthanc(free_port(), free_port())
        settings = {
            "Name": "TEST",
            "StorageDirectory": str(folder),
            "IndexDirectory": str(folder),
            "DicomAet": "ORTHANC",
            "DicomPort": here.dicom_port,
            "HttpPort": here.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomModalities": {"CXRDICOM": ["CXRDICOM", "127.0.0.1", listener_port]},
            "DicomCheckModalityHost": False,
            "Plugins": ["/usr/share/orthanc/plugins", "/usr/lib/orthanc/plugins"],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "StableAge": 1,
            **more,
        }
        (tmp_path / "orthanc.json").write_text(json.dumps(settings))
        with (tmp_path / "orthanc.log").open("w") as log:
            process = subprocess.Popen([program, tmp_path / "orthanc.json"], stdout=log, stderr=log, cwd=folder)
        running.append(process)
        wait_for(lambda: _answers(here, process), 30)
        return here

    yield start
    for process in running:
        process.terminate()
        process.wait(20)


def _answers(here, process):
    assert process.poll() is None, "Orthanc ended"
    try:
        return here.get("/system")
    except OSError:
        return None


@pytest.fixture
def dcmqrscp(tmp_path):
    """Start DCMTK's archive for C-STORE, C-FIND, C-GET and C-MOVE to our listener."""
    program = tool("dcmqrscp")
    running = []

    def start(listener_port):
        port, folder = free_port(), tmp_path / "qr"
        folder.mkdir()
        (tmp_path / "dcmqrscp.cfg").write_text(
            f"NetworkTCPPort = {port}\nMaxPDUSize = 16384\nMaxAssociations = 16\n"
            f"HostTable BEGIN\ncxr = (CXRDICOM, 127.0.0.1, {listener_port})\nHostTable END\n"
            "VendorTable BEGIN\nVendorTable END\n"
            f"AETable BEGIN\nQR {folder} RW (100, 1024mb) ANY\nAETable END\n"
        )
        with (tmp_path / "qr.log").open("w") as log:
            process = subprocess.Popen([program, "-c", tmp_path / "dcmqrscp.cfg"], stdout=log, stderr=log)
        running.append(process)
        wait_for(lambda: listens(port) or process.poll() is not None)
        assert process.poll() is None, (tmp_path / "qr.log").read_text()
        return port

    yield start
    for process in running:
        process.terminate()
        process.wait(10)
