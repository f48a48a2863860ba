"""Peers that speak when it is not their turn: whoever asks them is told in time, and nobody waits for ever."""

import struct
import threading
import time

import pytest
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import Verification

from cxr_dicom.config.service import DicomDestination
from cxr_dicom.errors import ConnectionFailedError
from cxr_dicom.ingest.archive import build_archive
from cxr_dicom.system import network
from cxr_dicom.system.operations import echo
from tests.deliver.raw_peer import accepted, element, item, pdu, peer, read_pdu
from tests.deliver.test_hostile_peers import destination

LIMIT = 1.0  # seconds
ABORT, RELEASE = pdu(7, bytes(4)), pdu(5, bytes(4))


def message(command, uid, *elements):
    """Make the PDU of a message without a data set, on the first presentation context."""
    body = element(0x0002, uid + b"\0" * (len(uid) % 2)) + element(0x0100, struct.pack("<H", command))
    body += b"".join(elements) + element(0x0800, struct.pack("<H", 0x0101))
    value = b"\1\3" + element(0x0000, struct.pack("<I", len(body))) + body
    return pdu(4, struct.pack(">I", len(value)) + value)


REPORT = message(
    0x0100,
    b"1.2.840.10008.1.20.1",
    element(0x0110, b"\7\0"),
    element(0x1000, b"1.2.840.10008.1.20.1.1"),
    element(0x1002, b"\1\0"),
)
STORED = message(0x8001, b"1.2.3", element(0x0120, b"\1\0"), element(0x0900, b"\0\0"))  # which nobody asked for
UNREADABLE = pdu(4, struct.pack(">I", 8) + b"\1\3abcdef")


def acceptance(request):
    """Accept each context with its first transfer syntax."""
    plain, rest = request[:68], request[68:]
    while rest:
        end = 4 + struct.unpack(">H", rest[2:4])[0]
        if rest[0] == 0x20:
            syntax = rest[8:end].index(b"\x40\0") + 8
            last = syntax + 4 + struct.unpack(">H", rest[syntax + 2 : syntax + 4])[0]
            plain += item(0x20, rest[4:last])
        else:
            plain += rest[:end]
        rest = rest[end:]
    return accepted(plain)


def saying(*words, at_once):
    """Accept, and say something before any request, or instead of an answer to it."""

    def serve(connection, ended):
        accepts = acceptance(read_pdu(connection)[1])
        if not at_once:
            connection.sendall(accepts)
            read_pdu(connection)
        connection.sendall((accepts if at_once else b"") + b"".join(words))
        connection.settimeout(2 * LIMIT)
        while words and read_pdu(connection)[0] != 5:
            pass
        connection.sendall(pdu(6, bytes(4)))

    return serve


def place(port):
    return DicomDestination(
        kind="dicom", name="p", address="127.0.0.1", port=port, ae_title="RAW", timeout_seconds=LIMIT
    )


def ask_what_is_kept(port, made):
    return list(destination(port, timeout_seconds=LIMIT, verify="commitment").verify([made]))


def look(port, made):
    from cxr_dicom.config import Settings

    table = {"kind": "query-retrieve", "name": "vna", "address": "127.0.0.1", "port": port, "ae_title": "RAW"}
    settings = Settings.model_validate({"poller": {"archives": [{**table, "timeout_seconds": LIMIT}]}})
    return list(build_archive(settings.poller.archives[0], settings.listener)._find("STUDY", {}, ()).items)


ASKING = {"C-ECHO": lambda port, made: echo(place(port)), "N-ACTION": ask_what_is_kept, "C-FIND": look}
SAID = {
    "nothing": (),
    "abort": (ABORT,),
    "release": (RELEASE,),
    "a report": (REPORT,),
    "an answer": (STORED,),
    "what cannot be read": (UNREADABLE,),
}


@pytest.mark.parametrize("at_once", [True, False], ids=["before the request", "instead of an answer"])
@pytest.mark.parametrize("what", SAID)
@pytest.mark.parametrize("operation", ASKING)
def test_whoever_asks_is_told_in_time(made, operation, what, at_once):
    told = []

    def ask():
        with peer(saying(*SAID[what], at_once=at_once)) as port:
            try:
                told.append(ASKING[operation](port, made))
            except ConnectionFailedError as error:
                told.append(error.status)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(10 * LIMIT)
    assert told, "waits for ever"


def test_a_report_that_is_served_while_an_association_is_released_holds_nobody_up():
    """pynetdicom serves a report on a thread of its own, which says at its end that nobody has paused."""
    released = threading.Event()

    def release():
        with peer(saying(at_once=False)) as port:
            with network.association(place(port), [build_context(Verification)]) as opened:
                opened._reactor_checkpoint.clear()  # as `release` does; then its thread rests
                time.sleep(0.1)
                opened._is_paused = False  # as that of the report
            released.set()

    threading.Thread(target=release, daemon=True).start()
    assert released.wait(5 * LIMIT), "waits for ever"
