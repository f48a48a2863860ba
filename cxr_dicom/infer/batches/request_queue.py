"""Requests that wait for the server, and the order in which they are computed."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import torch

from cxr_dicom.infer.batches.channel import Channel, ChannelClosedError


@dataclass(frozen=True, kw_only=True, eq=False)
class Request:
    """An image for a network, and where its outputs go."""

    channel: Channel
    network: str
    is_alone: bool  # a server died while it computed this image: no other image may share its batch
    pixels: torch.Tensor
    outputs: list[torch.Tensor]

    def reply(self, outputs: list[torch.Tensor]) -> None:
        """Send the outputs."""
        for shared, output in zip(self.outputs, outputs, strict=True):
            shared.copy_(output)
        self._send({})

    def fail(self, text: str) -> None:
        """Send why there are no outputs."""
        self._send({"error": text})

    def _send(self, message: dict[str, str]) -> None:
        try:
            self.channel.send(message)
        except ChannelClosedError:
            return  # the worker was killed


class RequestQueue:
    """A queue of requests. A batch takes those that arrived during the previous one, and waits for no others.

    It holds at most one request for each thread of each worker, for each thread waits for its reply.
    """

    def __init__(self) -> None:
        self._waiting: deque[Request] = deque()
        self._changed = threading.Condition()
        self._is_computing = False

    def put(self, request: Request) -> None:
        """Add a request."""
        with self._changed:
            self._waiting.append(request)
            self._changed.notify_all()

    def get(self) -> Request:
        """Wait for a request, and take the oldest."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting)
            return self._waiting.popleft()

    def get_another(self, first: Request, *, has_room: bool) -> Request | None:
        """Take another request into the batch of the first; None when it is this batch's turn to be computed."""
        with self._changed:
            while True:
                if has_room and (another := self._matching(first)):
                    self._waiting.remove(another)
                    return another
                if not self._is_computing:
                    self._is_computing = True
                    return None
                self._changed.wait()

    def end_turn(self) -> None:
        """Let the next batch be computed."""
        with self._changed:
            self._is_computing = False
            self._changed.notify_all()

    def _matching(self, first: Request) -> Request | None:
        if first.is_alone:
            return None
        same = (other for other in self._waiting if other.network == first.network and not other.is_alone)
        return next(same, None)
