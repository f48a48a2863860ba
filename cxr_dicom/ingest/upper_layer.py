"""The upper layer of one association (PS3.8): PDUs within bounds of bytes and seconds, one message at a time.

pynetdicom believes any length, waits for each byte anew, reads requests before the last one is answered, and ends a
thread with a traceback where a peer breaks the protocol. Here everything that ends an association early has one cause.
"""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from pynetdicom.dul import DULServiceProvider
from pynetdicom.pdu import A_ABORT_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket

from cxr_dicom.config.service import ListenerSettings
from cxr_dicom.system import negotiation
from cxr_dicom.system.telemetry import safe_description

if TYPE_CHECKING:
    from pynetdicom.association import Association

_ASSOCIATE, _DATA, _RELEASE, _ABORT = 0x01, 0x04, 0x05, 0x07  # PDU types (PS3.8 9.3.1)
_PDU_HEAD = 6  # type, reserved, length (PS3.8 9.3.5)
_ITEM_HEAD = 5  # length, presentation context ID (PS3.8 9.3.5.1)
MOST_NEGOTIATION_BYTES = 1 << 18  # of a PDU that asks for an association
MOST_VALUES = 1000  # of a PDU; senders put in one or two
LOOK_SECONDS = 0.1  # for which a thread waits at most for what is to wake it
_SHORT_PAUSE = 0.001  # seconds, where nothing can wake it: while an association begins or ends
_ESTABLISHED = "Sta6"  # ready for data transfer (PS3.8 9.2.1)
_LEAST_LIMIT = 1 << 20  # bytes of a PDU that are read in any case: some senders do not keep to what was negotiated

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
        Whether a message is whole and not yet answered; nothing more is read meanwhile.
    news
        Set when there is something for the association's thread.
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
        self.news = threading.Event()
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

    def heard(self) -> None:
        """Count the silence of the peer anew."""
        self._idle_timer.restart()

    def idle_timer_expired(self) -> bool:
        """Whether nothing came for `listener.idle_seconds`."""
        is_idle = super().idle_timer_expired()
        if is_idle:
            self.note(f"silent for listener.idle_seconds = {self._listener.idle_seconds:g}")
        return is_idle

    def _read_pdu_data(self) -> None:
        super()._read_pdu_data()
        if "Evt19" in self.event_queue.queue:  # an invalid PDU (PS3.8 9.2.3)
            self.note("sent what is no DICOM PDU")

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        kind = bytestream[0]
        if self.is_associating and kind not in (_ASSOCIATE, _ABORT):
            self.note("sent something else before asking for an association")
        try:
            if kind == _DATA:
                return _Data(memoryview(bytestream)), "Evt10"  # a P-DATA-TF PDU came (PS3.8 9.2.3)
            if kind == _ASSOCIATE:
                bytestream = _served(bytestream)
            decoded = super()._decode_pdu(bytestream)
        except Exception as error:
            self.note(_told(error, "sent a PDU that cannot be read"))
            raise
        if kind == _ABORT:
            self.note("aborted by the sender")
        elif kind == _ASSOCIATE:
            self.is_associating = False
            self.begin_message()
            if bytestream[_PDU_HEAD + 1] != 1:
                self.note("has another version of the protocol")
        elif kind == _RELEASE:
            self._release()
        return decoded

    def _release(self) -> None:
        """Note where a release is no good end."""
        if self.state_machine.current_state != _ESTABLISHED:
            self.note("released an association before it was accepted")
        elif self.assoc.dimse.message is not None:
            self.note("released the association in the middle of a message")
        else:
            self._is_over = True

    def begin_message(self) -> None:
        """A message, or the request for an association, is whole: its bytes and seconds are counted anew."""
        if isinstance(self.socket, BoundedSocket):
            self.socket.begin_message()


def _served(request: bytearray) -> bytearray:
    """Return a request for an association as `negotiation.served` does; its errors have numbers only, and are told."""
    try:
        return negotiation.served(request)
    except ValueError as error:
        raise ProtocolError(f"sent a request that cannot be served: {error}") from error


class _Telling(queue.Queue[Any]):
    """A queue that sets an event with each item."""

    def __init__(self, event: threading.Event) -> None:
        super().__init__()
        self._event = event

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._event.set()


