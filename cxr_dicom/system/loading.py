"""Loading what has a million objects, as PyTorch has.

None of them is garbage, but Python looks for it among them again and again while they are loaded, and when the process
ends: a third of the processor time of `run` on one image.
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from cxr_dicom.system import heap


@contextmanager
def loading() -> Iterator[None]:
    """Collect no garbage in the block, nor later among what was there at its end; where leaks are told, as it ends.

    The process keeps freed memory from then on; see `cxr_dicom.system.heap`.
    """
    heap.keep()
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if _are_leaks_told():
            atexit.register(gc.unfreeze)
        if was_collecting:
            gc.enable()


def end_soon() -> None:
    """Let the process end without a last search for garbage, unless leaks are told."""
    if _are_leaks_told():
        gc.unfreeze()
    else:
        gc.freeze()


def _are_leaks_told() -> bool:
    """Whether a library is loaded that takes what is left at the end for leaks, and says so: nanobind, of Triton."""
    return "triton" in sys.modules
