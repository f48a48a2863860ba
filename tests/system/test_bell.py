import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from cxr_dicom.system.bell import Bell

CONTEXT = multiprocessing.get_context("spawn")


def answer(bell, back):
    back.ring()
    if bell.wait(60):
        back.ring()


def test_a_ring_wakes_another_process_and_none_is_lost():
    bell, back = Bell(), Bell()
    process = CONTEXT.Process(target=answer, args=(bell, back))
    bell.ring()  # before anybody waits
    process.start()
    assert back.wait(60)
    assert back.wait(60)
    process.join(10)
    assert process.exitcode == 0


def test_without_a_ring_the_wait_ends_by_itself():
    began = time.monotonic()
    assert not Bell().wait(0.1)
    assert time.monotonic() - began >= 0.1


def test_a_waiter_that_is_killed_takes_no_ring_with_it():
    bell, back = Bell(), Bell()
    process = CONTEXT.Process(target=answer, args=(bell, back))
    process.start()
    assert back.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join(10)
    bell.ring()
    assert bell.wait(1)


def test_ringing_without_end_blocks_nobody():
    bell = Bell()
    for _ in range(100_000):
        bell.ring()
    assert bell.wait(0)


FUTEX, CLOCK_REALTIME = 202, 256  # number of the call on x86-64, and a flag of its second argument


@pytest.mark.skipif(os.uname().machine != "x86_64" or not Path("/proc/self/syscall").exists(), reason="reads /proc")
def test_a_wait_ends_in_time_whatever_becomes_of_the_clock():
    bell = Bell()
    waiter = threading.Thread(target=bell.wait, args=(30,))
    waiter.start()
    call = ["running"]
    until = time.monotonic() + 20
    while call[0] == "running" and time.monotonic() < until:
        call = Path(f"/proc/self/task/{waiter.native_id}/syscall").read_text().split()
    bell.ring()
    waiter.join()
    assert call[0].isdigit()
    assert not (int(call[0]) == FUTEX and int(call[2], 16) & CLOCK_REALTIME)