class BoundedSocket(AssociationSocket):
    """Ends the association when what comes is too long, or comes too slowly."""

    def __init__(
        self, association: Association, client_socket: socket.socket, listener: ListenerSettings, since: float
    ) -> None:
        super().__init__(association, client_socket=client_socket)
        self._listener = listener
        self._most_pdu = max(listener.max_pdu_bytes, _LEAST_LIMIT)
        self._most_message = listener.max_instance_mb * 2**20 + self._most_pdu
        self._received = 0  # bytes of the message that comes
        self._began: float | None = since  # when its first byte came; of the first, when the connection was made

    @property
    def upper_layer(self) -> UpperLayer:
        """The reader of the PDUs."""
        found: UpperLayer = self.assoc.dul  # type: ignore[assignment]
        return found

    def begin_message(self) -> None:
        """Count anew."""
        self._received = 0
        self._began = None

    @property
    def ready(self) -> bool:
        """Whether there is something to read now; late peers are cut off here."""
        if self.upper_layer.is_busy or self.socket is None:
            return False
        if self._seconds_left() <= 0:
            self._end_late()
            return False
        return super().ready

    def recv(self, nr_bytes: int) -> bytearray:
        """Read as the base does, within bounds of bytes and seconds, and without its pieces of 4 KB."""
        most = MOST_NEGOTIATION_BYTES if self.upper_layer.is_associating else self._most_pdu
        if nr_bytes > most:
            self.upper_layer.note(f"sent a PDU of {nr_bytes} bytes; at most {most} are read")
            raise ConnectionAbortedError
        if self._received + nr_bytes > self._most_message:
            self.upper_layer.note(f"sent more than listener.max_instance_mb = {self._listener.max_instance_mb}")
            raise ConnectionAbortedError
        if self.socket is None:
            raise ConnectionAbortedError
        if self._began is None:
            self._began = time.monotonic()
        received, count = bytearray(nr_bytes), 0
        with memoryview(received) as view:
            while count < nr_bytes:
                more = self._recv_into(view[count:])
                if not more:
                    before = " before asking for an association" if self.upper_layer.is_associating else ""
                    self.upper_layer.note(f"closed the connection{before}, without a release")
                    break
                count += more
                self._received += more
                self.upper_layer.heard()
        del received[count:]
        return received

    def _shutdown_socket(self) -> None:
        """Close, also where the peer was first; the base then keeps the descriptor."""
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
            self.socket.close()

    def send(self, bytestream: bytes) -> None:
        """Send, and wait no longer than for anything else."""
        if self.socket is None:
            return
        try:
            self.socket.settimeout(self._listener.idle_seconds)
            self.socket.sendall(bytestream)
        except OSError as error:
            self.upper_layer.note(f"took no answer ({type(error).__name__})")
            self.event_queue.put("Evt17")  # the connection is closed (PS3.8 9.2.3)

    def _recv_into(self, view: memoryview) -> int:
        left = self._seconds_left()
        if self.socket is None or left <= 0:
            self._end_late()
            raise TimeoutError
        self.socket.settimeout(left)
        try:
            return self.socket.recv_into(view)
        except TimeoutError:
            self._end_late()
            raise
        except ConnectionError:
            return 0
        except OSError as error:
            self.upper_layer.note(f"the connection broke ({type(error).__name__})")
            raise

    def _seconds_left(self) -> float:
        """Return how long what comes may still take."""
        if self._began is None:
            return self._listener.idle_seconds
        if self.upper_layer.is_associating:
            allowed = self._listener.negotiation_seconds
        else:
            allowed = self._listener.idle_seconds + self._received / self._listener.min_bytes_per_second
        return self._began + allowed - time.monotonic()

    def _end_late(self) -> None:
        listener, layer = self._listener, self.upper_layer
        if layer.is_associating:
            layer.end(f"asked for no association in listener.negotiation_seconds = {listener.negotiation_seconds:g}")
        else:
            layer.end(f"slower than listener.min_bytes_per_second = {listener.min_bytes_per_second}")


def _told(error: Exception, otherwise: str) -> str:
    return str(error) if isinstance(error, ProtocolError) else f"{otherwise} ({safe_description(error)})"


class _Data(P_DATA_TF):
    """A P-DATA-TF PDU whose values are views of what came."""

    def __init__(self, received: memoryview) -> None:
        super().__init__()
        self._values = list(_values(received[_PDU_HEAD:]))

    def to_primitive(self) -> P_DATA:
        primitive = P_DATA()
        primitive.presentation_data_value_list.extend(self._values)
        return primitive


def _values(items: memoryview) -> Iterator[tuple[int, Any]]:
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
