"""Changes of several threads in one transaction, for each transaction waits for the disk once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager
from typing import Any, TypeVar

T = TypeVar("T")


class GroupCommit:
    """While one thread waits for the disk, the changes of the others gather; the next one writes them all.

    Parameters
    ----------
    transaction
        Begins a transaction of the calling thread.
    """

    def __init__(self, transaction: Callable[[], AbstractContextManager[object]]) -> None:
        self._transaction = transaction
        self._waiting: list[tuple[Callable[[], Any], Future[Any]]] = []
        self._guard = threading.Lock()
        self._turn = threading.Lock()

    def make(self, change: Callable[[], T]) -> T:
        """Make a change and return what it returns, when it is on the disk.

        It may run in another thread. When one change of a transaction fails, all of them fail. Never
        call it within a transaction, which the others would wait for.
        """
        done: Future[T] = Future()
        with self._guard:
            self._waiting.append((change, done))
        with self._turn:
            if not done.done():
                self._write()
        return done.result()

    def _write(self) -> None:
        with self._guard:
            batch, self._waiting = self._waiting, []
        try:
            with self._transaction():
                results = [change() for change, _ in batch]
        except BaseException as error:  # each of them must hear of it
            for _, done in batch:
                done.set_exception(error)
        else:
            for (_, done), result in zip(batch, results, strict=True):
                done.set_result(result)
