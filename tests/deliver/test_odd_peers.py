"""Peers as trackers of others describe them: each answers in its own way, and the objects arrive."""

import struct
import time
from contextlib import suppress

import pytest

from cxr_dicom.errors import ConnectionFailedError
from cxr_dicom.records import DeliveryStatus
from tests.deliver import raw_peer
from tests.deliver.helpers import STORED, uid_of, uids_of, web
from tests.deliver.raw_peer import answer, element, item, pdu, peer, read_pdu, read_request
from tests.deliver.test_hostile_peers import destination as patient
from tests.deliver.test_store_answers import destination


def dicom(port):
    return patient(port, timeout_seconds=10)


XML = (
    '<?xml version="1.0" encoding="UTF-8"?><NativeDicomModel xml:space="preserve">'
    '<DicomAttribute tag="00081190" vr="UR" keyword="RetrieveURL"><Value number="1">http://x/</Value></DicomAttribute>'
    '<DicomAttribute tag="{}" vr="SQ"><Item number="1">{}<DicomAttribute tag="00081155" vr="UI">'
    '<Value number="1">{}</Value></DicomAttribute></Item></DicomAttribute></NativeDicomModel>'
)
REASON = '<DicomAttribute tag="00081197" vr="US"><Value number="1">{}</Value></DicomAttribute>'


def stored(uid, namespace=""):
    return XML.replace("NativeDicomModel xml", f"NativeDicomModel {namespace} xml").format("00081199", "", uid).encode()


def sent(made, answers, times=1):
    """Return the receipts, and the head of each request."""
    with web(answers) as (port, heads):
        pacs = destination(port)
        receipts = [receipt for _ in range(times) for receipt in pacs.send([made])]
    return receipts, heads.heads


def accepts(heads):
    return [each["Accept"] for each in heads]


@pytest.mark.parametrize("namespace", ["", 'xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM"'])
def test_a_receipt_in_xml_is_one(made, namespace):
    """Google's Healthcare API and DICOMcloud send XML of the Native DICOM Model (PS3.19 A.1)."""
    (receipt,), _ = sent(made, lambda n, post: (200, {}, stored(uid_of(post), namespace)))
    assert (receipt.delivery_status, receipt.status) == (DeliveryStatus.ACCEPTED, "HTTP 200 0x0000")


@pytest.mark.parametrize(
    ("reason", "verdict"), [(45070, "accepted"), (45071, "failed"), (43264, "refused"), (272, "failed")]
)
def test_a_refusal_in_xml_has_its_reason(made, reason, verdict):
    body = lambda post: XML.format("00081198", REASON.format(reason), uid_of(post)).encode()  # noqa: E731
    (receipt,), _ = sent(made, lambda n, post: (409, {}, body(post)))
    assert receipt.delivery_status == verdict


@pytest.mark.parametrize(
    "spoil",
    [
        lambda xml: xml[:-30],
        lambda xml: xml.replace(b"NativeDicomModel", b"html"),
        lambda xml: xml.replace(b"<NativeDicomModel", b'<!DOCTYPE x [<!ENTITY a "1">]><NativeDicomModel', 1),
        lambda xml: xml.replace(b"<Item", b"<a>" * 40 + b"<Item", 1),
        lambda xml: xml.replace(b"<Item", b"<Value><Item", 1),
        lambda xml: xml.replace(b'tag="', b'tug="'),
        lambda xml: xml + b" " * (1 << 20),
        lambda xml: b"<" + xml,
    ],
)
def test_other_xml_is_no_receipt(made, spoil):
    (receipt,), _ = sent(made, lambda n, post: (200, {}, spoil(stored(uid_of(post)))))
    assert receipt.delivery_status is DeliveryStatus.FAILED


def test_a_receipt_in_other_characters_than_utf_8_is_one(made):
    body = lambda post: b'{"00081190": {"Value": ["M\xfcller"]}, ' + stored_json(post)[1:]  # noqa: E731
    (receipt,), _ = sent(made, lambda n, post: (200, {}, body(post)))
    assert receipt.delivery_status is DeliveryStatus.ACCEPTED


