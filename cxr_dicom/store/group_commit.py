"""What several threads write goes to the disk at once, for each time costs one wait for the disk, or for a lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class GroupCommit(Generic[Item, Result]):
    """While one thread writes, the items of the others gather; the next thread writes them all at once.

    Parameters
    ----------
    do
        Writes items, in the order in which they came, and returns a result for each. It may run in the thread of any of
        them.
    """

    def __init__(self, do: Callable[[Sequence[Item]], Sequence[Result]]) -> None:
        self._do = do
        self._waiting: list[tuple[Item, Future[Result]]] = []
        self._guard = threading.Lock()
        self._turn = threading.Lock()

    def make(self, item: Item) -> Result:
        """Return the result when the item is written. Those that are written at once fail when one of them fails."""
        done: Future[Result] = Future()
        with self._guard:
            self._waiting.append((item, done))
        with self._turn:
            if not done.done():
                self._make_all()
        return done.result()

    def _make_all(self) -> None:
        with self._guard:
            batch, self._waiting = self._waiting, []
        try:
            results = self._do([item for item, _ in batch])
        except BaseException as error:  # each of them must hear of it
            for _, done in batch:
                done.set_exception(error)
        else:
            for (_, done), result in zip(batch, results, strict=True):
                done.set_result(result)
