"""What one peer can do to all others: each attack ends that peer's association, in bounds, with one line of why."""

import json
import threading
import time
import tracemalloc
import zlib
from contextlib import ExitStack
from pathlib import Path

import pytest
from pynetdicom.sop_class import Verification

from cxr_dicom.ingest.upper_layer import UpperLayer
from cxr_dicom.synthetic import radiograph
from tests.raw_peer import (
    ABORT,
    ACCEPTED,
    CONTEXTS,
    DATA,
    DX,
    EXPLICIT,
    REJECTED,
    RELEASED,
    USER,
    VERIFICATION,
    Peer,
    command,
    context,
    data_set,
    echo,
    item,
    pdu,
    request,
    store,
    store_command,
    values,
)
from tests.service_helpers import associated, listening, send, wait_for

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


def lines(here, action="association_broken"):
    return [each for each in map(json.loads, here.audit().splitlines()) if each["action"] == action]


def the_cause(here):
    """Return why the only association ended that did not end well."""
    wait_for(lambda: lines(here))
    time.sleep(0.1)
    (line,) = lines(here)
    assert line["address"] == "127.0.0.1"
    return line["reason"]


def is_well(here):
    """Whether an honest sender is served, and nothing is left of the attack."""
    return send(here.port, radiograph(16, 16)) == [0x0000] and not here.files("part")


def deflated(content):
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


# --- messages ------------------------------------------------------------------------------------


LONG = b"\0" * 60_000


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a command set", values((1, LONG)) + values((1, LONG))),
        ("a report", values((3, command(0x0100, CommandDataSetType=1))) + values((0, LONG)) + values((0, LONG))),
    ],
)
def test_what_is_no_image_has_64_kb_at_most(here, name, content):
    with Peer(here.port) as peer:
        assert peer.is_associated()
        peer.send(content)
        assert peer.is_closed(5), name
    assert the_cause(here) == "sent more than 65536 bytes where no image is expected"
    assert is_well(here)


@pytest.mark.parametrize(
    "content",
    [
        values((3, b"\0\0\0\1")),
        values((3, b"\0" * 100)),
        values((3, b"\xff" * 100)),
        values((3, command(0x7777))),
        values((3, command(0x0020, AffectedSOPClassUID="1.2.3"))),
        values((3, command(0x0001))),
        values((3, command(0x8001, Status=0))),
        values((2, b"")),
        values((3, command(0x0030, AffectedSOPClassUID=VERIFICATION.decode())), number=9),
    ],
    ids=["short", "zeros", "ones", "no such command", "C-FIND", "bare C-STORE", "an answer", "no command", "context"],
)
def test_a_malformed_message_is_one_line_and_an_abort(here, capfd, content):
    with Peer(here.port) as peer:
        assert peer.is_associated()
        peer.send(content)
        assert peer.answer()[0] == ABORT
        assert peer.is_closed(5)
    the_cause(here)
    assert capfd.readouterr() == ("", "")
    assert is_well(here)


CLAIM = b"\x02\0\x10\0UI\x16\x001.2.840.10008.1.2.1.99"  # of the deflated transfer syntax


@pytest.mark.parametrize("head", [b"", CLAIM, b"\0\0\x02\0UI\0\0"])
def test_an_image_without_a_data_set_or_with_one_that_says_how_to_read_it_cannot_be_understood(here, head):
    image = radiograph(16, 16)
    with Peer(here.port) as peer:
        assert peer.is_associated()
        if head:
            peer.send(values((3, store_command(image.SOPInstanceUID))) + values((0, head[:1]), (0, head[1:])))
            peer.send(values((2, deflated(data_set(image)) if head is CLAIM else data_set(image))))
        else:
            peer.send(values((3, store_command(image.SOPInstanceUID, CommandDataSetType=0x0101))))
        assert peer.status() == 0xC000
        assert not here.files("part")
        peer.send(store(image))
        assert peer.status() == 0x0000
    assert len(here.files()) == 1


# --- seconds -------------------------------------------------------------------------------------


def drip(peer, content, until):
    """Send a byte each tenth of a second; return when the other side has enough."""
    for byte in content:
        if time.monotonic() > until or not peer.send(bytes([byte])):
            return
        time.sleep(0.1)


def test_those_who_ask_slowly_are_closed_and_shut_nobody_out(tmp_path):
    listener = {"negotiation_seconds": 1, "idle_seconds": 30, "max_associations": 2}
    with listening(tmp_path, listener=listener) as here, ExitStack() as stack:
        slow = [stack.enter_context(Peer(here.port)) for _ in range(2 * 2 + 4)]
        start = time.monotonic()
        threads = [threading.Thread(target=drip, args=(peer, request(), start + 20)) for peer in slow]
        for thread in threads:
            thread.start()
        assert is_well(here)
        assert time.monotonic() < start + 1
        assert all(peer.is_closed(start + 5 - time.monotonic()) for peer in slow)
        wait_for(lambda: len(lines(here)) == len(slow))
        assert lines(here)[0]["reason"] == "asked for no association in listener.negotiation_seconds = 1"
        for thread in threads:
            thread.join()


