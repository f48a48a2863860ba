"""Servers that never come to an end, over a real connection: each costs its time limit, and no memory."""

import gzip
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress

import pytest

from cxr_dicom.config.service import HttpAccess
from cxr_dicom.errors import ConnectionFailedError
from cxr_dicom.system import bounded
from cxr_dicom.system.network import request, searching, session
from tests.service_helpers import certificate

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom+json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP = HEAD + b"Content-Encoding: gzip\r\n"
LIMIT = 0.3  # seconds


@contextmanager
def peer(says, tls=None):
    """Answer each request on one connection after the other with what a function yields; yields the port."""
    accepting = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def answer(connection):
        with connection, suppress(OSError):
            if tls:
                connection = tls.wrap_socket(connection, server_side=True)
            with connection:
                while connection.recv(65536):
                    for piece in says(ended):
                        connection.sendall(piece)
                    if says.__name__ != "stays":
                        return

    def accept():
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(accepting.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield accepting.getsockname()[1]
    finally:
        ended.set()
        accepting.close()


def dripping(before, drop=b"x"):
    def drips(ended):
        yield before
        while not ended.wait(0.02):
            yield drop

    return drips


def flowing(before, drop, stop=2000):
    def flows(ended):
        yield before
        for _ in range(stop):
            yield drop

    return flows


def whole(content, head=HEAD):
    def says(ended):
        yield head + f"Content-Length: {len(content)}\r\n\r\n".encode() + content

    return says


def asked(port, scheme="http", max_bytes=bounded.MAX_BYTES, **more):
    access = HttpAccess(url=f"{scheme}://127.0.0.1:{port}", timeout_seconds=LIMIT, **more)
    with session(access, max_bytes) as opened:
        return request(opened, access, "GET", "studies")


def test_what_only_says_that_an_answer_will_come_is_none():
    """Status 102 (WebDAV) and 103 (RFC 8297) come before the answer, as 100 does."""
    hints = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    with peer(whole(b"[]", hints + HEAD)) as port:
        answer = asked(port)
    assert (answer.status_code, answer.content) == (200, b"[]")


def searched(port):
    with searching(HttpAccess(url=f"http://127.0.0.1:{port}", timeout_seconds=LIMIT)) as client:
        client.search_for_studies()


@pytest.mark.parametrize(
    "says",
    [
        dripping(b"", drop=b"\r"),
        dripping(b"HTTP/1.1 200 OK\r\nX: "),
        dripping(b"", drop=b"HTTP/1.1 100 Continue\r\n\r\n"),
        dripping(b"", drop=b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\n"),
        dripping(HEAD + b"Content-Length: 1000000\r\n\r\n"),
        dripping(HEAD + b"\r\n"),
        dripping(CHUNKED, drop=b"1\r\nx\r\n"),
        dripping(CHUNKED + b"0\r\n", drop=b"X: y\r\n"),
    ],
    ids=["line", "header", "continue", "processing", "sized", "unsized", "chunks", "trailers"],
)
def test_a_server_that_drips_costs_its_time_limit(says):
    begin = time.monotonic()
    with peer(says) as port, pytest.raises(ConnectionFailedError, match="TIMEOUT: no whole answer in") as failed:
        asked(port)
    assert time.monotonic() - begin < 10 * LIMIT
    assert failed.value.http_status is None


def test_a_server_that_drips_through_tls_too(tmp_path):
    file, key = certificate(tmp_path, "server")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(file, key)
    begin = time.monotonic()
    with (
        peer(dripping(HEAD + b"Connection: close\r\n\r\n"), tls) as port,
        pytest.raises(ConnectionFailedError, match="TIMEOUT: no whole answer in"),
    ):
        asked(port, scheme="https", ca=file)
    assert time.monotonic() - begin < 10 * LIMIT


def test_a_search_has_the_same_limit():
    with peer(dripping(CHUNKED, drop=b"1\r\n[\r\n")) as port, pytest.raises(ConnectionFailedError, match="TIMEOUT"):
        searched(port)


@pytest.mark.parametrize(
    "says",
    [
        flowing(HEAD + b"\r\n", bytes(1 << 16)),
        flowing(CHUNKED, b"10000\r\n" + bytes(1 << 16) + b"\r\n"),
        whole(gzip.compress(bytes(50 << 20)), GZIP),
        whole(b"".join([gzip.compress(bytes(1 << 20))] * 50), GZIP),
    ],
    ids=["unsized", "chunks", "bomb", "bombs"],
)
def test_an_endless_answer_is_not_read_into_memory(says, monkeypatch):
    longest = [0]

    class Body(bytearray):
        def __iadd__(self, more):
            super().__iadd__(more)
            longest[0] = max(longest[0], len(self))
            return self

    monkeypatch.setattr(bounded, "bytearray", Body, raising=False)
    with peer(says) as port, pytest.raises(ConnectionFailedError, match="TOO_LONG: expected at most 3 MB"):
        asked(port, max_bytes=3 << 20)
    assert 2 << 20 < longest[0] < 4 << 20


def test_an_answer_that_unpacks_to_nothing_has_an_end():
    nothing = gzip.compress(b"") * 3000
    with (
        peer(flowing(GZIP + b"\r\n", nothing, stop=100)) as port,
        pytest.raises(ConnectionFailedError, match="TOO_LONG: expected at most 3 MB"),
    ):
        asked(port, max_bytes=3 << 20)


@pytest.mark.parametrize("head", [HEAD, GZIP], ids=["plain", "gzip"])
def test_an_answer_that_breaks_off_is_none(head):
    body = gzip.compress(bytes(1000)) if head is GZIP else bytes(1000)

    def says(ended):
        yield head + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2]

    with peer(says) as port, pytest.raises(ConnectionFailedError, match="BROKEN_OFF"):
        asked(port)


@pytest.mark.parametrize("coding", ["br", "gzip, gzip", "zstd"])
def test_a_coding_that_was_not_asked_for_is_an_error(coding):
    head = HEAD + f"Content-Encoding: {coding}\r\n".encode()
    with peer(whole(b"[]", head)) as port, pytest.raises(ConnectionFailedError, match="BROKEN_OFF"):
        asked(port)


@pytest.mark.parametrize(
    ("head", "content"), [(HEAD, b"[1]"), (GZIP, gzip.compress(b"[1", mtime=0) + gzip.compress(b"]", mtime=0))]
)
def test_what_ends_is_read(head, content):
    with peer(whole(content, head)) as port:
        assert asked(port).json() == [1]


def test_a_slow_answer_has_more_time_than_a_small_one(monkeypatch):
    """As much as its length allows: a large image over a slow line is no drip."""
    monkeypatch.setattr(bounded, "SLOWEST", 1000)
    pieces = [bytes(400)] * 5

    def says(ended):
        yield HEAD + b"Content-Length: 2000\r\n\r\n"
        for piece in pieces:
            ended.wait(0.15)
            yield piece

    with peer(says) as port:
        assert len(asked(port).content) == 2000


def test_one_connection_serves_many_requests():
    def stays(ended):
        yield HEAD + b"Content-Length: 2\r\n\r\n[]"

    with peer(stays) as port:
        access = HttpAccess(url=f"http://127.0.0.1:{port}", timeout_seconds=5)
        with session(access) as opened:
            connections = {_connection(opened, access) for _ in range(3)}
    assert len(connections) == 1


def _connection(opened, access):
    assert request(opened, access, "GET", "studies").json() == []
    (way,) = opened.get_adapter(access.url)._ways
    return way.sock.getsockname()


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("https://sso.example:8443/login?patient=Doe", "https://sso.example:8443"),
        ("/login?patient=Doe", "another path"),
    ],
)
def test_a_redirect_is_told_with_its_target_and_not_followed(target, told):
    def says(ended):
        yield f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode()

    with peer(says) as port, pytest.raises(ConnectionFailedError) as failed:
        searched(port)
    assert str(failed.value) == f"HTTP 302: expected an answer from this address, was sent to {told}"
    assert failed.value.http_status == 302
