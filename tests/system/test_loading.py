"""What is loaded is not searched for garbage: neither then, nor later, nor at the end."""

import gc
import subprocess
import sys

import pytest

from cxr_dicom.system.loading import loading


@pytest.fixture(autouse=True)
def as_before():
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_in_the_block_and_what_was_loaded_is_not_looked_at_afterwards():
    before = gc.get_freeze_count()
    with loading():
        loaded = [[number] for number in range(1000)]
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() > before + len(loaded)


def test_what_cannot_be_loaded_leaves_the_collector_as_it_was():
    with pytest.raises(ZeroDivisionError), loading():
        1 / 0  # noqa: B018
    assert gc.isenabled()


def test_who_collects_no_garbage_does_not_begin_to():
    gc.disable()
    with loading():
        pass
    assert not gc.isenabled()


@pytest.mark.parametrize(
    ("imported", "end", "is_searched"),
    [("json", "end_soon()", False), ("triton", "end_soon()", True), ("triton", "pass", True)],
)
def test_the_end_is_without_a_search_unless_a_library_would_report_leaks(imported, end, is_searched):
    pytest.importorskip(imported)
    code = (
        "import atexit, gc, sys\n"
        "atexit.register(lambda: print(gc.get_freeze_count() == 0))\n"  # the last to be called
        "from cxr_dicom.system.loading import end_soon, loading\n"
        f"with loading(): import {imported}\n"
        f"{end}\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (finished.stdout.strip(), finished.stderr) == (str(is_searched), "")
