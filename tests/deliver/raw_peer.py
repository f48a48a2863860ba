"""A C-STORE provider of bare sockets, that can say what no library would."""

import socket
import struct
import threading
from contextlib import contextmanager, suppress

STORE_RSP = 0x8001
LITTLE_ENDIAN = b"1.2.840.10008.1.2.1"


def item(kind, value):
    return bytes([kind, 0]) + struct.pack(">H", len(value)) + value


def pdu(kind, value):
    return bytes([kind, 0]) + struct.pack(">I", len(value)) + value


def exactly(connection, count):
    received = b""
    while len(received) < count:
        if not (more := connection.recv(count - len(received))):
            raise ConnectionAbortedError
        received += more
    return received


def read_pdu(connection):
    kind, _, length = struct.unpack(">BBI", exactly(connection, 6))
    return kind, exactly(connection, length)


def accepted(request, *, pad=b" ", version=b"RAW_1", user=b"", end=b""):
    """Accept everything that a request proposes."""
    contexts, rest = b"", request[68:]
    while rest:
        length = struct.unpack(">H", rest[2:4])[0]
        if rest[0] == 0x20:
            syntax = rest[4 : 4 + length].split(b"\x40\0", 1)[1][2:]
            contexts += item(0x21, rest[4:5] + b"\0\0\0" + item(0x40, syntax + end))
        rest = rest[4 + length :]
    information = item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3" + end) + item(0x55, version) + user
    titles = b"RAW".ljust(16, pad) + b"CXRDICOM".ljust(16, pad)
    return pdu(
        2,
        b"\0\1\0\0"
        + titles
        + bytes(32)
        + item(0x10, b"1.2.840.10008.3.1.1.1" + end)
        + contexts
        + item(0x50, information),
    )


def element(number, value):
    return struct.pack("<HHI", 0, number, len(value)) + value


def answer(context, number, *, status=b"\0\0", uid=b"", command=STORE_RSP):
    """Make the PDU of a C-STORE response; ``status`` None leaves it out."""
    elements = element(0x0100, struct.pack("<H", command)) + element(0x0120, struct.pack("<H", number))
    elements += element(0x0800, struct.pack("<H", 0x0101))
    elements += b"" if status is None else element(0x0900, status)
    elements += element(0x1000, uid + b"\0" * (len(uid) % 2)) if uid else b""
    value = bytes([context, 3]) + element(0x0000, struct.pack("<I", len(elements))) + elements
    return pdu(4, struct.pack(">I", len(value)) + value)


def read_request(connection):
    """Read a C-STORE request with its data set; return context, Message ID and command."""
    command = b""
    while True:
        kind, value = read_pdu(connection)
        if kind != 4:
            raise ConnectionAbortedError
        while value:
            length = struct.unpack(">I", value[:4])[0]
            context, control, fragment = value[4], value[5], value[6 : 4 + length]
            value = value[4 + length :]
            if control & 1:
                command += fragment
            elif control & 2:
                at = command.index(b"\0\0\x10\x01\2\0\0\0") + 8
                return context, struct.unpack("<H", command[at : at + 2])[0]


@contextmanager
def peer(serve):
    """Give each connection to ``serve``, with an event that is set when the test ends; yields the port."""
    server, ended = socket.create_server(("127.0.0.1", 0)), threading.Event()

    def one(connection):
        with connection, suppress(OSError, ConnectionError):
            serve(connection, ended)

    def accept():
        with suppress(OSError):
            while True:
                threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield server.getsockname()[1]
    finally:
        ended.set()
        server.close()


def storing(*answers, **odd):
    """Accept, in an odd way, and give each request the next answer: a function of context and Message ID."""

    def serve(connection, ended):
        connection.sendall(accepted(read_pdu(connection)[1], **odd))
        for make in answers:
            for piece in make(*read_request(connection)):
                connection.sendall(piece)
        while True:
            kind, _ = read_pdu(connection)
            if kind == 5:
                connection.sendall(pdu(6, bytes(4)))
                return

    return serve


def dripping(content, ended):
    """Yield bytes one by one, and slowly."""
    for byte in content:
        if ended.wait(0.1):
            return
        yield bytes([byte])
