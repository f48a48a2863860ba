"""One process in a folder: the lock is the process's, and ends with it however it ends."""

import os
import signal
import subprocess
import sys
import time

import pytest

from cxr_dicom.system import lock

HOLD = (
    "import sys, time; from pathlib import Path; from cxr_dicom.system import lock;"
    " lock.take(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"
)


@pytest.fixture
def holder(tmp_path):
    """Another process that has the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "lock"], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_another_process_has_it_until_it_is_killed_and_is_named(tmp_path, holder):
    with pytest.raises(lock.LockedError) as refused:
        lock.take(tmp_path / "lock")
    assert str(refused.value) == str(holder.pid)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    descriptor = lock.take(tmp_path / "lock")
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    os.close(descriptor)


def test_a_lock_that_is_closed_can_be_taken_again_and_its_file_is_the_owners(tmp_path):
    os.close(lock.take(tmp_path / "lock"))
    os.close(lock.take(tmp_path / "lock"))
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_in_turn_waits_for_the_one_before(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from cxr_dicom.system import lock\n"
        "with lock.in_turn(Path(sys.argv[1])):\n    print('in', flush=True); time.sleep(0.5)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "lock"], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "in\n"
        began = time.monotonic()
        with lock.in_turn(tmp_path / "lock"):
            assert time.monotonic() - began > 0.2
