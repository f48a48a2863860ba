"""HTTP answers that end: each is read whole, within a total deadline and a bound on its bytes.

The time limits of requests hold from one byte to the next, so a server that sends a byte now and then holds its
reader for ever; and a body has no bound at all.
"""

from __future__ import annotations

import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.client import HTTPResponse
from io import BytesIO
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, ContentDecodingError
from urllib3.connection import HTTPConnection, HTTPSConnection

MAX_BYTES = 64 << 20  # of an answer, unless its reader expects more
SLOWEST = 16 << 10  # bytes in a second, on average, that we wait for
_CHUNK = 1 << 16
_GZIP_OR_ZLIB = 47  # wbits of zlib that recognises both
_UNSIZED = 1 << 30  # bytes of a request's body of unknown length


class AnswerTooLongError(requests.RequestException):
    """An answer has more bytes than its reader expects."""


class BoundedAdapter(HTTPAdapter):
    """The transport of a session, which one thread uses.

    An answer is whole when ``send`` returns, or there is an exception of requests: ``ReadTimeout`` when it took longer
    than the time limit and `SLOWEST` allow, `AnswerTooLongError` when it is too long, ``ChunkedEncodingError`` when it
    broke off.

    Parameters
    ----------
    max_bytes
        Of a body, as it comes and as it is unpacked.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._ways: list[HTTPConnection] = []  # of the connections that may be open; the newest last
        self._sockets: list[socket.socket] = []
        super().__init__(pool_connections=1, pool_maxsize=1)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Make connections that can be ended from outside."""
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = self._pools()

    def proxy_manager_for(self, *arguments: Any, **options: Any) -> Any:
        """Make such connections through a proxy too."""
        manager = super().proxy_manager_for(*arguments, **options)
        manager.pool_classes_by_scheme = self._pools()
        return manager

    def send(
        self, request: requests.PreparedRequest, stream: bool = False, timeout: Any = None, *more: Any, **options: Any
    ) -> requests.Response:
        """Send a request and read the answer; ``timeout`` is one number."""
        size = int(request.headers.get("Content-Length") or (_UNSIZED if request.body else 0))
        with self._deadline(timeout + size / SLOWEST) as prolong:
            answer = super().send(request, True, timeout, *more, **options)
            try:
                body = self._read(answer, prolong)
            finally:
                answer.raw.close()
        answer.raw = BytesIO(body)
        return answer

    def _read(self, answer: requests.Response, prolong: Callable[[float], None]) -> bytes:
        body = bytearray()
        try:
            for chunk in _decoded(self._chunks(answer.raw, prolong), answer.headers.get("Content-Encoding", "")):
                body += chunk
                self._expect_few(len(body))
        except urllib3.exceptions.ReadTimeoutError as error:
            raise requests.ReadTimeout(type(error).__name__) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if isinstance(error, requests.RequestException):
                raise
            raise ChunkedEncodingError(type(error).__name__) from error
        except zlib.error as error:
            raise ContentDecodingError(type(error).__name__) from error
        return bytes(body)

    def _chunks(self, raw: Any, prolong: Callable[[float], None]) -> Iterator[bytes]:
        """Yield a body as it comes; what unpacks to nothing may come without end, too."""
        received = 0
        while chunk := raw.read1(_CHUNK, decode_content=False):
            prolong(len(chunk) / SLOWEST)
            received += len(chunk)
            self._expect_few(received)
            yield chunk

    def _expect_few(self, count: int) -> None:
        if count > self._max_bytes:
            raise AnswerTooLongError(f"expected at most {self._max_bytes >> 20} MB, found more")

    @contextmanager
    def _deadline(self, seconds: float) -> Iterator[Callable[[float], None]]:
        """Close the connection when the time is over; yields what prolongs it."""
        until, done, is_over = [time.monotonic() + seconds], threading.Event(), threading.Event()

        def watch() -> None:
            while not done.wait(max(0.0, until[0] - time.monotonic())):
                if time.monotonic() >= until[0]:
                    is_over.set()
                    self._end()
                    done.wait(1.0)  # a connection that is just being made is ended in the next turn

        def prolong(more: float) -> None:
            until[0] += more

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield prolong
        except requests.RequestException as error:
            if is_over.is_set():
                raise requests.ReadTimeout("no whole answer in time") from error
            raise
        finally:
            done.set()
            watcher.join()
        if is_over.is_set():  # a body that the end of the connection ends looks whole
            raise requests.ReadTimeout("no whole answer in time")

    def _end(self) -> None:
        for each in filter(None, (*self._sockets, *(way.sock for way in self._ways))):
            with suppress(OSError):
                socket.socket.shutdown(each, socket.SHUT_RDWR)  # wakes up who reads, with TLS or without

    def _pools(self) -> dict[str, type[urllib3.HTTPConnectionPool]]:
        """Make pools of connections that this adapter knows."""
        adapter = self

        class Http(HTTPConnection):
            response_class = _FinalResponse

            def connect(self) -> None:
                adapter._ways = [self]
                super().connect()
                adapter._sockets = [self.sock]

        class Https(HTTPSConnection):
            response_class = _FinalResponse

            def connect(self) -> None:
                adapter._ways = [self]
                super().connect()
                adapter._sockets = [self.sock]

        class HttpPool(urllib3.HTTPConnectionPool):
            ConnectionCls = Http

        class HttpsPool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Https

        return {"http": HttpPool, "https": HttpsPool}


class _FinalResponse(HTTPResponse):
    """An answer behind all those that only say that it will come (status 1xx, RFC 9110 15.2), not only behind 100."""

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]
        is_interim = status // 100 == 1 and status != HTTPStatus.SWITCHING_PROTOCOLS
        return version, HTTPStatus.CONTINUE if is_interim else status, reason


def _decoded(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    """Unpack a body by pieces of bounded size, whatever is packed in it."""
    if encoding.strip().lower() in ("", "identity"):
        yield from chunks
        return
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        raise ContentDecodingError("expected Content-Encoding gzip or none, found another")
    unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
    for chunk in chunks:
        rest = chunk
        while rest:
            if unpacker.eof:  # another member (RFC 1952 2.2)
                unpacker = zlib.decompressobj(_GZIP_OR_ZLIB)
            yield unpacker.decompress(rest, _CHUNK)
            rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
    if not unpacker.eof:
        raise ContentDecodingError("expected a whole body, found a beginning")
