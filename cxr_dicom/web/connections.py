"""Bounds on what a stranger's connection may cost: uvicorn's own begin only with the first whole request."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0  # for all headers of a request
MAX_WAITING = 64  # connections whose request is not yet whole; of more, the oldest is closed


class BoundedProtocol(H11Protocol):
    """HTTP/1.1 on a connection that must ask for something soon.

    Of connections that dribble only the latest `MAX_WAITING` are kept, so that however many there are, one that
    asks at once gets its answer.
    """

    _waiting: dict[BoundedProtocol, asyncio.TimerHandle]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._look()

    def data_received(self, data: bytes) -> None:
        """Look whether the request is whole."""
        super().data_received(data)
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    @classmethod
    def of_one_server(cls) -> type[BoundedProtocol]:
        """Return a protocol whose connections are counted together."""
        return type(cls.__name__, (cls,), {"_waiting": {}})

    def _look(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._stop_waiting()
        elif self not in self._waiting and not self.transport.is_closing():
            while len(self._waiting) >= MAX_WAITING:
                next(iter(self._waiting)).give_up()
            self._waiting[self] = self.loop.call_later(HEADER_SECONDS, self.give_up)

    def give_up(self) -> None:
        """Close a connection that asks for nothing."""
        self._stop_waiting()
        self.transport.abort()

    def _stop_waiting(self) -> None:
        timer: Any = self._waiting.pop(self, None)
        if timer is not None:
            timer.cancel()
