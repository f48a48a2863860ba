"""Who waits, who is taken into the same batch, and whose turn it is to compute."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import torch

from cxr_dicom.infer.batches.line import BrokenLineError, Line


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """An image for a network, and where its answer goes."""

    line: Line
    network: str
    is_alone: bool  # a process died over it: nobody is to die with it
    pixels: torch.Tensor
    room: list[torch.Tensor]

    def answer(self, found: list[torch.Tensor]) -> None:
        """Give the answer, if somebody still waits for it."""
        for room, one in zip(self.room, found, strict=True):
            room.copy_(one)
        self._tell({})

    def fail(self, text: str) -> None:
        """Say that there is none."""
        self._tell({"error": text})

    def _tell(self, message: dict[str, str]) -> None:
        try:
            self.line.tell(message)
        except BrokenLineError:
            return  # the worker was killed


class Turns:
    """A queue. Nobody in it waits for company: a batch takes who came while the one before was computed.

    It cannot grow beyond one image for each thread of each worker, for these wait for their answers.
    """

    def __init__(self) -> None:
        self._waiting: deque[Question] = deque()
        self._changed = threading.Condition()
        self._is_computing = False

    def come(self, question: Question) -> None:
        """Wait in the queue."""
        with self._changed:
            self._waiting.append(question)
            self._changed.notify_all()

    def first(self) -> Question:
        """Wait for somebody, and take who waits longest."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            return self._waiting.popleft()

    def next(self, first: Question, *, has_room: bool) -> Question | None:
        """Take one more into a batch, or begin to compute it when that is possible: then None."""
        with self._changed:
            while True:
                if has_room and (more := self._company(first)):
                    self._waiting.remove(more)
                    return more
                if not self._is_computing:
                    self._is_computing = True
                    return None
                self._changed.wait()

    def end(self) -> None:
        """Let the next batch be computed."""
        with self._changed:
            self._is_computing = False
            self._changed.notify_all()

    def _company(self, first: Question) -> Question | None:
        if first.is_alone:
            return None
        same = (other for other in self._waiting if other.network == first.network and not other.is_alone)
        return next(same, None)
