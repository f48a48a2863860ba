"""Loading what has a million objects, as PyTorch has.

None of them is garbage, but Python looks for it among them again and again while they are loaded, and when the process
ends: a third of the processor time of `run` on one image.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """Collect no garbage in the block, and never look for it among what was there at its end."""
    was_collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_collecting:
            gc.enable()


def end_soon() -> None:
    """Let the process end without a last search for garbage, where no library takes what is left for leaks."""
    if "triton" in sys.modules:
        gc.unfreeze()
    else:
        gc.freeze()
