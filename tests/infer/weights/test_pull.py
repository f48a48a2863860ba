"""Fetching from a real HTTP server that drops the connection half way."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cxr_dicom.config import ModelSettings, Settings
from cxr_dicom.errors import WeightsError
from cxr_dicom.infer import model_infos
from cxr_dicom.infer.weights import pull as weights_pull

NAME = "xrv-densenet121-rsna"
DATA = bytes(range(256)) * 20_480  # 80 chunks


class Server:
    """Serves one file; `plan` says how each request goes."""

    def __init__(self, data=DATA):
        self.data, self.requests, self.plan = data, [], []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def log_message(self, *arguments):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/release"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, handler):
        self.requests.append((handler.path, handler.headers.get("Range")))
        plan = self.plan.pop(0) if self.plan else "whole"
        start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        if plan == "ignore range":
            start = 0
        if plan in (404, 500):
            return handler.send_error(plan)
        if start >= len(self.data):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.data)}")
            handler.send_header("Content-Length", "0")
            return handler.end_headers()
        rest = self.data[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.data) - 1}/{len(self.data)}")
        handler.send_header("Content-Length", str(len(rest)))
        handler.end_headers()
        handler.wfile.write(rest[: len(rest) // 2] if plan == "drop" else b"" if plan == "nothing" else rest)
        handler.wfile.flush()
        handler.close_connection = True
        return None


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture
def info():
    return model_infos()[NAME]


@pytest.fixture
def settings(server, tmp_path):
    return Settings(models=ModelSettings(folder=tmp_path / "models_data", mirror=server.url))


def pull(info, settings):
    told = []
    place = weights_pull.pull(info, settings, lambda done, total: told.append((done, total)))
    return place, told


def test_a_file_arrives_whole_and_under_its_name(info, settings, server):
    place, told = pull(info, settings)
    assert place.name == info.weights_file
    assert place.read_bytes() == DATA
    assert told[-1] == (len(DATA), len(DATA))
    assert [path.name for path in place.parent.iterdir()] == [place.name]
    assert server.requests == [(f"/release/{info.weights_file}", None)]


def test_a_dropped_connection_is_continued_where_it_broke(info, settings, server):
    server.plan = ["drop", "drop", "drop"]
    place, told = pull(info, settings)
    assert place.read_bytes() == DATA
    ranges = [sent for _, sent in server.requests]
    assert ranges[0] is None
    assert [int(sent[6:-1]) for sent in ranges[1:]] == [len(DATA) // 2, len(DATA) * 3 // 4, len(DATA) * 7 // 8]
    assert all(total == len(DATA) for _, total in told)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_what_torchxrayvision_left_is_continued(info, settings, server):
    part = settings.models.folder / (info.weights_file + ".part")
    part.parent.mkdir()
    part.write_bytes(DATA[:1000])
    place, _ = pull(info, settings)
    assert place.read_bytes() == DATA
    assert server.requests == [(f"/release/{info.weights_file}", "bytes=1000-")]
    assert not part.exists()


def test_a_server_that_ignores_the_range_sends_the_whole_file_once(info, settings, server):
    server.plan = ["drop", "ignore range"]
    place, _ = pull(info, settings)
    assert place.read_bytes() == DATA


def test_a_part_that_is_already_whole_is_accepted(info, settings, server):
    part = settings.models.folder / (info.weights_file + ".part")
    part.parent.mkdir()
    part.write_bytes(DATA)
    assert pull(info, settings)[0].read_bytes() == DATA


def test_a_part_that_is_too_long_is_dropped(info, settings, server):
    part = settings.models.folder / (info.weights_file + ".part")
    part.parent.mkdir()
    part.write_bytes(DATA + b"more")
    assert pull(info, settings)[0].read_bytes() == DATA


def test_a_connection_that_gives_nothing_ends_after_some_tries(info, settings, server):
    server.plan = ["drop"] + ["nothing"] * 20
    with pytest.raises(WeightsError, match=rf"failed {weights_pull.ATTEMPTS} times.*{len(DATA) // 2} bytes are kept"):
        pull(info, settings)
    server.plan = []
    assert pull(info, settings)[0].read_bytes() == DATA


@pytest.mark.parametrize("status", [404, 500])
def test_a_refusal_names_the_address_and_the_way_without_a_network(status, info, settings, server):
    server.plan = [status]
    with pytest.raises(WeightsError, match=rf"{info.weights_file}: {status}.*models import"):
        pull(info, settings)
    assert list(settings.models.folder.iterdir()) == []


def test_a_pinned_digest_is_compared_before_the_file_gets_its_name(info, settings, server):
    wrong = settings.models.model_copy(update={"sha256": {NAME: "0" * 64}})
    with pytest.raises(WeightsError, match=r"pinned in models\.sha256"):
        pull(info, settings.model_copy(update={"models": wrong}))
    assert not (settings.models.folder / info.weights_file).exists()
    right = settings.models.model_copy(update={"sha256": {NAME: hashlib.sha256(DATA).hexdigest()}})
    assert pull(info, settings.model_copy(update={"models": right}))[0].exists()


def test_the_proxy_of_the_environment_is_used(info, settings, server, tmp_path, monkeypatch):
    """The server stands for a proxy: it is asked for the whole address of another machine."""
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/release"))
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    elsewhere = settings.models.model_copy(update={"mirror": "http://weights.invalid/x"})
    assert pull(info, settings.model_copy(update={"models": elsewhere}))[0].read_bytes() == DATA
    assert server.requests[0][0] == f"http://weights.invalid/x/{info.weights_file}"


def test_the_ensemble_of_chexpert_is_not_served(settings):
    with pytest.raises(WeightsError, match=r"not served by HTTP; fetch it from https://academictorrents"):
        pull(model_infos()["chexpert"], settings)


def test_without_a_mirror_the_address_is_that_of_torchxrayvision(info):
    assert weights_pull.address(info, Settings()) == info.weights_url
