import multiprocessing
import os
import signal
import time

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
