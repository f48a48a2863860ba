"""What several threads bring is done at once, for each time costs a wait for the disk, or for a lock, once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Together(Generic[Item, Result]):
    """While one thread is at it, what the others bring gathers; the next one does all of that.

    Parameters
    ----------
    do
        Does it with everything, in the order in which it came, and returns a result for each. It may run in the thread
        of any of them.
    """

    def __init__(self, do: Callable[[Sequence[Item]], Sequence[Result]]) -> None:
        self._do = do
        self._waiting: list[tuple[Item, Future[Result]]] = []
        self._guard = threading.Lock()
        self._turn = threading.Lock()

    def make(self, item: Item) -> Result:
        """Return the result when it is done. When it fails for one of those that are done at once, it fails for all."""
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