def stored_json(post):
    return f'{{"00081199": {{"Value": [{{"00081155": {{"Value": ["{uid_of(post)}"]}}}}]}}}}'.encode()


@pytest.mark.parametrize("liked", ["application/dicom+xml", "*/*"])
def test_406_is_followed_by_a_plainer_try_and_what_works_is_remembered(made, liked):
    """As dcm4che's stowrs against servers that only know XML, and servers that only take the wildcard."""
    asked = []

    def picky(number, post):
        return (200, {}, stored(uid_of(post))) if asked[-1] == liked else (406, {}, b"no JSON here")

    with web(picky) as (port, posts):
        asked = posts.accepts
        pacs = destination(port)
        receipts = [*pacs.send([made]), *pacs.send([made])]
    assert {each.delivery_status for each in receipts} == {DeliveryStatus.ACCEPTED}
    tries = ["application/dicom+json", "application/dicom+xml", "*/*"]
    assert asked == [*tries[: tries.index(liked) + 1], liked]


def test_406_to_everything_is_told_with_the_server_s_own_reason(made):
    with pytest.raises(ConnectionFailedError) as trouble:
        sent(made, lambda n, post: (406, {}, b"<p>Only <b>FHIR</b> is spoken here, PNAME 20260101\x1b[31m</p>"))
    assert str(trouble.value) == "HTTP 406: Not Acceptable (Only FHIR is spoken here, PNAME ...)"


@pytest.mark.parametrize("liked", ["multipart/related; type=application/dicom;", "application/dicom"])
def test_415_is_followed_by_a_plainer_form(made, liked):
    """Older servers want no quotes (DICOM before 2016); Azure takes a file by itself."""
    kinds = []

    def picky(number, post):
        if not kinds[-1].startswith(liked):
            return 415, {}, b"unknown"
        return 200, {}, stored(made.sop_instance_uid)

    with web(picky) as (port, posts):
        kinds = posts.kinds
        (receipt,) = destination(port).send([made])
    assert receipt.delivery_status is DeliveryStatus.ACCEPTED
    if liked == "application/dicom":
        assert posts[-1] == made.path.read_bytes()


def test_415_of_a_server_that_took_others_is_about_the_object(made):
    answers = [(200, {}, STORED), (415, {}, b"SOP class not supported"), (200, {}, STORED)]
    receipts, heads = sent(made, lambda n, post: answers[n], times=3)
    assert [each.delivery_status for each in receipts] == ["accepted", "unsupported", "accepted"]
    assert receipts[1].detail == "Unsupported Media Type (SOP class not supported)"
    assert len(heads) == 3


def test_a_refusal_is_told_with_the_server_s_reason_and_nothing_of_the_patient(made):
    body = b'{"Message": "ID SYNTHETIC of Chest Synthetic: locked by request 7f3a9c21b0"}'
    (receipt,), _ = sent(made, lambda n, post: (400, {"Content-Type": "application/json"}, body))
    assert receipt.detail == "Bad Request (ID ... of ... ...: locked by request ...)"


def test_bytes_are_no_reason(made):
    for kind in ("multipart/related", "text/plain"):
        (receipt,), _ = sent(made, lambda n, post: (400, {"Content-Type": kind}, post))  # noqa: B023
        assert receipt.detail == "Bad Request"


def test_a_firewall_that_resets_one_object_holds_up_no_other(spool):
    """A web application firewall dislikes some bytes: the connection breaks off whenever this object comes."""

    def answer_to(number, post):
        if spool.uids[0] in uids_of(post):
            raise ConnectionAbortedError
        return 200, {}, STORED

    with web(answer_to) as (port, _):
        spool.carry(spool.web(port), ["delivered", "delivered", "waiting"])


# --- DIMSE ---------------------------------------------------------------------------------------


def one_each(ending):
    """Give each association one answer, then end it."""

    def serve(connection, ended):
        connection.sendall(raw_peer.accepted(read_pdu(connection)[1]))
        connection.sendall(answer(*read_request(connection)) + ending)
        with suppress(OSError):
            connection.settimeout(5)
            while ending and read_pdu(connection)[0] not in (6, 7):
                pass

    return serve


