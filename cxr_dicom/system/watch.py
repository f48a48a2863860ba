"""How long a stage of a study has been at work, for the process above to see.

What hangs in foreign code cannot say so itself. A worker writes when a stage began into memory that it shares with
its parent, which ends a worker whose stage takes longer than it may. The clock is the system's own, which no one steps.
"""

from __future__ import annotations

import faulthandler
import math
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_IDLE, _PAUSED = 0.0, math.inf
_LOOK_SECONDS = 1.0

_begun: ContextVar[Callable[[float], None] | None] = ContextVar("begun", default=None)
_taking = threading.Lock()


class Watch:
    """The clocks of one worker, one for each item that it has at once. Made by the parent and given to the worker."""

    def __init__(self, items: int = 1) -> None:
        self._clocks = multiprocessing.get_context("spawn").Array("d", items, lock=False)

    def seconds(self) -> float:
        """Return how long the stage that takes longest has been at work; 0 where none is."""
        now = time.monotonic()
        taken: list[float] = [now - begun for begun in self._clocks if begun != _IDLE]
        return max(0.0, *taken, 0.0)

    @contextmanager
    def item(self) -> Iterator[None]:
        """Watch what this thread does in the block; its first stage begins now."""
        with _taking:
            number = list(self._clocks).index(_IDLE)
            self._clocks[number] = time.monotonic()

        def note(when: float) -> None:
            self._clocks[number] = when

        token = _begun.set(note)
        try:
            yield
        finally:
            _begun.reset(token)
            note(_IDLE)


def begin() -> None:
    """Say that a stage begins: its time counts from now."""
    if note := _begun.get():
        note(time.monotonic())


def pause() -> None:
    """Say that what follows has time limits of its own, as the network does."""
    if note := _begun.get():
        note(_PAUSED)


def end_this_process_after(watch: Watch, seconds: float) -> None:
    """Watch from inside, where the parent is on another machine; foreign code may hold Python's lock all the while."""

    def look() -> None:
        while watch.seconds() < seconds:
            faulthandler.dump_traceback_later(seconds + 2 * _LOOK_SECONDS, exit=True, file=nowhere)  # needs no lock
            time.sleep(_LOOK_SECONDS)
        os._exit(1)

    nowhere = Path(os.devnull).open("w")  # noqa: SIM115  for as long as the process lives
    threading.Thread(target=look, name="watch", daemon=True).start()
