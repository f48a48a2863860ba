"""Destinations that are down, refuse, are slow, half-open, fail now and then, or say one thing and mean another."""

import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest
from pydicom.uid import ComputedRadiographyImageStorage

from cxr_dicom.config import Settings
from cxr_dicom.deliver import build_destination
from cxr_dicom.service.breaker import Breaker
from cxr_dicom.service.courier import Courier
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.synthetic import radiograph
from tests.deliver.helpers import STORED, failed, web
from tests.service_helpers import archive, certificate, free_port

DX = (radiograph(32, 32).SOPClassUID,)


def test_down_for_a_while(spool):
    port = free_port()
    made = spool.dicom(port)
    assert made.carry()
    assert (spool.states(), spool.said()) == (["waiting"] * 3, ["UNREACHABLE"])
    assert not made.carry()  # left alone
    with archive(contexts=DX, port=port) as (_, received):
        spool.carry(made, ["delivered"] * 3)
    assert sorted(received) == sorted(spool.uids)


def test_a_name_that_does_not_resolve_is_an_outage_too(spool):
    courier = spool.courier(kind="dicom", address="pacs.invalid", port=104, ae_title="PACS")
    assert courier.carry()
    assert not courier.carry()  # left alone
    story = spool.ledger.stories.show(spool.study)
    for each in story["objects"]:
        (delivery,) = each["deliveries"]
        assert (delivery["status"], delivery["attempts"]) == ("UNREACHABLE", 1)
        assert delivery["detail"] == "PACS at pacs.invalid:104: the name pacs.invalid does not resolve"
        assert delivery["next_attempt_at"] is not None


def test_refusing_for_good(spool):
    with archive(contexts=DX, status=0xA900) as (port, _):
        spool.carry(spool.dicom(port), ["refused"] * 3)
    assert spool.said() == ["0xA900"]
    assert spool.ledger.stories.show(spool.study)["state"] == "DEAD"


def test_every_third_fails_and_only_that_is_sent_again(spool):
    with archive(contexts=DX, status=lambda number: 0xA700 if number % 3 == 2 else 0x0000) as (port, received):
        spool.carry(spool.dicom(port), ["delivered"] * 3)
    assert [len(copies) for copies in received.values()] == [1, 1, 1]


def test_a_warning_is_a_delivery(spool):
    with archive(contexts=DX, status=0xB000) as (port, _):
        spool.carry(spool.dicom(port), ["delivered"] * 3)
    assert spool.said() == ["0xB000"]


def test_a_sop_class_that_is_not_taken(spool):
    with archive(contexts=(ComputedRadiographyImageStorage,)) as (port, _):
        spool.carry(spool.dicom(port), ["refused"] * 3)
    assert spool.said() == ["CONTEXT_REJECTED"]


def test_half_open_accepts_and_never_answers(spool):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        spool.dicom(port).carry()
        assert spool.said() == ["UNREACHABLE"]
        spool.ledger.deliveries.retry(spool.study)
        spool.web(port).carry()
        assert spool.said() == ["UNREACHABLE"]
    assert spool.states() == ["waiting"] * 3


def test_one_answer_that_comes_too_late_costs_a_repeat_and_no_object(spool):
    never = threading.Event()

    def answer(number):
        never.wait(3 if number == 0 else 0)  # the courier waits for 1 s
        return 0x0000

    with archive(contexts=DX, status=answer) as (port, received):
        spool.carry(spool.dicom(port), ["delivered"] * 3)
    assert sorted(received) == sorted(spool.uids)


def test_stow_sends_the_bytes_of_the_file(spool):
    with web(lambda n, post: (200, {}, STORED)) as (port, posts):
        spool.carry(spool.web(port), ["delivered"] * 3)
    files = [path.read_bytes() for path in (spool.folder / "objects").glob("*.dcm")]
    assert all(sum(file in post for post in posts) == 1 for file in files)


@pytest.mark.parametrize("status", [200, 202])
def test_a_failure_inside_success_is_a_refusal(spool, status):
    with web(lambda n, post: (status, {}, failed(0xC122))) as (port, _):
        spool.carry(spool.web(port), ["refused"] * 3)
    assert spool.said() == [f"HTTP {status} 0xC122"]


def test_out_of_resources_inside_success_is_tried_again(spool):
    with web(lambda n, post: (200, {}, failed(0xA700) if n < 2 else STORED)) as (port, posts):
        spool.carry(spool.web(port), ["delivered"] * 3)
    assert len(posts) == 5


def test_an_object_that_is_there_already_is_delivered(spool):
    with web(lambda n, post: (409, {}, failed(0x0111))) as (port, _):
        spool.carry(spool.web(port), ["delivered"] * 3)


def test_429_is_honoured(spool):
    with web(lambda n, post: (429, {"Retry-After": "120"}, None)) as (port, posts):
        made = spool.web(port)
        made.carry()
        made.carry()
    assert len(posts) == 1
    story = spool.ledger.stories.show(spool.study)
    due = [each["deliveries"][0]["next_attempt_at"] - time.time() for each in story["objects"]]
    assert all(100 < seconds <= 120 for seconds in due)


