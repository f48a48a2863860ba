"""Orthanc's DICOMweb client sends studies to the service, finds them and gets them back."""

import json
import urllib.request

import pytest

from tests.integration import rig
from tests.web.test_store import TOKEN, file_of, image, sources, storing

STUDY = "1.2.826.0.7"


@pytest.fixture
def orthanc(needs, tmp_path):
    needs(rig.orthanc_program)
    with rig.orthanc(tmp_path) as archive, storing(tmp_path / "x", max_upload_mb=64) as client:
        for number in (1, 2):
            (tmp_path / f"{number}.dcm").write_bytes(file_of(image(number)))
            archive.store(tmp_path / f"{number}.dcm")
        headers = {"Authorization": f"Bearer {TOKEN}"}
        ours = {"Url": f"http://127.0.0.1:{client.port}/dicom-web/", "HttpHeaders": headers}
        ask(f"{archive.url}/dicom-web/servers/ours", ours, "PUT")
        yield archive, client


def ask(url, body=None, method=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data=data, method=method)) as answer:
        return json.load(answer)


def test_what_orthanc_stores_it_finds_and_gets_back(orthanc):
    archive, client = orthanc
    studies = ask(f"{archive.url}/studies")
    server = f"{archive.url}/dicom-web/servers/ours"
    assert ask(f"{server}/stow", {"Resources": studies, "Synchronous": True})["InstancesCount"] == "2"
    assert {path.name.rpartition(".")[0].rpartition(".")[0] for path in sources(client)} == {
        f"{STUDY}.1.{number}" for number in (1, 2)
    }
    (found,) = ask(f"{server}/qido", {"Uri": "/studies"})
    assert found["0020000D"]["Value"] == STUDY
    ask(f"{archive.url}/studies/{studies[0]}", method="DELETE")
    assert ask(f"{archive.url}/instances") == []
    got = ask(f"{server}/retrieve", {"Resources": [{"Study": STUDY}], "Synchronous": True})
    assert got["ReceivedInstancesCount"] == "2"
    assert len(ask(f"{archive.url}/instances")) == 2
