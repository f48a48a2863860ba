"""A bell between processes: whoever waits is woken when there is something to do, and need not look again and again."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time


class Bell:
    """Each ring wakes one waiter, now or when it waits next. Made by the parent and given to its processes.

    Ringing never blocks, and a process that is killed while it waits takes nothing with it. It is a pipe, for a
    semaphore waits until a time of day: when the clock is stepped back, for as long as the step.
    """

    def __init__(self) -> None:
        self._hears, self._rings = multiprocessing.get_context("spawn").Pipe(duplex=False)
        for end in (self._hears, self._rings):
            os.set_blocking(end.fileno(), False)

    def ring(self) -> None:
        """Wake one waiter."""
        with contextlib.suppress(BlockingIOError):  # more rings than the pipe holds: enough to wake all
            os.write(self._rings.fileno(), b"!")

    def wait(self, seconds: float) -> bool:
        """Wait for a ring, at most so long; tell whether there was one."""
        until = time.monotonic() + seconds
        while self._hears.poll(max(0.0, until - time.monotonic())):
            with contextlib.suppress(BlockingIOError):  # another waiter was quicker
                return bool(os.read(self._hears.fileno(), 1))
        return False
