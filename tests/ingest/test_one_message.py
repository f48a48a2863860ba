"""One message at a time: what comes before the last one is answered waits, and a PDU of it is all that is in memory."""

import threading
import time
import tracemalloc
from contextlib import ExitStack

from cxr_dicom.synthetic import radiograph
from tests.ingest.test_upper_layer import descriptors
from tests.raw_peer import ACCEPTED, Peer, command, context, request, store, store_command, values
from tests.service_helpers import wait_for

REPORT = {
    "AffectedSOPClassUID": "1.2.840.10008.1.20.1",
    "AffectedSOPInstanceUID": "1.2.840.10008.1.20.1.1",
    "EventTypeID": 1,
}


def test_requests_before_the_answer_wait_their_turn(here):
    image = radiograph(16, 16)
    peers = 4
    with ExitStack() as stack:
        sending = [stack.enter_context(Peer(here.port)) for _ in range(peers)]
        assert all(peer.is_associated() for peer in sending)
        with here.ledger.transaction():  # nothing is answered meanwhile
            before = descriptors()
            for peer in sending:
                peer.send(store(image) * 40)
            time.sleep(0.5)
            assert len(here.files("part")) <= peers
            assert descriptors() <= before + 2 * peers
        for peer in sending:
            assert [peer.status() for _ in range(40)] == [0x0000] * 40
    assert len(here.files()) == 1


def test_reports_wait_their_turn_too(here, monkeypatch):
    told, may_go_on = threading.Event(), threading.Event()

    def hear(*report):
        told.set()
        return may_go_on.wait(20)

    monkeypatch.setattr(here.listener, "_on_commitment", hear)
    report = values((3, command(0x0100, CommandDataSetType=0x0101, **REPORT)), number=1)
    with Peer(here.port) as peer:
        peer.send(request(context(1, b"1.2.840.10008.1.20.1")))
        assert peer.answer()[0] == ACCEPTED
        before = threading.active_count()
        peer.send(report * 300)
        assert told.wait(5)
        time.sleep(0.3)
        (association,) = here.listener._server.active_associations
        assert association.dimse.msg_queue.qsize() <= 1
        assert threading.active_count() <= before + 1
        may_go_on.set()


def test_memory_does_not_grow_with_an_image(here):
    megabyte = values((0, bytes(1_000_000)))
    with Peer(here.port) as peer:
        assert peer.is_associated()
        peer.send(values((3, store_command("1.2.3"))))
        tracemalloc.start()
        for _ in range(30):
            peer.send(megabyte)
        wait_for(lambda: sum(path.stat().st_size for path in here.files("part")) > 29_000_000)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 5 << 20, "a PDU at a time"
