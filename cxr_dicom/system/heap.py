"""Memory of large arrays, kept by the process for the next image."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # as malloc.h of glibc numbers them
_MOST = 2**30


def keep() -> None:
    """Let the C library keep what was freed, in place of giving it back to the system.

    By itself glibc maps each block above 32 MB afresh, and the system clears it page by page: 200,000 page faults in
    one forward pass of a PSPNet, a tenth of its time. Of what is free at the top of the heap more than 1 GB goes
    back; below something that is in use all of it stays, so that the process may stay as large as it was at its
    largest. Other C libraries are left as they are.

    Source: mallopt(3).
    """
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, _MOST)
    mallopt(_ARENA_MAX, 1)  # arenas of threads are too small for large blocks
