"""Why a peer cannot be reached is told in words, the same for DICOM and for DICOMweb."""

import socket
import ssl
import threading
from contextlib import contextmanager, suppress

import pytest
from pynetdicom import AE, build_context
from pynetdicom.sop_class import Verification

from cxr_dicom.config.service import DicomAccess, HttpAccess
from cxr_dicom.errors import ConnectionFailedError
from cxr_dicom.system.network import association, request, session
from tests.service_helpers import associated, certificate, free_port


def by_dicom(port, address="127.0.0.1", **more):
    access = DicomAccess(address=address, port=port, ae_title="ARCHIVE", timeout_seconds=1, **more)
    with association(access, [build_context(Verification)]):
        pass


def by_web(port, address="127.0.0.1", *, tls=False, **more):
    url = f"http{'s' if tls else ''}://{address}:{port}"
    access = HttpAccess(url=url, timeout_seconds=1, **more)
    with session(access) as opened:
        request(opened, access, "GET", "studies")


WAYS = pytest.mark.parametrize("way", [by_dicom, by_web])


def told(way, *arguments, **options):
    with pytest.raises(ConnectionFailedError) as trouble:
        way(*arguments, **options)
    return trouble.value.status, trouble.value.detail


@contextmanager
def peer(says=b"", tls=None, *, closes=True):
    """Accept, say something once spoken to, and hang up; yields the port."""
    server, ended = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def answer(connection):
        with suppress(OSError), connection:
            way = tls.wrap_socket(connection, server_side=True) if tls else connection
            way.recv(1 << 16)
            way.sendall(says)
            if not closes:
                ended.wait(10)

    def accept():
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        ended.set()
        server.close()


@WAYS
def test_nobody_listens(way):
    status, detail = told(way, free_port())
    assert status == "UNREACHABLE"
    assert detail.endswith(": connection refused: nothing listens there")


@WAYS
def test_a_name_that_does_not_resolve(way):
    status, detail = told(way, 104, address="pacs.invalid")
    assert status == "UNREACHABLE"
    assert detail.endswith(": the name pacs.invalid does not resolve")


@WAYS
def test_a_peer_that_hangs_up(way):
    with peer() as port:
        status, detail = told(way, port)
    assert status in ("UNREACHABLE", "BROKEN_OFF")  # by HTTP it may have been for what was sent
    assert detail.endswith("closed the connection")


@WAYS
def test_a_connection_that_nobody_takes(way):
    """A full queue of a listener that never accepts looks like a firewall that drops."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        with socket.socket() as first, socket.socket() as second:
            for each in (first, second):
                each.setblocking(False)
                each.connect_ex(("127.0.0.1", port))
            status, detail = told(way, port)
    assert status == "UNREACHABLE"
    assert detail.endswith(": timed out")


def test_what_is_not_dicom():
    with peer(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert told(by_dicom, port) == ("UNREACHABLE", f"ARCHIVE at 127.0.0.1:{port} is not DICOM: speaks HTTP")
    with peer(b"SSH-2.0-OpenSSH_9.2\r\n") as port:
        assert told(by_dicom, port)[1].endswith(" is not DICOM: speaks something else")
    with peer(b"\x15\3\3\0\2\2\x46") as port:
        assert told(by_dicom, port)[1].endswith(" is not DICOM: speaks TLS")


def test_what_is_not_http():
    with peer(b"\3\0\0\0\0\4\0\1\1\1") as port:
        assert told(by_web, port)[1].endswith(": answers, but not by HTTP")


def test_a_peer_that_says_nothing():
    with peer(closes=False) as port:
        assert told(by_dicom, port)[1] == f"ARCHIVE at 127.0.0.1:{port} accepted no association in 1 s"
        assert told(by_web, port) == ("TIMEOUT", "no whole answer in 1 s")


# --- TLS -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return certificate(tmp_path_factory.mktemp("authority"), "authority")


@contextmanager
def secured(folder, name="server", *, ca=None, **more):
    """Run a peer that shows a certificate, and wants one of the same authority when ``ca`` is given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate(folder, name, **more))
    if ca:
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
    with peer(tls=context) as port:
        yield port


@WAYS
def test_tls_to_a_plain_port(way):
    with peer(b"\7\0\0\0\0\4\0\0\2\2") as port:
        assert told(way, port, tls=True)[1].endswith(": speaks no TLS: a plain port")
    with peer() as port:
        assert "a plain port" in told(way, port, tls=True)[1]


@WAYS
def test_a_certificate_that_expired_is_told_with_its_date(way, tmp_path, authority):
    with secured(tmp_path, authority=authority, expired=True) as port:
        detail = told(way, port, tls=True, ca=authority[0])[1]
    assert detail.endswith(": its certificate expired on Jan  2 00:00:00 2020 GMT")


@WAYS
def test_a_certificate_of_another_host_is_told_with_its_names(way, tmp_path, authority):
    with secured(tmp_path, authority=authority, host="other.example", address="192.0.2.1") as port:
        detail = told(way, port, tls=True, ca=authority[0])[1]
        assert detail.endswith(": its certificate is of other.example, 192.0.2.1, not of 127.0.0.1")
        detail = told(way, port, address="localhost", tls=True, ca=authority[0])[1]
        assert detail.endswith(": its certificate is of other.example, 192.0.2.1, not of localhost")


@WAYS
def test_a_certificate_that_nobody_signed(way, tmp_path):
    with secured(tmp_path) as port:
        assert told(way, port, tls=True)[1].endswith(": its certificate is signed by nobody that we trust (ca)")


# --- rejections ----------------------------------------------------------------------------------


@contextmanager
def rejecting(**settings):
    entity = AE("ARCHIVE")
    entity.add_supported_context(Verification)
    for name, value in settings.items():
        setattr(entity, name, value)
    server = entity.start_server(("127.0.0.1", 0), block=False)
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    ("settings", "status", "why"),
    [
        ({"require_called_aet": True, "ae_title": "OTHER"}, "REJECTED", "its AE title is not ARCHIVE"),
        ({"require_calling_aet": ["OTHER"]}, "REJECTED", "it does not know the calling AE title CXRDICOM"),
    ],
)
def test_a_rejection_says_why(settings, status, why):
    with rejecting(**settings) as port:
        told_status, detail = told(by_dicom, port)
    assert (told_status, detail) == (status, f"ARCHIVE at 127.0.0.1:{port} rejected the association: {why}")


def test_a_peer_whose_slots_are_taken_is_busy():
    with rejecting(maximum_associations=1) as port, associated(port, Verification) as first:
        assert first.is_established
        status, detail = told(by_dicom, port)
    assert (status, detail.rpartition(": ")[2]) == ("BUSY", "it has as many associations as it takes")
