"""The upper layer of one association (PS3.8): PDUs within bounds of bytes and seconds, one message at a time.

pynetdicom believes any length, waits for each byte anew, reads requests before the last one is answered, and ends a
thread with a traceback where a peer breaks the protocol. Here everything that ends an association early has one cause.
"""

from __future__ import annotations

import contextlib
import queue
import select
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ABORT_RQ, P_DATA_TF

from cxr_dicom.config.service import ListenerSettings
from cxr_dicom.ingest.connection import BoundedSocket
from cxr_dicom.system import negotiation
from cxr_dicom.system.telemetry import safe_description

if TYPE_CHECKING:
    from pynetdicom.association import Association

    from cxr_dicom.ingest.dimse import FileProvider

_ASSOCIATE, _DATA, _RELEASE, _ABORT = 0x01, 0x04, 0x05, 0x07  # PDU types (PS3.8 9.3.1)
_PDU_HEAD = struct.Struct(">BxL")  # type, length (PS3.8 9.3.5)
_VALUE_HEAD = struct.Struct(">LBB")  # of a value: length, presentation context ID, control header (PS3.8 9.3.5.1, E.2)
_ITEM_HEAD = 5  # length, presentation context ID (PS3.8 9.3.5.1)
MOST_VALUES = 1000  # of a PDU; senders put in one or two
LOOK_SECONDS = 0.1  # for which a thread waits at most for what is to wake it
_SHORT_PAUSE = 0.001  # seconds, where nothing can wake it: while an association begins or ends
_ESTABLISHED = "Sta6"  # ready for data transfer (PS3.8 9.2.1)

OnEnd = Callable[["Association", str], None]


class ProtocolError(ValueError):
    """A peer sent what it may not send; the text says what."""


