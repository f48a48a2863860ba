"""STOW-RS: what becomes of each answer that a server, a proxy or a login page may give."""

from dataclasses import replace

import pytest

from cxr_dicom.config import Settings
from cxr_dicom.deliver import build_destination
from cxr_dicom.errors import ConnectionFailedError
from cxr_dicom.records import DeliveryStatus
from tests.deliver.helpers import STORED, failed, item, response, uid_of, web

HTML = b"<html><title>Sign in</title></html>"


def destination(port):
    table = {"kind": "dicomweb", "name": "pacs", "url": f"http://127.0.0.1:{port}/dicom-web", "timeout_seconds": 5}
    settings = Settings.model_validate({"destinations": [table]})
    return build_destination(settings.destinations[0], lambda uid: None)


def told(made, status, body=None, *, headers=(), finds=False):
    """Return verdict, status and detail of the receipt when the server gives this answer."""
    with web(lambda n, post: (status, dict(headers), body), finds=lambda uid: finds) as (port, _):
        (receipt,) = destination(port).send([made])
    return receipt.delivery_status, receipt.status, receipt.detail


UNNAMED = [
    (200, {}),
    (200, HTML),
    (200, None),
    (200, response(stored=[item("2.25.3")])),
    (202, None),
    (204, None),
    (299, b"null"),
]


@pytest.mark.parametrize(("status", "body"), UNNAMED)
def test_success_that_names_nothing_is_no_receipt(made, status, body):
    verdict, word, detail = told(made, status, body)
    assert (verdict, word) == (DeliveryStatus.FAILED, f"HTTP {status}")
    assert detail == "the answer does not name the object, and a query does not find it"


@pytest.mark.parametrize(("status", "body"), UNNAMED)
def test_unless_a_query_finds_the_object(made, status, body):
    assert told(made, status, body, finds=True)[:2] == (DeliveryStatus.ACCEPTED, f"HTTP {status} FOUND")


def test_what_a_query_finds_later_is_not_sent_again(made):
    there = []
    with web(lambda n, post: (202, {}, None), finds=there.__contains__) as (port, posts):
        pacs = destination(port)
        assert [r.delivery_status for r in pacs.send([made])] == [DeliveryStatus.FAILED]
        there.append(made.sop_instance_uid)
        assert [r.status for r in pacs.send([made])] == ["FOUND"]
    assert len(posts) == 1


@pytest.mark.parametrize("declared", ["application/dicom+json", "application/dicom+xml", "text/html", "", "nonsense"])
@pytest.mark.parametrize("status", [200, 202, 409])
def test_a_body_that_names_the_object_counts_whatever_it_is_declared_as(made, status, declared):
    assert told(made, status, STORED, headers={"Content-Type": declared})[0] is DeliveryStatus.ACCEPTED


@pytest.mark.parametrize(
    ("body", "finds", "verdict"),
    [
        (failed(45070), False, DeliveryStatus.ACCEPTED),  # Azure DICOM service, conformance statement v2
        (failed(0x0111), False, DeliveryStatus.ACCEPTED),  # duplicate SOP instance, PS3.7 C.5.8
        (failed(45071), False, DeliveryStatus.FAILED),  # Azure: being created by another process
        (failed(272), True, DeliveryStatus.ACCEPTED),  # Google: exists already, with tags that a router changed
        (failed(272), False, DeliveryStatus.FAILED),
        (failed(43264), False, DeliveryStatus.REFUSED),
        (None, True, DeliveryStatus.ACCEPTED),
        (None, False, DeliveryStatus.REFUSED),
    ],
)
def test_409_of_what_is_there_already_is_success(made, body, finds, verdict):
    assert told(made, 409, body, finds=finds)[0] is verdict


