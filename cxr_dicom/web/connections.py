"""Bounds on what a stranger's connection may cost: uvicorn's own begin only with the first whole request."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0  # for all headers of a request
MAX_WAITING = 64  # connections for which nothing is at work; of more, the oldest is closed
UNREAD_SECONDS = 20.0  # that an answer may wait for its reader


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 on a connection that must ask for something soon.

    Of connections that dribble only the latest `MAX_WAITING` are kept, so that however many there are, one that
    asks at once gets its answer. Those count too whose request was answered, and those on which a stranger sends
    a body; only a visitor may take long for it.
    """

    _waiting: dict[BoundedProtocol, asyncio.TimerHandle]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._unread: asyncio.TimerHandle | None = None
        self._look()

    def data_received(self, data: bytes) -> None:
        """Look whether the request is whole."""
        super().data_received(data)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        self._is_read()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request, or for the end."""
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        """Begin to wait for the reader of an answer: to close a connection ends only what is read."""
        super().pause_writing()
        self._unread = self._unread or self.loop.call_later(UNREAD_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        self._is_read()
        super().resume_writing()

    @classmethod
    def of_one_server(cls) -> type[BoundedProtocol]:
        """Return a protocol whose connections are counted together."""
        return type(cls.__name__, (cls,), {"_waiting": {}})

    def _look(self) -> None:
        if self._is_at_work:
            self._stop_waiting()
        elif self not in self._waiting and self in self.connections:
            while len(self._waiting) >= MAX_WAITING:
                next(iter(self._waiting)).give_up()
            self._waiting[self] = self.loop.call_later(HEADER_SECONDS, self.give_up)

    def give_up(self) -> None:
        """Close a connection that asks for nothing."""
        self._stop_waiting()
        if not self._is_at_work:
            self.transport.abort()

    @property
    def _is_at_work(self) -> bool:
        """Whether a request is answered that is whole, or whose visitor is known."""
        if self.cycle is None or self.cycle.response_complete or self.conn.their_state is h11.IDLE:
            return False
        return self.conn.their_state is not h11.SEND_BODY or self.scope.get("visitor") is not None

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _stop_waiting(self) -> None:
        timer: Any = self._waiting.pop(self, None)
        if timer is not None:
            timer.cancel()