class UpperLayer(DULServiceProvider):
    """pynetdicom's reader of PDUs, which copies no data and says why it ended.

    Parameters
    ----------
    connection
        Address and port of the peer.
    on_end
        Called once, when nothing more will come, with the cause: empty after a release or a rejection.

    Attributes
    ----------
    is_busy
        Whether a message is whole and not yet answered by the association's thread; nothing more is read meanwhile.
    is_to_stop
        Whether nothing more is to be read at all.
    news
        Set when there is something for the association's thread.
    declined
        Results of the presentation contexts that pynetdicom is not asked about.
    """

    def __init__(self, association: Association, listener: ListenerSettings, connection: Any, on_end: OnEnd) -> None:
        super().__init__(association)
        self._listener = listener
        self.connection = connection
        self._on_end = on_end
        self._cause = ""
        self._is_over = False  # released
        self.is_associating = True  # until the request is whole
        self.is_busy = False
        self.is_to_stop = False
        self._is_at_work = False
        self.news = threading.Event()
        self.declined: list[bytes] = []
        self.to_user_queue = _Telling(self.news)
        self._is_answered = threading.Event()

    @property
    def _run_loop_delay(self) -> float:
        """Seconds to sleep between two looks; pynetdicom's reactor asks for it when it found nothing to do.

        pynetdicom looks a thousand times a second, which takes the processor from others where there are many
        associations. Here the reactor waits until something comes, and then looks at once.
        """
        if threading.current_thread() is not self:
            return _SHORT_PAUSE
        self._rest()
        return 0.0

    @_run_loop_delay.setter
    def _run_loop_delay(self, seconds: float) -> None:
        """Ignore what pynetdicom sets."""

    def _rest(self) -> None:
        """Wait for what can come now: the answer of ours that is due, or bytes of the peer."""
        connection = self.socket.socket if self.socket is not None else None
        if self.state_machine.current_state != _ESTABLISHED or connection is None or self._kill_thread:
            time.sleep(_SHORT_PAUSE)
        elif self.is_busy:
            self._is_answered.wait(LOOK_SECONDS)
        elif not (isinstance(connection, ssl.SSLSocket) and connection.pending()):
            with contextlib.suppress(OSError, ValueError):  # closed meanwhile: the next look says so
                select.select([connection], [], [], LOOK_SECONDS)

    def run_reactor(self) -> None:
        """Read until the end; whatever goes wrong ends this association and nothing else."""
        try:
            super().run_reactor()
        except Exception as error:
            self.end(_told(error, "broke the protocol"), abort=True)
        finally:
            self.conclude()

    def conclude(self) -> None:
        """Close the connection and tell that the association is over; called once."""
        self.end("broke the protocol")
        self.to_user_queue.put(cast(Any, None))  # whoever still waits for a request stops waiting
        is_told = self._is_over or self.assoc.is_rejected
        self._on_end(self.assoc, "" if is_told else self._cause)

    def end(self, cause: str, *, abort: bool = False) -> None:
        """Close the connection; the first cause counts."""
        self.note(cause)
        connection = self.socket
        if connection is not None and connection.socket is not None:
            if abort:
                pdu = A_ABORT_RQ()
                pdu.source, pdu.reason_diagnostic = 2, 0  # the service provider, no reason given (PS3.8 9.3.8)
                connection.send(pdu.encode())
            connection.close()

    def stop(self, cause: str) -> None:
        """Let its thread abort the association, from another thread, when the message that is whole is answered."""
        self.note(cause)
        self.is_to_stop = True

    def note(self, cause: str) -> None:
        """Remember why the association ends, unless that is known."""
        self._cause = self._cause or cause

    def received(self) -> None:
        """Read nothing more until the message that is whole is answered."""
        self._is_answered.clear()
        self.is_busy = True
        self.news.set()

    def answered(self) -> None:
        """Read on: the last message was answered, or asks for no answer."""
        if self.is_busy:
            self.is_busy = False
            self.heard()  # the time that we took is no silence of the peer
            self._is_answered.set()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Let this thread serve a message itself: the time that it takes is no silence of the peer."""
        self._is_at_work = True
        try:
            yield
        finally:
            self.heard()
            self._is_at_work = False

    def send_command(self, context_id: int, command: bytes) -> None:
        """Send a command set, from this thread, in pieces that the peer takes (PS3.8 E.1)."""
        connection, most = self.socket, (self.assoc.requestor.maximum_length or len(command) + _VALUE_HEAD.size)
        if connection is None:
            return
        size = most - _VALUE_HEAD.size
        for start in range(0, len(command), size):
            piece = command[start : start + size]
            is_last = start + size >= len(command)
            head = _VALUE_HEAD.pack(len(piece) + 2, context_id, 3 if is_last else 1)  # of a command set (PS3.8 E.2)
            connection.send(_PDU_HEAD.pack(_DATA, len(head) + len(piece)) + head + piece)

    def heard(self) -> None:
        """Count the silence of the peer anew."""
        self._idle_timer.restart()

    def idle_timer_expired(self) -> bool:
        """Whether nothing came for `listener.idle_seconds`."""
        is_idle = not self._is_at_work and super().idle_timer_expired()
        if is_idle:
            self.note(f"silent for listener.idle_seconds = {self._listener.idle_seconds:g}")
        return is_idle

    def _read_pdu_data(self) -> None:
        """Read PDUs as long as they are of one message and are here already; data go straight to it."""
        while self._read() and self._provider.is_within_message and self._may_read_on():
            pass

    def _may_read_on(self) -> bool:
        """Whether the next PDU is here."""
        return not self._kill_thread and self.socket is not None and self.socket.ready

    @property
    def _provider(self) -> FileProvider:
        found: FileProvider = self.assoc.dimse  # type: ignore[assignment]
        return found

    def _read(self) -> bool:
        """Read one PDU; tell whether it was data of an open association."""
        connection = cast(BoundedSocket, self.socket)
        try:
            head = bytes(connection.receive(_PDU_HEAD.size))
            kind, length = _PDU_HEAD.unpack(head)
            if not _ASSOCIATE <= kind <= _ABORT:
                self.note("sent what is no DICOM PDU")
                self.event_queue.put("Evt19")  # an invalid PDU (PS3.8 9.2.3)
                return False
            content = connection.receive(length)
        except OSError:
            self.event_queue.put("Evt17")  # the connection is closed
            return False
        try:
            if kind == _DATA and self.state_machine.current_state == _ESTABLISHED:
                self._provider.take(list(_values(content)))
                return True
            pdu, event = self._decode_pdu(bytearray(head) + content)
        except Exception as error:
            self.note(_told(error, "sent a PDU that cannot be read"))
            self.event_queue.put("Evt19")
            return False
        self.event_queue.put(event)
        self._recv_pdu.put(pdu)
        return False

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        kind = bytestream[0]
        if self.is_associating and kind not in (_ASSOCIATE, _ABORT):
            self.note("sent something else before asking for an association")
        if kind == _DATA:
            return P_DATA_TF(), "Evt10"  # a P-DATA-TF PDU came, where none is awaited (PS3.8 9.2.3)
        if kind == _ASSOCIATE:
            bytestream = self._served(bytestream)
        decoded = super()._decode_pdu(bytestream)
        if kind == _ABORT:
            self.note("aborted by the sender")
        elif kind == _ASSOCIATE:
            self.is_associating = False
            self.begin_message()
            if bytestream[_PDU_HEAD.size + 1] != 1:
                self.note("has another version of the protocol")
        elif kind == _RELEASE:
            self._release()
        return decoded

    def _served(self, request: bytearray) -> bytearray:
        """Return what pynetdicom needs of a request; what is wrong with one is told: these texts hold numbers only."""
        offered = {str(context.abstract_syntax).encode() for context in self.assoc.acceptor.supported_contexts}
        try:
            needed, self.declined = negotiation.served(request, offered)
        except ValueError as error:
            raise ProtocolError(f"sent a request that cannot be served: {error}") from error
        return needed

    def _release(self) -> None:
        """Note where a release is no good end."""
        if self.state_machine.current_state != _ESTABLISHED:
            self.note("released an association before it was accepted")
        elif self._provider.is_within_message:
            self.note("released the association in the middle of a message")
        else:
            self._is_over = True

    def begin_message(self) -> None:
        """A message, or the request for an association, is whole: its bytes and seconds are counted anew."""
        if isinstance(self.socket, BoundedSocket):
            self.socket.begin_message()


class _Telling(queue.Queue[Any]):
    """A queue that sets an event with each item."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__()
        self._event = event

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._event.set()


def _told(error: Exception, otherwise: str) -> str:
    return str(error) if isinstance(error, ProtocolError) else f"{otherwise} ({safe_description(error)})"


def _values(items: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield presentation context ID and value of each item.

    Raises
    ------
    ProtocolError
        If an item is longer than the PDU, or has no control header, or there are too many.
    """
    for _ in range(MOST_VALUES):
        if not items:
            return
        end = 4 + int.from_bytes(items[:4], "big")
        if not _ITEM_HEAD < end <= len(items):
            raise ProtocolError("sent presentation data value items that do not fill their PDU")
        yield items[4], items[_ITEM_HEAD:end]
        items = items[end:]
    raise ProtocolError(f"sent more than {MOST_VALUES - 1} presentation data values in a PDU")
