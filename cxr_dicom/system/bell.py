"""A bell between processes: whoever waits is woken when there is something to do, and need not look again and again."""

from __future__ import annotations

import contextlib
import multiprocessing


class Bell:
    """Each ring wakes one waiter, now or when it waits next. Made by the parent and given to its processes.

    Ringing never blocks, and a process that is killed while it waits takes nothing with it.
    """

    def __init__(self) -> None:
        self._rings = multiprocessing.get_context("spawn").Semaphore(0)

    def ring(self) -> None:
        """Wake one waiter."""
        with contextlib.suppress(OSError, ValueError):  # more rings than the system counts: enough to wake all
            self._rings.release()

    def wait(self, seconds: float) -> bool:
        """Wait for a ring, at most so long; tell whether there was one."""
        return self._rings.acquire(timeout=seconds)
