"""The server of the pages, in a thread of its own."""

from __future__ import annotations

import logging
import socket
import threading
import time

import uvicorn
from starlette.types import ASGIApp

from cxr_dicom.errors import CxrDicomError, SettingsError
from cxr_dicom.web.connections import BoundedProtocol

MAX_CONNECTIONS = 200  # that have asked for something; more get 503
_BACKLOG = 128
_START_SECONDS = 10.0
_STOP_SECONDS = 5


class Server:
    """Serves an application on an address of this machine until `stop`.

    Raises
    ------
    SettingsError
        If the port is taken.
    """

    def __init__(self, application: ASGIApp, address: str, port: int) -> None:
        self._socket = _bound(address, port)
        for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi"):  # they may quote a request
            logging.getLogger(name).handlers = [logging.NullHandler()]
            logging.getLogger(name).propagate = False
        config = uvicorn.Config(
            application,
            http=BoundedProtocol.of_one_server(),
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="web", daemon=True
        )
        self._thread.start()
        until = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                raise CxrDicomError("web: the server of the pages did not start")
            time.sleep(0.01)

    @property
    def is_alive(self) -> bool:
        """Whether it still answers."""
        return self._thread.is_alive()

    def wait(self) -> None:
        """Return when it has ended."""
        self._thread.join()

    def stop(self) -> None:
        """End it; answers that are under way have a few seconds."""
        self._server.should_exit = True
        self._thread.join(2 * _STOP_SECONDS)
        self._socket.close()


def _bound(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((address, port))
        made.listen(_BACKLOG)
    except OSError as error:
        made.close()
        raise SettingsError(f"web.port = {port}: {error.strerror}") from error
    return made
