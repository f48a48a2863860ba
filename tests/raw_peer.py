"""A peer that sends bytes of its own choice: the upper layer of PS3.8 by hand, so nothing is put right on the way."""

import contextlib
import socket
import struct
import time
from io import BytesIO

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.dsutils import encode

ABORT, ACCEPTED, REJECTED, DATA, RELEASED = 7, 2, 3, 4, 6
VERIFICATION = b"1.2.840.10008.1.1"
DX = b"1.2.840.10008.5.1.4.1.1.1.1"
IMPLICIT, EXPLICIT = b"1.2.840.10008.1.2", str(ExplicitVRLittleEndian).encode()


def pdu(kind, content=b"", length=None):
    return struct.pack(">BBL", kind, 0, len(content) if length is None else length) + content


def item(kind, content):
    return struct.pack(">BBH", kind, 0, len(content)) + content


def context(number, abstract, *syntaxes):
    inside = item(0x30, abstract) + b"".join(item(0x40, each) for each in syntaxes or (IMPLICIT,))
    return item(0x20, bytes([number, 0, 0, 0]) + inside)


USER = item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3.4")
CONTEXTS = context(1, VERIFICATION) + context(3, DX, EXPLICIT)


def request(contexts=CONTEXTS, user=USER, called=b"CXRDICOM", calling=b"RAW", more=b""):
    titles = struct.pack(">HH", 1, 0) + called.ljust(16) + calling.ljust(16) + bytes(32)
    return pdu(1, titles + item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + more + item(0x50, user))


def values(*fragments, number=3):
    """A P-DATA-TF PDU of (control header, fragment); 1: of a command, 2: the last one."""
    return pdu(DATA, b"".join(struct.pack(">LBB", len(each) + 2, number, head) + each for head, each in fragments))


def command(field, **more):
    made = Dataset()
    made.CommandField, made.MessageID = field, 1
    made.CommandDataSetType = more.pop("CommandDataSetType", 0x0101)
    for keyword, value in more.items():
        setattr(made, keyword, value)
    content = encode(made, True, True)
    length = Dataset()
    length.CommandGroupLength = len(content)
    return encode(length, True, True) + content


def echo():
    return values((3, command(0x0030, AffectedSOPClassUID=VERIFICATION.decode())), number=1)


def store_command(uid, **more):
    known = {"AffectedSOPClassUID": DX.decode(), "AffectedSOPInstanceUID": uid, "Priority": 0, "CommandDataSetType": 1}
    return command(0x0001, **known | more)


def data_set(image):
    content = BytesIO()
    image.save_as(content, enforce_file_format=True)
    start = 132 + 12 + dcmread(BytesIO(content.getvalue())).file_meta.FileMetaInformationGroupLength
    return content.getvalue()[start:]


def store(image):
    return values((3, store_command(image.SOPInstanceUID))) + values((2, data_set(image)))


class Peer:
    """An open connection."""

    def __init__(self, port, source="127.0.0.1"):
        self.socket = socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, content):
        """Send, and say whether the other side still took it."""
        try:
            self.socket.sendall(content)
        except OSError:
            return False
        return True

    def answer(self, seconds=10.0):
        """Return type and content of the next PDU; (None, b"") when the connection is closed."""
        self.socket.settimeout(seconds)
        head = self._read(6)
        if len(head) < 6:
            return None, b""
        kind, _, length = struct.unpack(">BBL", head)
        return kind, self._read(length)

    def status(self):
        """Return the status of the next answer."""
        kind, content = self.answer()
        assert kind == DATA, kind
        place = content.index(struct.pack("<HHL", 0, 0x0900, 2))
        return struct.unpack_from("<H", content, place + 8)[0]

    def is_associated(self):
        self.send(request())
        return self.answer()[0] == ACCEPTED

    def is_closed(self, seconds=10.0):
        """Whether the other side closes the connection, whatever it sends before."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                if self.answer(left)[0] is None:
                    return True
        return False

    def _read(self, length):
        content = b""
        while len(content) < length:
            try:
                more = self.socket.recv(length - len(content))
            except ConnectionError:
                more = b""
            if not more:
                return content
            content += more
        return content