@pytest.mark.parametrize("content", [values((1, b"\0" * 200)), pdu(DATA) * 40], ids=["a long PDU", "empty PDUs"])
def test_a_message_comes_at_a_minimum_rate(tmp_path, content):
    listener = {"idle_seconds": 0.5, "min_bytes_per_second": 100}
    with listening(tmp_path, listener=listener) as here, Peer(here.port) as peer:
        assert peer.is_associated()
        start = time.monotonic()
        drip(peer, content, start + 20)
        assert peer.is_closed(1)
        assert time.monotonic() < start + 4
        assert the_cause(here) == "slower than listener.min_bytes_per_second = 100"


def test_silence_in_an_association_ends_it(tmp_path):
    with listening(tmp_path, listener={"idle_seconds": 0.5}) as here, Peer(here.port) as peer:
        assert peer.is_associated()
        peer.send(echo())
        assert peer.status() == 0x0000
        assert peer.is_closed(5)
        assert the_cause(here) == "silent for listener.idle_seconds = 0.5"


def test_a_slow_line_that_keeps_to_the_rate_is_served(tmp_path):
    image = radiograph(16, 16)
    with (
        listening(tmp_path, listener={"idle_seconds": 0.3, "min_bytes_per_second": 100}) as here,
        Peer(here.port) as peer,
    ):
        assert peer.is_associated()
        content = store(image)
        for start in range(0, len(content), 200):
            peer.send(content[start : start + 200])
            time.sleep(0.05)
        assert peer.status() == 0x0000


# --- a share for each ----------------------------------------------------------------------------


def test_no_address_has_all_associations_and_health_says_who_had_too_many(tmp_path):
    listener = {"max_associations": 4, "calling_addresses": ["127.0.0.0/8"]}
    with listening(tmp_path, listener=listener) as here, ExitStack() as stack:
        peers = [stack.enter_context(Peer(here.port)) for _ in range(5)]
        assert [peer.is_associated() for peer in peers] == [True] * 3 + [False] * 2
        assert [each["reason"] for each in lines(here, "association_rejected")] == [
            "this address has its share of listener.max_associations"
        ] * 2
        others = [stack.enter_context(Peer(here.port, "127.0.0.2")) for _ in range(2)]
        assert [peer.is_associated() for peer in others] == [True, False]
        assert "no room for 3 connections in the last 60 s, 2 of them from 127.0.0.1" in here.listener.problem()


def test_where_one_address_may_connect_it_may_have_all(tmp_path):
    with listening(tmp_path, listener={"max_associations": 4}) as here, ExitStack() as stack:
        peers = [stack.enter_context(Peer(here.port)) for _ in range(5)]
        assert here.listener.problem() is None
        assert [peer.is_associated() for peer in peers] == [True] * 4 + [False]
        peers[0].send(pdu(5))
        assert peers[0].answer()[0] == RELEASED
        wait_for(lambda: stack.enter_context(Peer(here.port)).is_associated())


# --- requests as they are ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        request(called=b"CXRDICOM".ljust(16, b"\0"), calling=b"RAW".ljust(16, b"\0")),
        request(called=b"  CXRDICOM".ljust(16), calling=bytes(16)),
        request(calling="RÖNTGEN\\1".encode("latin-1").ljust(16)),
        request(user=USER + item(0x5F, b"private") + item(0x99, b"")),
        request(user=USER + item(0x55, b"TWENTY_CHARACTERS_20")),
        request(user=USER + item(0x55, "MÜNCHEN_1".encode())),
        request(user=USER + item(0x58, b"\1\0\0\3abc\0\0") + item(0x53, b"\0\0\0\0") + item(0x56, b"\0")),
        request(user=b""),
        request(more=item(0x77, b"nobody knows it")),
        request(contexts=CONTEXTS + context(5, b"1." * 60, EXPLICIT) + context(7, b"", b"")),
        request(contexts=context(1, VERIFICATION + b"\0") + context(3, DX, b"\xff", EXPLICIT + b"\0")),
    ],
    ids=["NUL", "leading", "umlaut", "items", "long", "version", "optional", "no user", "item", "syntaxes", "padding"],
)
def test_requests_that_dcmtk_and_orthanc_accept_are_accepted(here, asked):
    image = radiograph(16, 16)
    with Peer(here.port) as peer:
        peer.send(asked)
        assert peer.answer()[0] == ACCEPTED
        peer.send(echo())
        assert peer.status() == 0x0000
        peer.send(store(image))
        assert peer.status() == 0x0000
        peer.send(pdu(5))
        assert peer.answer()[0] == RELEASED
    assert not lines(here)


def test_another_name_is_rejected_whatever_its_padding(here):
    with Peer(here.port) as peer:
        peer.send(request(called=b"SOMEBODY".ljust(16, b"\0")))
        assert peer.answer() == (REJECTED, b"\0\1\1\7")
    (line,) = wait_for(lambda: lines(here, "association_rejected"))
    assert (line["sender"], line["address"]) == ("RAW", "127.0.0.1")


