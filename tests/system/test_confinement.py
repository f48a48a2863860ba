"""A confined process, asked from outside what it still can."""

import json
import socket
import subprocess
import sys

import pytest

from cxr_dicom.system import confinement

TRIES = """
import json, os, socket, subprocess, sys, threading
from pathlib import Path
from cxr_dicom.system.confinement import confine
inside, outside, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
kept = (outside / "kept").open("r")
is_confined = confine([inside])

def can(what):
    try:
        what()
    except OSError as error:
        return type(error).__name__
    return True

said = {"confined": is_confined}
said["write inside"] = can(lambda: (inside / "new" ).mkdir() or (inside / "new" / "a").write_text("a"))
said["replace inside"] = can(lambda: (inside / "new" / "a").replace(inside / "b"))
said["null"] = can(lambda: Path("/dev/null").write_text("a"))
said["read"] = can(lambda: (outside / "kept").read_text())
said["write"] = can(lambda: (outside / "ran").write_text("a"))
said["append"] = can(lambda: (outside / "kept").open("a").write("a"))
said["truncate"] = can(lambda: os.truncate(outside / "kept", 0))
said["remove"] = can(lambda: (outside / "kept").unlink())
said["make a folder"] = can(lambda: (outside / "ran").mkdir())
said["link"] = can(lambda: (outside / "ran").symlink_to("/etc/passwd"))
said["move out"] = can(lambda: (inside / "b").replace(outside / "ran"))
said["move in"] = can(lambda: (outside / "kept").replace(inside / "kept"))
said["hard link in"] = can(lambda: (inside / "linked").hardlink_to(outside / "kept"))
said["disk"] = can(lambda: os.mknod(outside / "disk", 0o600 | 0o060000, 0))
said["connect"] = can(lambda: socket.create_connection(("127.0.0.1", port), 5).close())
said["listen"] = can(lambda: socket.socket().bind(("127.0.0.1", 0)))
said["UDP"] = can(lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"a", ("127.0.0.1", port)))
said["socket of Unix"] = can(lambda: socket.socket(socket.AF_UNIX))
said["signal"] = can(lambda: os.kill(os.getppid(), 0))
child = subprocess.run([sys.executable, "-c", f"open({str(outside / 'ran')!r}, 'w')"], stderr=subprocess.PIPE)
said["write by a child"] = "PermissionError" if b"PermissionError" in child.stderr else True
thread = threading.Thread(target=lambda: said.update({"write by a thread": can(lambda: (outside / "ran").touch())}))
thread.start(), thread.join()
print(json.dumps(said))
"""
FREE = {"confined", "write inside", "replace inside", "null", "read"}


@pytest.mark.skipif(confinement.version() < 6, reason="needs Landlock of Linux 6.12")
def test_a_confined_process_writes_only_where_it_may_and_connects_nowhere(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
    (outside / "kept").write_text("kept")
    with socket.create_server(("127.0.0.1", 0)) as server:
        arguments = [str(inside), str(outside), str(server.getsockname()[1])]
        done = subprocess.run([sys.executable, "-c", TRIES, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert {what for what, could in said.items() if could is True} == FREE
    assert {could for what, could in said.items() if what not in FREE} <= {"PermissionError", "OSError"}
    assert [path.name for path in outside.iterdir()] == ["kept"]
    assert (outside / "kept").read_text() == "kept"


@pytest.mark.skipif(confinement.version() < 6, reason="needs Landlock of Linux 6.12")
def test_a_system_without_it_is_said_so(monkeypatch):
    assert confinement.words() == "can write nothing but what it has to, and has no network"
    monkeypatch.setattr(confinement, "version", lambda: 0)
    assert confinement.words().startswith("has no network; writes as its user may")
    monkeypatch.setattr(confinement.platform, "machine", lambda: "sparc64")
    assert "is not confined" in confinement.words()
    monkeypatch.setattr(confinement, "version", lambda: 3)
    assert confinement.words().endswith("its network stays open")
    monkeypatch.setattr(confinement, "version", lambda: 4)
    assert confinement.words().endswith("cannot use TCP")
