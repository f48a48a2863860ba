"""The requesting side of DICOM associations, within bounds that pynetdicom does not set.

By itself it waits for ever for the rest of a PDU, believes any length, and does not say why no association came about.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Queue
from ssl import SSLContext
from typing import Any, cast

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu_primitives import A_P_ABORT
from pynetdicom.transport import AddressInformation, AssociationSocket

from cxr_dicom.config.service import DicomAccess
from cxr_dicom.system.negotiation import plain

SLOWEST = 16 << 10  # bytes in a second, on average, that a peer must take
MAX_ANSWER = 1 << 20  # bytes of the answer to an operation, unless its caller expects more
_MAX_PDU = 1 << 20  # bytes; peers may go beyond what we asked for, but not far
_HEAD = 6  # bytes of a PDU before its value
LATE = "did not finish in time"  # a remark
_NEGOTIATION = (0x01, 0x02, 0x03)  # PDU types
_RELEASE = 0x05
_ESTABLISHED = "Sta6"  # PS3.8 9.2.1
_NOTHING = (None, None)  # as if the association had ended
_PDU_TYPES = range(0x01, 0x08)
_TLS_RECORDS = (0x15, 0x16)  # alert, handshake (RFC 8446 5.1)


class Requestor(AE):
    """Calls one peer.

    Attributes
    ----------
    line
        The connection of the latest association; None before the first.
    """

    def __init__(self, access: DicomAccess) -> None:
        super().__init__(access.calling_ae_title)
        self.connection_timeout = self.acse_timeout = self.dimse_timeout = access.timeout_seconds
        self.network_timeout = max(access.timeout_seconds, 60)
        self.line: Line | None = None
        self._seconds = access.timeout_seconds

    def _create_socket(
        self, assoc: Association, address: AddressInformation, tls_args: tuple[SSLContext, str] | None
    ) -> AssociationSocket:
        assoc.dul = _UpperLayer(assoc)
        assoc.dimse.msg_queue = _Messages()
        assoc.__class__, assoc._reactor_checkpoint = _Association, _Turn()  # ``associate`` makes one by its name
        assoc.network_timeout, assoc.acse_timeout = self.network_timeout, self.acse_timeout  # of the new upper layer
        self.line = Line(assoc, address, self._seconds)
        self.line.tls_args = tls_args
        return self.line


class _Turn(threading.Event):
    """Whose turn it is on an association: its caller's, who waits for an answer, or that of its own thread.

    The thread looks for what the peer asks for, while this is set. pynetdicom lets both believe for a moment that it is
    their turn; then one takes what the other waits for.
    """

    def __init__(self) -> None:
        super().__init__()
        self._look = threading.Lock()
        self._is_looking = False
        self.set()

    def clear(self) -> None:
        """Take the turn, as the caller: once this returns, the thread looks at nothing."""
        with self._look:
            super().clear()

    def wait(self, timeout: float | None = None) -> bool:
        """End one look, as the thread, and wait for the next."""
        self.end_look()
        while super().wait(timeout):
            self._look.acquire()
            self._is_looking = self.is_set()
            if self._is_looking:
                return True
            self._look.release()
        return False

    def end_look(self) -> None:
        """Let the caller have its turn, as the thread."""
        if self._is_looking:
            self._is_looking = False
            self._look.release()


class _Association(Association):
    """One whose caller never waits for ever for its turn: what the base says of itself may be out of date."""

    @property
    def _is_paused(self) -> bool:
        """Whether the caller may go on when it has the turn; the base forgets it when a report is served meanwhile."""
        return True

    @_is_paused.setter
    def _is_paused(self, value: bool) -> None:
        """Ignore what pynetdicom sets."""

    def _run_reactor(self) -> None:
        try:
            super()._run_reactor()
        finally:
            cast(_Turn, self._reactor_checkpoint).end_look()


class _Messages(Queue[Any]):
    """What a peer said; that nothing more comes is told to every reader, not only to the first of two threads."""

    def _get(self) -> Any:
        message = super()._get()
        if message == _NOTHING:
            self._put(message)
        return message


class _UpperLayer(DULServiceProvider):
    """Reads the answers of peers that do not keep to the form of the standard, or to its order."""

    def run_reactor(self) -> None:
        """Run as the base does; what its state machine does not foresee ends the association, without a word."""
        try:
            super().run_reactor()
        except Exception:
            self.assoc.is_aborted, self.assoc.is_established, self.assoc._kill = True, False, True
            if self.socket:
                self.socket.close()
        finally:  # what somebody waits for will not come, and whoever waits says so
            self.assoc.dimse.msg_queue.put(_NOTHING)
            self.to_user_queue.put(A_P_ABORT())

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        if bytestream[0] == _RELEASE:  # of a peer that answers nothing any more
            self.assoc.dimse.msg_queue.put(_NOTHING)
        return super()._decode_pdu(plain(bytestream) if bytestream[0] in _NEGOTIATION else bytestream)


class Line(AssociationSocket):
    """A connection on which each PDU has a deadline and a bound, and each `operation` too.

    A DIMSE message is a command, then its data, then an answer: small packets, which Nagle's algorithm (RFC 896) holds
    back until the one before is acknowledged; and receivers put that off (RFC 1122 4.2.3.2), on Linux by 40 ms. So we
    send at once, and acknowledge at once, for peers that hold back.

    Attributes
    ----------
    trouble
        What went wrong with the connection itself, if anything did.
    remark
        What was found instead of DICOM, or of an answer within its bounds; empty where nothing was.
    """

    def __init__(self, assoc: Association, address: AddressInformation, seconds: float) -> None:
        super().__init__(assoc, address=address)
        self.trouble: BaseException | None = None
        self.remark = ""
        self._seconds = seconds
        self._pdu_until = 0.0
        self._until: float | None = None  # of the operation
        self._left = 0  # bytes of its answer

    def begin(self, seconds: float, most_bytes: int) -> None:
        """Let the operation that begins take so long, and its answer be so long."""
        self._until, self._left = time.monotonic() + seconds, most_bytes

    def end(self) -> None:
        """Bound single PDUs only, from now on."""
        self._until = None

    def _create_socket(self, address: AddressInformation) -> socket.socket:
        made = super()._create_socket(address)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def recv(self, nr_bytes: int) -> bytearray:
        """Read as the base does, until the deadline."""
        if nr_bytes == _HEAD:
            self._pdu_until = time.monotonic() + self._seconds
            if hasattr(socket, "TCP_QUICKACK"):  # Linux, which returns to its pauses by itself (tcp(7))
                self._open(self._pdu_until).setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        self._expect_bounded(nr_bytes)
        received, count = bytearray(nr_bytes), 0
        with memoryview(received) as view:
            while count < nr_bytes and (more := self._open(self._pdu_until).recv_into(view[count:])):
                count += more
        del received[count:]
        if nr_bytes == _HEAD:
            self._recognise(bytes(received))
        return received

    def send(self, bytestream: bytes) -> None:
        """Send as the base does, until the deadline."""
        try:
            self._open(time.monotonic() + self._seconds).sendall(bytestream)
        except OSError as error:
            self.trouble = self.trouble or error
            self.event_queue.put("Evt17")  # the connection is closed (PS3.8 9.2.3)

    def _open(self, until: float) -> socket.socket:
        """Return the socket, which waits no longer than it may."""
        remaining = min(until, self._until or until) - time.monotonic()
        if remaining <= 0:
            self.remark = LATE
            raise TimeoutError(self.remark)
        if self.socket is None:
            raise ConnectionAbortedError
        self.socket.settimeout(remaining)
        return self.socket

    def _expect_bounded(self, nr_bytes: int) -> None:
        if nr_bytes > _MAX_PDU:
            self.remark = f"sent a PDU of {nr_bytes} bytes"
        elif self._until is not None:
            self._left -= nr_bytes
            if self._left < 0:
                self.remark = "sent an answer without an end"
        if self.remark:
            raise ConnectionAbortedError(self.remark)

    def _recognise(self, head: bytes) -> None:
        """Note what speaks where DICOM was expected."""
        if not head:
            self.remark = self.remark or "closed the connection"
        elif head[0] not in _PDU_TYPES:
            other = "HTTP" if head.startswith(b"HTTP/") else "TLS" if head[0] in _TLS_RECORDS else "something else"
            self.remark = f"is not DICOM: speaks {other}"

    def _shutdown_socket(self) -> None:
        if self.trouble is None and not self._is_connected:  # called while `connect` handles what went wrong
            self.trouble = sys.exc_info()[1]
        super()._shutdown_socket()
        if self.socket:  # the base leaves one open that was never connected
            self.socket.close()


def goes_on(opened: Association) -> bool:
    """Whether a peer has neither ended an association nor asked for its end."""
    return opened.is_established and opened.dul.state_machine.current_state == _ESTABLISHED


def leave(opened: Association, seconds: float) -> None:
    """Release an association; where its peer ends it, wait at most so long until that is over."""
    if goes_on(opened):
        opened.release()
    else:
        opened._reactor_checkpoint.set()  # its thread answers a peer that asked for the end
        opened.join(seconds)


@contextmanager
def operation(opened: Association, seconds: float, most_bytes: int = MAX_ANSWER) -> Iterator[None]:
    """Bound what is sent and received inside: a peer that drips, or never comes to an end, is cut off.

    Parameters
    ----------
    seconds
        For all of it. Each message of the answer may take so long too, unless it is cut off before.
    most_bytes
        That the peer may send.
    """
    line = opened.dul.socket
    opened.dimse_timeout = seconds
    if not isinstance(line, Line):  # closed meanwhile
        yield
        return
    line.begin(seconds, most_bytes)
    try:
        yield
    finally:
        line.end()
