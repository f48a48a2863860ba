"""Messages out of order: one message is one command and then its data set, in one presentation context."""

import json
import struct
from pathlib import Path

import pytest

from cxr_dicom.synthetic import radiograph
from tests.raw_peer import ABORT, DATA, DX, VERIFICATION, Peer, command, data_set, pdu, store, store_command
from tests.service_helpers import send, wait_for

IMAGE = radiograph(16, 16)
STORE, PIXELS = store_command(IMAGE.SOPInstanceUID), data_set(IMAGE)
ECHO = command(0x0030, AffectedSOPClassUID=VERIFICATION.decode())


def told(here, action):
    return [each for each in map(json.loads, here.audit().splitlines()) if each["action"] == action]


def values(*fragments):
    """A P-DATA-TF PDU of (context, control header, fragment); 1: of a command, 2: the last one."""
    return pdu(
        DATA, b"".join(struct.pack(">LBB", len(each) + 2, number, head) + each for number, head, each in fragments)
    )


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize(
    "content",
    [
        values((3, 3, STORE), (3, 0, PIXELS[:9]), (3, 3, ECHO)),
        values((3, 3, STORE)) + values((3, 0, PIXELS[:9])) + values((1, 3, ECHO)),
        values((3, 3, STORE)) + values((3, 3, STORE)),
        values((3, 0, PIXELS[:9])),
        values((3, 0, PIXELS), (3, 3, STORE)),
        values((3, 3, STORE)) + values((1, 2, PIXELS)),
        values((3, 3, STORE)) + values((3, 0, PIXELS[:9]), (1, 2, PIXELS[9:])),
        values((3, 1, STORE[:9]), (1, 3, STORE[9:]), (3, 2, PIXELS)),
        values((3, 3, STORE), (3, 2, PIXELS), (3, 3, STORE), (3, 2, PIXELS)),
        values((3, 3, STORE), (3, 2, PIXELS), (3, 2, PIXELS[:9])),
    ],
    ids=[
        *("another command in the data set", "in another context", "two commands", "a data set alone", "and before"),
        *("a data set elsewhere", "half of it", "half of a command", "two messages in a PDU"),
        "more than the last",
    ],
)
def test_what_is_no_command_and_then_its_data_set_ends_the_association_and_leaves_nothing(here, content):
    with Peer(here.port) as peer:
        assert peer.is_associated()
        peer.send(content)
        assert peer.answer()[0] == ABORT
        assert peer.is_closed(5)
    (line,) = wait_for(lambda: told(here, "association_broken"))
    assert line["reason"] == "sent values that are not one command and then its data set, in one context"
    wait_for(lambda: not here.files("part"))
    assert send(here.port, radiograph(16, 16)) == [0x0000]


@pytest.mark.parametrize("content", [ECHO, STORE], ids=["C-ECHO", "C-STORE"])
def test_a_context_that_was_not_accepted_ends_the_association(here, content):
    with Peer(here.port) as peer:
        assert peer.is_associated()
        peer.send(values((9, 3, content)))
        assert peer.answer()[0] == ABORT
        assert peer.is_closed(5)
    (line,) = wait_for(lambda: told(here, "association_broken"))
    assert line["reason"] == "used a presentation context that was not accepted"


def test_messages_that_are_dropped_leave_no_file_open(here):
    """Each of these opened a file that only the end of the association closed."""
    before = descriptors()
    with Peer(here.port) as peer:
        assert peer.is_associated()
        for _ in range(50):
            peer.send(values((3, 3, STORE), (3, 0, b"x"), (3, 3, ECHO)))
            if peer.answer()[0] != DATA:
                break
        assert len(here.files("part")) < 2
        assert descriptors() < before + 10


def stated(**elements):
    """Encode a C-STORE command by hand."""
    known = {"0x0002": DX + b"\0", "0x0100": b"\1\0", "0x0110": b"\1\0", "0x0700": b"\0\0", "0x0800": b"\1\0"}
    content = b"".join(
        struct.pack("<HHL", 0, int(number, 16), len(value)) + value
        for number, value in sorted((known | elements).items())
    )
    return struct.pack("<HHLL", 0, 0, 4, len(content)) + content


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@pytest.mark.parametrize(
    ("uid", "kept"),
    [(b"1.2\\1.3 ", None), (b"ZZCANARY^JANE ", None), (b"1.2\x1b[31m", None), (b"\xff\xfe", None)],
    ids=["two", "a name", "an escape sequence", "bytes"],
)
def test_what_is_no_uid_in_its_place_is_refused_and_not_kept(here, uid, kept):
    with Peer(here.port) as peer:
        assert peer.is_associated()
        peer.send(values((3, 3, stated(**{"0x1000": uid})), (3, 2, PIXELS)))
        assert peer.status() == 0xA900
        peer.send(store(IMAGE))
        assert peer.status() == 0x0000
    (line,) = told(here, "instance_refused")
    assert (line["reason"], line.get("sop_instance_uid")) == ("UID_MISMATCH", kept)
    assert "CANARY" not in here.audit()
