"""C-STORE to peers that are not what they should be: each costs its time limit, and none loses or invents a receipt."""

import struct
import time

import pytest

from cxr_dicom.config import Settings
from cxr_dicom.deliver import build_destination
from cxr_dicom.errors import ConnectionFailedError
from cxr_dicom.records import DeliveryStatus
from tests.deliver import raw_peer
from tests.deliver.raw_peer import answer, item, pdu, peer, read_pdu, read_request, storing

LIMIT = 0.6  # seconds


def destination(port, **more):
    table = {"kind": "dicom", "name": "pacs", "address": "127.0.0.1", "port": port, "ae_title": "RAW"}
    settings = Settings.model_validate({"destinations": [{"timeout_seconds": LIMIT, **table, **more}]})
    return build_destination(settings.destinations[0], lambda uid: None)


def told(made, serve):
    """Return the receipts; trouble of the place counts when it comes in time."""
    begin = time.monotonic()
    try:
        with peer(serve) as port:
            return list(destination(port).send([made]))
    finally:
        assert time.monotonic() - begin < 12 * LIMIT


def says(status=b"\0\0", **more):
    return lambda context, number: [answer(context, number, status=status, **more)]


ODD = {
    "titles padded with NUL": {"pad": b"\0"},
    "UIDs padded with NUL": {"end": b"\0"},
    "unknown user item": {"user": item(0x5A, b"anything")},
    "version name of 20 characters": {"version": b"A_VERSION_NAME_OF_20"},
    "version name with an umlaut": {"version": "MÜNCHEN".encode("latin-1")},
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_a_peer_that_accepts_in_odd_ways_is_a_peer(made, odd):
    (receipt,) = told(made, storing(says(), **odd))
    assert (receipt.delivery_status, receipt.status) == (DeliveryStatus.ACCEPTED, "0x0000")


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        *((0x0000, "accepted"), (0x0111, "accepted"), (0xB00E, "accepted")),
        *((0x0001, "warning"), (0xB00A, "warning"), (0xB100, "warning"), (0x0107, "warning"), (0x0116, "warning")),
        *((0xA700, "failed"), (0xB00F, "failed"), (0xFF00, "failed"), (0xFE00, "failed")),
        *((0xA900, "refused"), (0xC0DE, "refused"), (0xFFFF, "refused"), (0x0122, "unsupported")),
    ],
)
def test_a_status_is_read_by_its_class(made, status, verdict):
    (receipt,) = told(made, storing(says(struct.pack("<H", status))))
    assert (receipt.delivery_status, receipt.status) == (verdict, f"0x{status:04X}")


NO_STATUS = {"none": None, "empty": b"", "of four bytes": b"\0\0\0\0", "two": b"\0\0\0\xa7", "of one byte": b"\0"}


@pytest.mark.parametrize("status", NO_STATUS.values(), ids=NO_STATUS)
def test_an_answer_without_one_status_is_no_receipt(made, status):
    with pytest.raises(ConnectionFailedError):
        told(made, storing(says(status)))


@pytest.mark.parametrize(
    "make",
    [
        lambda context, number: [answer(context, number + 1)],
        lambda context, number: [answer(context, number, uid=b"2.25.3")],
        lambda context, number: [answer(context, 0)],
        lambda context, number: [answer(context, number, command=0x8030)],
    ],
    ids=["of another request", "of another object", "of none", "to C-ECHO"],
)
def test_the_answer_to_another_request_is_no_receipt(made, make):
    with pytest.raises(ConnectionFailedError, match="OTHER_ANSWER"):
        told(made, storing(make))


def test_an_answer_that_names_the_object_is_one(made):
    (receipt,) = told(made, storing(says(uid=made.sop_instance_uid.encode())))
    assert receipt.delivery_status is DeliveryStatus.ACCEPTED


def test_what_comes_after_a_pending_status_is_not_taken_for_the_next_object(made):
    both = lambda context, number: [answer(context, number, status=b"\0\xff"), answer(context, number)]  # noqa: E731
    opened = []

    def serve(connection, ended):
        opened.append(storing(both) if not opened else storing(says(b"\0\xa9")))
        opened[-1](connection, ended)

    with peer(serve) as port:
        receipts = [each.delivery_status for each in destination(port).send([made, made])]
    assert receipts == [DeliveryStatus.FAILED, DeliveryStatus.REFUSED]  # the latter on an association of its own


def aborts(connection, ended):
    connection.sendall(raw_peer.accepted(read_pdu(connection)[1]))
    read_request(connection)
    connection.sendall(pdu(7, b"\0\0\2\0"))


def takes_one_byte_at_a_time(connection, ended):
    right, wrong = (item(0x51, struct.pack(">I", length)) for length in (16384, 1))
    connection.sendall(raw_peer.accepted(read_pdu(connection)[1]).replace(right, wrong))
    read_pdu(connection)


@pytest.mark.parametrize(
    ("serve", "word"),
    [(aborts, "ABORTED: .* the peer ended the association"), (takes_one_byte_at_a_time, "UNEXPECTED")],
)
def test_a_peer_that_aborts_or_makes_no_sense_is_told_at_once(made, serve, word):
    with pytest.raises(ConnectionFailedError, match=word):
        told(made, serve)


# --- without an end ------------------------------------------------------------------------------


def drips_negotiation(connection, ended):
    for piece in raw_peer.dripping(raw_peer.accepted(read_pdu(connection)[1]), ended):
        connection.sendall(piece)


def drips_answer(connection, ended):
    connection.sendall(raw_peer.accepted(read_pdu(connection)[1]))
    for piece in raw_peer.dripping(answer(*read_request(connection)), ended):
        connection.sendall(piece)


def never_reads(connection, ended):
    connection.sendall(raw_peer.accepted(read_pdu(connection)[1]))
    ended.wait(20)


def never_answers(connection, ended):
    connection.sendall(raw_peer.accepted(read_pdu(connection)[1]))
    read_request(connection)
    ended.wait(20)


def answers_in_fragments_without_a_last(connection, ended):
    connection.sendall(raw_peer.accepted(read_pdu(connection)[1]))
    context, _ = read_request(connection)
    while not ended.is_set():
        connection.sendall(pdu(4, struct.pack(">I", 16002) + bytes([context, 1]) + bytes(16000)))


def promises_four_gigabytes(connection, ended):
    connection.sendall(raw_peer.accepted(read_pdu(connection)[1]))
    read_request(connection)
    connection.sendall(b"\4\0\xff\xff\xff\xff")
    while not ended.is_set():
        connection.sendall(bytes(1 << 16))


def never_releases(connection, ended):
    connection.sendall(raw_peer.accepted(read_pdu(connection)[1]))
    connection.sendall(answer(*read_request(connection)))
    ended.wait(20)


@pytest.mark.parametrize(
    "serve",
    [drips_negotiation, drips_answer, never_answers, answers_in_fragments_without_a_last, promises_four_gigabytes],
    ids=lambda serve: serve.__name__,
)
def test_a_peer_without_an_end_costs_its_time_limit(made, serve):
    with pytest.raises(ConnectionFailedError):
        told(made, serve)


def test_a_peer_that_does_not_read_costs_its_time_limit(made, large):
    with pytest.raises(ConnectionFailedError):
        told(large, never_reads)


def test_a_peer_that_never_releases_keeps_its_receipt(made):
    (receipt,) = told(made, never_releases)
    assert receipt.delivery_status is DeliveryStatus.ACCEPTED
