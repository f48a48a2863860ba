"""Where a system lacks what only Unix has, `run` works and the service says in one line what it needs."""

import subprocess
import sys

import pytest

from cxr_dicom import synthetic

WITHOUT = """
import builtins, os, signal

import_ = builtins.__import__

def only_elsewhere(name, globals=None, *rest, **more):  # libraries have their own ways on Windows, which are not here
    is_ours = (globals or {}).get("__name__", "").startswith("cxr_dicom.")
    if is_ours and name in ("fcntl", "resource", "pwd", "grp", "termios"):
        raise ImportError(name)
    return import_(name, globals, *rest, **more)

builtins.__import__ = only_elsewhere
del signal.SIGHUP, os.O_DIRECTORY, os.O_CLOEXEC, os.sched_getaffinity, os.pread, os.pwrite
from cxr_dicom.cli import main
main()
"""


@pytest.fixture
def without_unix(tmp_path):
    """Call the command line in a process that lacks them."""

    def call(*arguments):
        command = [sys.executable, "-c", WITHOUT, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)

    return call


def test_run_works(without_unix, tmp_path):
    synthetic.write_study(tmp_path / "in", [synthetic.radiograph()])
    finished = without_unix("run", "in", "-o", "out", "--models", "offline-anatomy", "--device", "cpu")
    assert finished.returncode == 0, finished.stderr
    assert "1 processed, 0 skipped, 0 failed" in finished.stdout


@pytest.mark.parametrize("command", [("serve",), ("poll", "--once")])
def test_the_service_says_in_one_line_what_it_needs(without_unix, tmp_path, command):
    (tmp_path / "cxr-dicom.toml").write_text(
        '[[poller.archives]]\nname = "a"\nkind = "dicomweb"\nurl = "http://127.0.0.1:9"\n'
    )
    finished = without_unix(*command)
    assert finished.returncode == 2, finished.stderr
    (line,) = finished.stderr.splitlines()
    assert line == (
        "Error: `serve` and `poll` need Linux or macOS, for file locks (fcntl); on this system `cxr-dicom run` works"
    )


def test_check_works_but_for_what_it_checks(without_unix, tmp_path):
    (tmp_path / "cxr-dicom.toml").write_text('[models]\nnames = ["lung-opacity"]\n')
    finished = without_unix("check")
    assert "Traceback" not in finished.stderr
    assert "MB of memory more" in finished.stdout