def test_503_passes(spool):
    with web(lambda n, post: (503 if n == 0 else 200, {}, STORED)) as (port, posts):
        spool.carry(spool.web(port), ["delivered"] * 3)
    assert len(posts) == 4


def test_a_redirect_is_not_followed_with_our_token(spool):
    with web(lambda n, post: (307, {"Location": "http://127.0.0.1:1/"}, None)) as (port, _):
        spool.web(port).carry()
    assert (spool.states(), spool.said()) == (["waiting"] * 3, ["UNREACHABLE"])


def test_a_folder_that_cannot_be_written_waits(spool, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where a folder should be")
    made = Settings.model_validate(
        {"destinations": [{"name": "pacs", "kind": "folder", "path": blocked}]}
    ).destinations[0]
    carrier = Courier(build_destination(made, lambda uid: None), spool.ledger, AuditTrail(spool.folder), spool.spool)
    carrier.carry()
    assert spool.states() == ["waiting"] * 3
    blocked.unlink()
    spool.carry(carrier, ["delivered"] * 3)
    assert len(list(blocked.glob("*/*.dcm"))) == 3


def test_the_breaker_opens_for_growing_pauses():
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    pauses = [breaker.failed() for _ in range(12)]
    assert pauses[0] <= 1
    assert pauses[-1] >= 450
    assert breaker.is_open
    now[0] = 1000.0
    assert not breaker.is_open
    breaker.succeeded()
    assert breaker.failed() <= 1


# --- through a proxy, and with a client certificate ----------------------------------------------


@contextmanager
def proxy(origin):
    """Run a proxy that passes all on to port ``origin``, whatever host was asked for; yield (port, request lines)."""
    asked = []

    class Handler(StreamRequestHandler):
        def handle(self):
            head = [self.rfile.readline()]
            while head[-1] not in (b"\r\n", b""):
                head.append(self.rfile.readline())
            asked.append(head[0].decode().split()[:2])
            with socket.create_connection(("127.0.0.1", origin)) as onward:
                if head[0].startswith(b"CONNECT"):
                    self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                else:
                    onward.sendall(b"".join(head))
                back = threading.Thread(target=pump, args=(onward.makefile("rb", 0), self.connection))
                back.start()
                pump(self.rfile, onward)
                back.join()

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], asked
        server.shutdown()


def pump(source, target):
    with suppress(OSError):  # either side may hang up
        while data := source.read1(1 << 16) if hasattr(source, "read1") else source.read(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def mutual(tmp_path):
    """Give the TLS context of a server that asks for certificates, and the settings of a client that has one."""
    authority = certificate(tmp_path, "authority")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority[0])
    context.load_cert_chain(*certificate(tmp_path, "server", authority=authority))
    context.verify_mode = ssl.CERT_REQUIRED
    client = tmp_path / "client.both"
    client.write_text("".join(each.read_text() for each in certificate(tmp_path, "client", authority=authority)))
    return context, {"ca": authority[0], "client_certificate": client}


def taken(number, post):
    return 200, {}, STORED


@pytest.fixture
def misleading(monkeypatch, tmp_path):
    """Let the environment name another proxy and other authorities; the settings count more."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate(tmp_path, "stranger")[0]))


def test_through_a_proxy_that_forwards(spool, misleading):
    with web(taken) as (origin, posts), proxy(origin) as (port, asked):
        spool.carry(
            spool.web(80, host="pacs.invalid", proxy=f"http://127.0.0.1:{port}"),
            ["delivered"] * 3,
        )
    assert len(posts) == 1
    assert {url.partition(":80")[0] for _, url in asked} == {"http://pacs.invalid"}


def test_with_a_client_certificate_through_a_proxy_that_connects(spool, mutual, misleading):
    context, access = mutual
    with web(taken, tls=context) as (origin, posts), proxy(origin) as (port, asked):
        spool.carry(
            spool.web(443, "https", "localhost", proxy=f"http://127.0.0.1:{port}", **access),
            ["delivered"] * 3,
        )
    assert len(posts) == 1
    assert asked[0] == ["CONNECT", "localhost:443"]


def test_the_proxy_of_the_environment_is_the_default(spool, monkeypatch):
    with web(taken) as (origin, posts), proxy(origin) as (port, _):
        for name in ("http_proxy", "HTTP_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        spool.carry(spool.web(80, host="pacs.invalid"), ["delivered"] * 3)
    assert len(posts) == 1


def test_a_proxy_that_is_down_is_waited_for(spool):
    with web(taken) as (origin, posts):
        spool.web(origin, proxy=f"http://127.0.0.1:{free_port()}").carry()
    assert (spool.states(), spool.said(), posts) == (["waiting"] * 3, ["UNREACHABLE"], [])


@pytest.mark.parametrize("lacking", ["client_certificate", "ca"])
def test_who_shows_no_certificate_or_trusts_nobody_sends_nothing(spool, mutual, lacking):
    context, access = mutual
    with web(taken, tls=context) as (port, posts):
        del access[lacking]
        spool.web(port, "https", "localhost", **access).carry()
    assert (spool.states(), spool.said(), posts) == (["waiting"] * 3, ["UNREACHABLE"], [])
