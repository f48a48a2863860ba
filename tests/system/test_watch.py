"""How long a stage takes is seen from outside, whatever a worker does."""

import subprocess
import sys
import threading
import time

from cxr_dicom.system import watch


def test_a_stage_counts_from_its_beginning_and_not_while_it_pauses():
    clocks = watch.Watch()
    assert clocks.seconds() == 0
    with clocks.item():
        time.sleep(0.2)
        assert clocks.seconds() >= 0.2
        watch.begin()
        assert clocks.seconds() < 0.2
        watch.pause()
        time.sleep(0.01)
        assert clocks.seconds() == 0
    assert clocks.seconds() == 0
    watch.begin()  # outside of an item: nothing


def test_quick_stages_of_one_item_do_not_hide_that_another_hangs():
    clocks, go = watch.Watch(2), threading.Event()

    def hang():
        with clocks.item():
            go.wait()

    other = threading.Thread(target=hang)
    other.start()
    for _ in range(10):
        with clocks.item():
            watch.begin()
            time.sleep(0.02)
    assert clocks.seconds() >= 0.2
    go.set()
    other.join()
    assert clocks.seconds() == 0


def test_a_process_that_watches_itself_ends_though_foreign_code_holds_the_lock():
    program = """
import ctypes
from cxr_dicom.system import watch
clocks = watch.Watch()
watch.end_this_process_after(clocks, 0.5)
with clocks.item():
    ctypes.PyDLL(None).sleep(60)
"""
    begun = time.monotonic()
    ended = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True)
    assert (ended.returncode, ended.stderr) == (1, b"")
    assert time.monotonic() - begun < 30
