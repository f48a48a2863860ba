"""Receipts of a real Orthanc, also through a proxy that hides or loses what it says."""

import urllib.error
import urllib.request
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from tests.integration.service.conftest import orthanc  # noqa: F401 - a fixture

SAYS = {"nothing of it": b"{}", "a page": b"<html>Sign in</html>", "nothing": b""}


@contextmanager
def before(server, says=None, *, loses=0, forwards=True):
    """Run a proxy before a web server: it puts other words in place of its answers to POST, or loses the first ones."""
    posts = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            posts.append(self.rfile.read(int(self.headers["Content-Length"])))
            status, content = self._forwarded(posts[-1]) if forwards else (200, b"")
            if len(posts) <= loses:
                self.close_connection = True
                return
            self._answer(status, content if says is None else says)

        def do_GET(self):
            self._answer(*self._forwarded(None))

        def _forwarded(self, content):
            kept = {name: self.headers[name] for name in ("Content-Type", "Accept") if self.headers[name]}
            asked = urllib.request.Request(f"http://127.0.0.1:{server.http_port}{self.path}", content, kept)
            try:
                with urllib.request.urlopen(asked, timeout=20) as answer:
                    return answer.status, answer.read()
            except urllib.error.HTTPError as error:
                return error.code, error.read()

        def _answer(self, status, content):
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    proxy = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    proxy.daemon_threads = True
    Thread(target=proxy.serve_forever, args=(0.002,), daemon=True).start()
    try:
        yield proxy.server_address[1], posts
    finally:
        proxy.shutdown()
        proxy.server_close()


def test_receipts_of_orthanc(spool, orthanc):  # noqa: F811
    """It names what it stored; a repeat and a query are answered; what it hides or loses is found."""
    there = orthanc()
    spool.carry(spool.web(there.http_port, timeout_seconds=20), ["delivered"] * 3)
    assert spool.said() == ["HTTP 200 0x0000"]
    assert there.sop_instance_uids() == set(spool.uids)
    for says in SAYS.values():
        again(spool)
        with before(there, says) as (port, _):
            spool.carry(spool.web(port, timeout_seconds=20), ["delivered"] * 3)
        assert spool.said() == ["FOUND"]
    again(spool)
    with before(there, loses=1) as (port, posts):
        spool.carry(spool.web(port, timeout_seconds=20), ["delivered"] * 3)
    assert len(posts) == 1
    assert spool.said() == ["FOUND"]
    assert there.sop_instance_uids() == set(spool.uids)


def test_what_orthanc_does_not_have_is_not_delivered(spool, orthanc):  # noqa: F811
    """A proxy that says yes to everything, and forwards nothing but queries."""
    with before(orthanc(), b"{}", forwards=False) as (port, posts):
        spool.web(port, timeout_seconds=20).carry()
    assert (spool.states(), spool.said(), len(posts)) == (["waiting"] * 3, ["HTTP 200"], 1 + 3)


def again(spool):
    """Let everything wait once more, as after a ledger that was put back."""
    with spool.ledger.transaction() as connection:
        connection.execute("UPDATE deliveries SET state = 'waiting', next_attempt_at = NULL")
