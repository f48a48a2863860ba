"""Bytes on a socket that nobody thought of: the connection ends, nothing of it stays, the next sender is served."""

import gc
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import strategies as st
from pynetdicom.association import Association

from cxr_dicom.synthetic import radiograph
from tests.fuzzing import damaged, fuzz
from tests.raw_peer import DATA, Peer, command, data_set, echo, pdu, request, store, store_command, values
from tests.service_helpers import listening, send, wait_for

pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning", "ignore")

IMAGE = radiograph(16, 16)
PDUS = [
    request(),
    echo(),
    store(IMAGE),
    values((3, store_command(IMAGE.SOPInstanceUID))),
    values((0, data_set(IMAGE)[:700])),
    values((2, data_set(IMAGE)[700:])),
    values((3, command(0x0100, CommandDataSetType=1)), (2, b"\x08\0\x95\x11UI\2\x001\0")),
    values((1, b""), (0, b""), (3, b""), (2, b"")),
    pdu(DATA),
    pdu(5, bytes(4)),
    pdu(6, bytes(4)),
    pdu(7, bytes(4)),
    pdu(2, request()[6:]),
    pdu(3, bytes(4)),
]


def sendings():
    """Lists of what is sent at once; most begin with a request that is accepted."""
    one = st.sampled_from(PDUS) | damaged(PDUS) | st.binary(max_size=30)
    begun = st.lists(one, max_size=6).map(lambda rest: [request(), *rest])
    return begun | begun | st.lists(one, max_size=4)


def attack(here, parts, waits):
    with Peer(here.port) as peer:
        for number, part in enumerate(parts):
            if not peer.send(part):
                break
            if waits and number == 0 and part == request():
                peer.answer(10)  # on a busy machine
    wait_for(lambda: here.listener.connections == 0 and not here.files("part"), 30)


def associations():
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, Association)]


def test_whatever_comes_the_connection_ends_and_nothing_stays(tmp_path, capfd, caplog):
    caplog.set_level("CRITICAL", "pynetdicom")  # pytest would keep its errors, whose tracebacks hold associations
    settings = {"negotiation_seconds": 2, "idle_seconds": 2, "max_instance_mb": 1}
    with listening(tmp_path, listener=settings) as here:
        assert send(here.port, IMAGE) == [0x0000]
        threads, files = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))

        def check(parts, waits):
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            attack(here, parts, waits)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < 16 << 20

        tracemalloc.start()
        fuzz(check, sendings(), st.booleans(), examples=40, has_threads=True)
        wait_for(lambda: len(associations()) <= 1)  # the last one: the ledger has a connection of its thread
        assert tracemalloc.get_traced_memory()[0] < 64 << 20
        tracemalloc.stop()
        wait_for(lambda: threading.active_count() <= threads + 1)
        wait_for(lambda: len(list(Path("/proc/self/fd").iterdir())) <= files + 1)
        assert send(here.port, IMAGE) == [0x0000]
        assert len(here.files()) == len(here.ledger.stories.paths())
    assert capfd.readouterr() == ("", "")
