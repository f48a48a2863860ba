"""A fetch is tried again where that may help, and only there; what an answer means is in its fields."""

import pickle
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cxr_dicom.config.service import HttpAccess
from cxr_dicom.errors import ConnectionFailedError, FetchError, SettingsError
from cxr_dicom.ingest.manifest.attempts import ATTEMPTS, tried
from cxr_dicom.system.network import answered, request, searching, session
from tests.service_helpers import free_port


@contextmanager
def server(status, body=b""):
    """Answer everything with one status; yields the way there."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status, "words that mean nothing: HTTP 200")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield HttpAccess(url=f"http://127.0.0.1:{running.server_port}", timeout_seconds=5)
        running.shutdown()


@pytest.fixture
def pauses(monkeypatch):
    made = []
    monkeypatch.setattr("cxr_dicom.ingest.manifest.attempts.time.sleep", made.append)
    return made


@pytest.mark.parametrize(
    ("status", "attempts"), [(404, 1), (403, 1), (400, 1), (429, ATTEMPTS), (408, ATTEMPTS), (503, ATTEMPTS)]
)
def test_an_http_status_decides(pauses, status, attempts):
    calls = []

    def fetch():
        calls.append(status)
        with session(access) as opened:
            raise answered(request(opened, access, "GET", "studies"))

    with server(status) as access, pytest.raises(FetchError, match=f"HTTP {status}") as failed:
        tried("http://x", fetch)
    assert failed.value.__cause__.http_status == status
    assert (len(calls), len(pauses)) == (attempts, attempts - 1)


def test_a_search_carries_the_status_of_its_answer():
    for status, body in ((503, b""), (200, b"no JSON")):
        with (
            server(status, body) as access,
            pytest.raises(ConnectionFailedError) as failed,
            searching(access) as client,
        ):
            client.search_for_studies()
        assert failed.value.http_status == status


def test_a_place_that_does_not_answer_is_tried_again_and_has_no_status(pauses):
    access = HttpAccess(url=f"http://127.0.0.1:{free_port()}", timeout_seconds=5)

    def fetch():
        with session(access) as opened:
            request(opened, access, "GET", "studies")

    with pytest.raises(FetchError, match="UNREACHABLE") as failed:
        tried("http://x", fetch)
    assert failed.value.__cause__.http_status is None
    assert len(pauses) == ATTEMPTS - 1


@pytest.mark.parametrize("error", [FileNotFoundError(2, "gone"), SettingsError("x"), ImportError("boto3")])
def test_what_cannot_pass_is_not_tried_again(pauses, error):
    def fetch():
        raise error

    with pytest.raises(FetchError):
        tried("x", fetch)
    assert not pauses


@pytest.mark.parametrize(("asked", "made"), [(30.0, 30.0), (900.0, 60.0)])
def test_the_pause_that_is_asked_for_is_made_within_a_minute(pauses, asked, made):
    def fetch():
        raise ConnectionFailedError("HTTP 429", "", asked, http_status=429)

    with pytest.raises(FetchError):
        tried("x", fetch)
    assert set(pauses) == {made}


def test_the_fields_of_an_error_cross_processes():
    error = pickle.loads(pickle.dumps(ConnectionFailedError("HTTP 503", "busy", 3.0, http_status=503)))
    assert (error.http_status, error.retry_after, error.detail, str(error)) == (503, 3.0, "busy", "HTTP 503: busy")