def test_an_answer_that_cannot_be_read_is_asked_for_before_the_object_is_sent_again(made):
    """A transfer coding that breaks off each time: the object is stored, and nobody can say so but a query."""
    with web(lambda n, post: (200, {"Content-Encoding": "gzip"}, b"no gzip"), finds=lambda uid: True) as (port, posts):
        pacs = destination(port)
        with pytest.raises(ConnectionFailedError, match="BROKEN_OFF"):
            list(pacs.send([made]))
        assert [r.status for r in pacs.send([made])] == ["FOUND"]
    assert len(posts) == 1


def test_an_answer_that_was_lost_costs_a_repeat_and_no_object(made):
    """The server stores the object and hangs up; asked again, it says that it has it."""
    stored = set()

    def answer(number, post):
        if uid_of(post) in stored:
            return 409, {}, failed(45070)
        stored.add(uid_of(post))
        raise ConnectionAbortedError

    with web(answer) as (port, posts):
        pacs = destination(port)
        with pytest.raises(ConnectionFailedError, match="BROKEN_OFF"):
            list(pacs.send([made]))
        assert [r.delivery_status for r in pacs.send([made])] == [DeliveryStatus.ACCEPTED]
    assert len(posts) == 2


@pytest.mark.parametrize(
    "status",
    [
        *(300, 301, 302, 303, 307, 308, 401, 403, 404, 405, 406, 407, 408, 410, 411, 421, 424, 425, 429, 431, 499),
        *(501, 502, 503, 504, 505, 507, 511, 599),
    ],
)
def test_what_is_about_the_server_is_no_refusal_of_the_object(made, status):
    with pytest.raises(ConnectionFailedError) as trouble:
        told(made, status, HTML, headers={"Retry-After": "7"})
    assert (trouble.value.status, trouble.value.http_status) == (f"HTTP {status}", status)
    assert trouble.value.retry_after == 7


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(400, "refused"), (409, "refused"), (413, "refused"), (415, "unsupported"), (422, "refused"), (500, "failed")],
)
def test_what_is_about_the_object_is_its_answer(made, status, verdict):
    assert told(made, status, HTML)[:2] == (verdict, f"HTTP {status}")


def test_413_says_how_large_the_object_is_and_waits_where_it_is_told_to(made):
    assert told(made, 413)[2] == f"larger than the server takes: {made.path.stat().st_size} bytes"
    assert told(made, 413, headers={"Retry-After": "60"})[0] is DeliveryStatus.FAILED


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_told_with_its_target_and_without_what_may_be_secret(made, status):
    with pytest.raises(ConnectionFailedError) as trouble:
        told(made, status, headers={"Location": "https://other.example:8443/stow?token=secret#secret"})
    assert trouble.value.detail == "expected an answer from this address, was sent to https://other.example:8443"


@pytest.mark.parametrize(
    ("status", "headers"), [(308, {"Location": "http://[bad"}), (302, {"Location": "http://host:port/"})]
)
def test_a_header_that_makes_no_sense_is_trouble_of_the_server(made, status, headers):
    with pytest.raises(ConnectionFailedError):
        told(made, status, headers=headers)


@pytest.mark.parametrize("found", [b"[" * 200_000, b"null", b"[null]", b"<html>", b'[{"00080018": {"Value": null}}]'])
def test_a_query_that_cannot_be_read_finds_nothing(made, found):
    with web(lambda n, post: (200, {}, None), finds=lambda uid: found) as (port, _):
        pacs = destination(port)
        assert [r.delivery_status for r in pacs.send([made])] == [DeliveryStatus.FAILED]
        with pytest.raises(ConnectionFailedError):
            list(pacs.verify([made]))


def test_a_file_that_is_gone_holds_up_no_other(made, tmp_path):
    gone = replace(made, path=tmp_path / "gone.dcm")
    with web(lambda n, post: (200, {}, STORED)) as (port, posts):
        first, second = destination(port).send([gone, made])
    assert (first.delivery_status, first.status) == (DeliveryStatus.FAILED, "UNREADABLE")
    assert second.delivery_status is DeliveryStatus.ACCEPTED
    assert len(posts) == 1
