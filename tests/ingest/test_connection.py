"""The connection of one association: what is read and when, and how an answer is sent."""

import queue
import socket
import struct
import time
from types import SimpleNamespace

from cxr_dicom.config.service import ListenerSettings
from cxr_dicom.ingest.connection import BoundedSocket
from tests.raw_peer import ACCEPTED, DATA, IMPLICIT, VERIFICATION, Peer, context, echo, item, request, store
from tests.service_helpers import listening

ANSWERS = [(1, 3), (3, 0), (5, 3)]  # contexts and their results: 3, abstract syntax not supported (PS3.8 9.3.3.2)


def test_a_peer_that_takes_little_at_once_gets_its_answer_in_pieces(here, image):
    longest = 64
    with Peer(here.port) as peer:
        peer.send(request(user=item(0x51, struct.pack(">L", longest)) + item(0x52, b"1.2.3.4")))
        assert peer.answer()[0] == ACCEPTED
        peer.send(store(image))
        pieces, heads = b"", []
        while not heads or heads[-1] != 3:
            kind, content = peer.answer()
            length, number, head = struct.unpack_from(">LBB", content)
            assert (kind, number, len(content), len(content) <= longest) == (DATA, 3, length + 4, True)
            pieces, heads = pieces + content[6:], [*heads, head]
    assert heads == [1] * (len(heads) - 1) + [3]
    assert len(heads) == -(-len(pieces) // (longest - 6))
    assert pieces.startswith(struct.pack("<HHLL", 0, 0, 4, len(pieces) - 12))
    assert struct.pack("<HHLH", 0, 0x0900, 2, 0) in pieces


def test_the_time_that_we_take_is_no_silence_of_the_sender(tmp_path, image):
    with listening(tmp_path, listener={"idle_seconds": 0.5}) as here, Peer(here.port) as peer:
        assert peer.is_associated()
        with here.ledger.transaction():  # nothing is answered meanwhile
            peer.send(store(image))
            time.sleep(1.2)
        assert peer.status() == 0x0000
        peer.send(store(image))
        assert peer.status() == 0x0000


def test_nothing_is_read_before_an_answer_that_is_to_be_sent():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        waiting = queue.Queue()
        upper_layer = SimpleNamespace(
            is_busy=False, is_to_stop=False, is_associating=False, to_provider_queue=waiting, event_queue=queue.Queue()
        )
        bounded = BoundedSocket(SimpleNamespace(dul=upper_layer), ours, ListenerSettings(), time.monotonic())
        theirs.send(b"x")
        assert bounded.ready
        waiting.put("an answer")
        assert not bounded.ready


def result_item(number, result):
    return item(0x21, bytes([number, 0, result, 0]) + item(0x40, IMPLICIT))


def test_a_context_that_nobody_offers_is_declined_and_the_others_are_served(here):
    asked = context(1, b"1.2.3") + context(3, VERIFICATION) + context(5, b"1.2.840.10008.5.1.4.1.1.2")
    with Peer(here.port) as peer:
        peer.send(request(contexts=asked))
        kind, content = peer.answer()
        places = [content.index(result_item(*answer)) for answer in ANSWERS]
        assert (kind, places) == (ACCEPTED, sorted(places))
        peer.send(echo().replace(b"\1\3", b"\3\3", 1))
        assert peer.status() == 0x0000


def test_where_nothing_is_offered_all_is_declined(here):
    with Peer(here.port) as peer:
        peer.send(request(contexts=context(1, b"1.2.3")))
        kind, content = peer.answer()
        assert (kind, result_item(1, 3) in content) == (ACCEPTED, True)
