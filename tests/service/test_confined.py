"""A worker of the service that runs a network of the user's, and what it can no longer do."""

import socket
import tempfile
from pathlib import Path

import pytest

from cxr_dicom.cohort.options import Options
from cxr_dicom.cohort.task import EntryTask
from cxr_dicom.config import Settings
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.infer.own import confined
from cxr_dicom.service.process import WorkerProcess
from cxr_dicom.system import confinement
from tests.infer.own.networks import scores, table


def settings(folder, **models):
    own = table(folder / "weights" / "mine.onnx", scores("mass"))
    return Settings.model_validate({"spool": {"folder": folder / "spool"}, "models": {"own": [own], **models}})


def tries(settings):
    """Stand for a network that got round every check of its file, and say what it could do."""
    said = []
    for name, attempt in {
        "spool": lambda: (settings.spool.folder / "ran").touch(),
        "elsewhere": lambda: (settings.spool.folder.parent / "ran").touch(),
        "network": lambda: socket.socket().bind(("127.0.0.1", 0)),
    }.items():
        try:
            attempt()
            said.append(name)
        except PermissionError:
            continue
    raise CxrDicomError(f"could: {', '.join(said)}")


@pytest.mark.skipif(confinement.version() < 4, reason="needs Landlock of Linux 6.7")
def test_it_writes_to_its_spool_only_and_has_no_network(tmp_path, monkeypatch):
    (tmp_path / "spool").mkdir()
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    worker = WorkerProcess(settings(tmp_path, names=["mine"]), tries, only_loads=True)
    with pytest.raises(CxrDicomError, match=r"^could: spool$"):
        worker.wait_until_ready()
    worker.stop(5)
    assert not (tmp_path / "ran").exists()


def test_it_is_confined_only_where_it_can_be_and_check_says_so(tmp_path, monkeypatch):
    without = Settings.model_validate({"spool": {"folder": tmp_path / "spool"}, "models": {"names": ["lung-opacity"]}})
    assert confined.writable(without, [tmp_path]) is None
    assert confined.words(without) is None
    assert confined.writable(settings(tmp_path, names=["lung-opacity"]), []), "a person may ask for it"
    run = settings(tmp_path, names=["mine"])
    assert confined.words(run) == f"a worker that runs them {confinement.words()}"
    on_route = {"routes": ({"name": "theirs", "senders": ["LAB"], "models": ["mine"]},)}
    routed = Settings.model_validate({**settings(tmp_path, names=["lung-opacity"]).model_dump(), **on_route})
    assert confined.words(routed) == confined.words(run), "as where a route names it"
    folders = confined.writable(run, [tmp_path / "spool"])
    assert tmp_path / "spool" in folders
    assert tmp_path / "weights" in folders, "its digest is yet to be recorded there"
    pinned = settings(tmp_path, names=["mine"], sha256={"mine": "0" * 64})
    assert tmp_path / "weights" not in confined.writable(pinned, [])
    monkeypatch.setattr(confined, "strangers", lambda *_: (("models", "theirs", "their-package", "1"),))
    assert confined.writable(run, []) is None
    assert "packages of others run beside" in confined.words(run)


def test_a_worker_of_a_cohort_writes_to_its_output_and_destination_only(tmp_path):
    run = settings(tmp_path, names=["mine"], sha256={"mine": "0" * 64})
    (tmp_path / "there").mkdir()
    folder = {"name": "there", "kind": "folder", "path": str(tmp_path / "there" / "to be made")}
    run = Settings.model_validate({**run.model_dump(), "destinations": [folder]})
    for options, expected in ((Options(), {"out"}), (Options(destination="there", also=("png",)), {"out", "there"})):
        task = EntryTask(settings=run, out=tmp_path / "out", options=options)
        assert {tmp_path / name for name in expected} | {Path(tempfile.gettempdir())} == set(task.writable)