@pytest.mark.parametrize("ending", [b"", pdu(7, bytes(4)), pdu(5, bytes(4))], ids=["closes", "aborts", "releases"])
def test_a_peer_that_takes_one_object_an_association_gets_all(made, ending):
    begin = time.monotonic()
    with peer(one_each(ending)) as port:
        receipts = list(dicom(port).send([made] * 3))
    assert time.monotonic() - begin < 10  # the time limit of an answer: nobody waits for one that cannot come
    assert [each.delivery_status for each in receipts] == [DeliveryStatus.ACCEPTED] * 3


def test_a_peer_that_ends_each_association_before_an_answer_is_no_place_to_go_on(made):
    opened = []

    def serve(connection, ended):
        opened.append(1)
        connection.sendall(raw_peer.accepted(read_pdu(connection)[1]))
        read_request(connection)

    with peer(serve) as port, pytest.raises(ConnectionFailedError, match="ABORTED"):
        list(dicom(port).send([made] * 3))
    assert len(opened) == 1


@pytest.mark.parametrize("longest", [1, 6, 7, 63])
def test_a_peer_that_takes_hardly_a_byte_at_once_is_told_at_once(made, longest):
    def serve(connection, ended):
        right, wrong = (item(0x51, struct.pack(">I", length)) for length in (16384, longest))
        connection.sendall(raw_peer.accepted(read_pdu(connection)[1]).replace(right, wrong))
        read_pdu(connection)

    with peer(serve) as port, pytest.raises(ConnectionFailedError, match=f"takes only {longest} bytes at once"):
        list(dicom(port).send([made]))


@pytest.mark.parametrize("codes", [(0, 0, 0), (9, 9, 9), (1, 1, 4), (2, 3, 0)])
def test_a_rejection_with_codes_that_nobody_knows_is_one(made, codes, capfd):
    def serve(connection, ended):
        read_pdu(connection)
        connection.sendall(pdu(3, bytes([0, *codes])))
        ended.wait(2)

    with peer(serve) as port, pytest.raises(ConnectionFailedError, match="rejected the association: "):
        list(dicom(port).send([made]))
    assert capfd.readouterr().err == ""


def test_a_syntax_that_is_no_uid_is_none(made, capfd):
    def serve(connection, ended):
        accepted = raw_peer.accepted(read_pdu(connection)[1])
        connection.sendall(accepted.replace(b"1.2.840.10008.1.2.1", b"1.2.840.10008.x.2.1"))
        read_pdu(connection)

    with peer(serve) as port:
        (receipt,) = dicom(port).send([made])
    assert (receipt.status, receipt.detail) == ("CONTEXT_REJECTED", "another transfer syntax than was proposed")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (1, "it does not want it"),
        (2, "no reason given"),
        (3, "SOP class not supported"),
        (4, "transfer syntax not supported"),
    ],
)
def test_a_context_that_is_rejected_says_why(made, result, words):
    def serve(connection, ended):
        accepted = raw_peer.accepted(read_pdu(connection)[1])
        at = accepted.index(b"\x21\0") + 6
        connection.sendall(accepted[:at] + bytes([result]) + accepted[at + 1 :])
        read_pdu(connection)

    with peer(serve) as port:
        (receipt,) = dicom(port).send([made])
    assert receipt.delivery_status is DeliveryStatus.UNSUPPORTED
    assert receipt.detail.endswith(words)


def test_a_refusal_by_c_store_is_told_with_its_error_comment(made):
    def refused(context, number):
        elements = element(0x0100, struct.pack("<H", 0x8001)) + element(0x0120, struct.pack("<H", number))
        elements += element(0x0800, struct.pack("<H", 0x0101)) + element(0x0900, struct.pack("<H", 0xC001))
        elements += element(0x0902, b"no order for ID SYNTHETIC ")
        value = bytes([context, 3]) + element(0, struct.pack("<I", len(elements))) + elements
        return [pdu(4, struct.pack(">I", len(value)) + value)]

    with peer(raw_peer.storing(refused)) as port:
        (receipt,) = dicom(port).send([made])
    assert (receipt.status, receipt.detail) == ("0xC001", "cannot understand (no order for ID ...)")