# --- what ends before it begins, or too early ------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "closed the connection before asking for an association, without a release"),
        (b"\1\0", "closed the connection before asking for an association, without a release"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "sent what is no DICOM PDU"),
        (b"\x16\x03\x01\x02\0\1\0\1\xfc\3\3", "sent what is no DICOM PDU"),
        (pdu(1), "sent a request that cannot be served: expected an association request, found 6 bytes"),
        (
            request(contexts=context(1, VERIFICATION) * 129),
            "sent a request that cannot be served: expected at most 128",
        ),
        (request(user=item(0x51, b"\0\0\0\5")), "sent a request that cannot be served: expected a peer that takes"),
        (pdu(1, b"", 0xFFFFFFFF), "sent a PDU of 4294967295 bytes; at most 262144 are read"),
        (pdu(1, b"", 1 << 19), "sent a PDU of 524288 bytes; at most 262144 are read"),
        (pdu(DATA, b"\0\0\0\3\1\3x"), "sent something else before asking for an association"),
        (pdu(5, bytes(4)), "sent something else before asking for an association"),
        (request()[:7] + b"\2" + request()[8:], "has another version of the protocol"),
        (request() + pdu(5, bytes(4)), "released an association before it was accepted"),
        ((request(), values((3, store_command("1.2.3"))) + pdu(5, bytes(4))), "released the association in the middle"),
        (pdu(ABORT, bytes(4)), "aborted by the sender"),
        (request() + pdu(ABORT, bytes(4)), "aborted by the sender"),
        (request(), "closed the connection, without a release"),
        (request() + request(), "broke the protocol"),
        ((request(), pdu(DATA, b"\0\0\0\3")), "sent presentation data value items that do not fill their PDU"),
        ((request(), values(*[(0, b"")] * 1000)), "sent more than 999 presentation data values in a PDU"),
        ((request(), pdu(DATA, b"", 0xFFFFFFFF)), "sent a PDU of 4294967295 bytes; at most 1048576 are read"),
        ((request(), values((3, store_command("1.2.3"))) + values((0, b"abc"))), "closed the connection, without a"),
        ((request(), values((3, echo()))), "sent a message that cannot be read"),
        ((request(), b"\4\0\0\0\1\0abc"), "closed the connection, without a release"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_every_early_end_is_one_line_with_address_and_cause(here, capfd, content, cause):
    with Peer(here.port) as peer:
        if isinstance(content, tuple):
            peer.send(content[0])
            assert peer.answer()[0] == ACCEPTED
        peer.send(content[-1] if isinstance(content, tuple) else content)
        if not cause.startswith(("closed", "sent what is no DICOM PDU")):  # these say so when the peer closes
            peer.is_closed()  # what was sent has been read
    assert the_cause(here).startswith(cause)
    wait_for(lambda: not here.files("part"))
    assert capfd.readouterr() == ("", "")
    assert is_well(here)


@pytest.mark.parametrize("count", [200, 65_535])
def test_more_contexts_than_there_are_numbers_cost_no_time(here, count):
    start = time.process_time()
    with Peer(here.port) as peer:
        peer.send(request(contexts=item(0x20, b"") * count))
        assert peer.is_closed(5)
    assert the_cause(here).startswith(("sent a request that cannot be served", "sent a PDU"))
    assert time.process_time() - start < 2
    assert is_well(here)


def test_release_twice_is_a_release(here):
    with Peer(here.port) as peer:
        assert peer.is_associated()
        peer.send(pdu(5, bytes(4)) * 2)
        assert peer.answer()[0] in (RELEASED, ABORT)
        assert peer.is_closed(5)
    time.sleep(0.2)
    assert not lines(here)
    assert is_well(here)


def test_what_is_opened_and_closed_again_leaves_nothing_behind(here):
    is_well(here)
    threads, open_files = threading.active_count(), descriptors()
    for _ in range(200):
        Peer(here.port).socket.close()
    wait_for(lambda: threading.active_count() <= threads + 1)
    wait_for(lambda: descriptors() <= open_files + 1)
    assert 10 <= len(lines(here)) <= 20  # the disk is not filled with them
    assert is_well(here)


def test_memory_does_not_grow_with_what_is_refused(here):
    megabyte = values((1, bytes(1_000_000)))
    with Peer(here.port) as peer:
        assert peer.is_associated()
        tracemalloc.start()
        for _ in range(30):
            peer.send(megabyte)
        assert peer.is_closed(5)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 5 << 20


def test_an_association_that_waits_takes_no_processor_time_from_others(tmp_path, monkeypatch):
    looks = []
    look = UpperLayer._is_transport_event
    monkeypatch.setattr(UpperLayer, "_is_transport_event", lambda layer: (looks.append(1), look(layer))[1])
    with listening(tmp_path) as here, associated(here.port, Verification) as association:
        assert association.send_c_echo().Status == 0
        time.sleep(0.3)  # what the echo left to be done
        looks.clear()
        time.sleep(1)
        assert len(looks) < 50  # pynetdicom looks a thousand times a second
        assert association.send_c_echo().Status == 0
