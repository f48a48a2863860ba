"""The connection of one association: what comes is bounded in bytes and seconds, and read without a copy."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from typing import TYPE_CHECKING

from pynetdicom.transport import AssociationSocket

from cxr_dicom.config.service import ListenerSettings
from cxr_dicom.system import negotiation

if TYPE_CHECKING:
    from pynetdicom.association import Association

    from cxr_dicom.ingest.upper_layer import UpperLayer

_ACCEPTANCE = 0x02  # PDU type (PS3.8 9.3.1)
MOST_NEGOTIATION_BYTES = 1 << 18  # of a PDU that asks for an association
_LEAST_LIMIT = 1 << 20  # bytes of a PDU that are read in any case: some senders do not keep to what was negotiated


class BoundedSocket(AssociationSocket):
    """Ends the association when what comes is too long, or comes too slowly."""

    def __init__(
        self, association: Association, client_socket: socket.socket, listener: ListenerSettings, since: float
    ) -> None:
        super().__init__(association, client_socket=client_socket)
        client_socket.settimeout(0)  # what is here is read at once, and waited for is only what is not
        self._listener = listener
        self._most_pdu = max(listener.max_pdu_bytes, _LEAST_LIMIT)
        self._most_message = listener.max_instance_mb * 2**20 + self._most_pdu
        self._buffer = bytearray()  # of the PDU that is read
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
        """Whether there is something to read now, and nothing to send before; late peers are cut off here."""
        if self.upper_layer.is_busy or not self.provider_queue.empty() or self.socket is None:
            return False
        if self.upper_layer.is_to_stop:
            self.upper_layer.end("", abort=True)
            return False
        if self._seconds_left() <= 0:
            self._end_late()
            return False
        return super().ready

    def receive(self, count: int) -> memoryview:
        """Read so many bytes, within bounds of bytes and seconds; they are valid until the next call.

        Raises
        ------
        OSError
            If they do not come; the cause is noted.
        """
        most = MOST_NEGOTIATION_BYTES if self.upper_layer.is_associating else self._most_pdu
        if count > most:
            self.upper_layer.note(f"sent a PDU of {count} bytes; at most {most} are read")
            raise ConnectionAbortedError
        if self._received + count > self._most_message:
            self.upper_layer.note(f"sent more than listener.max_instance_mb = {self._listener.max_instance_mb}")
            raise ConnectionAbortedError
        if self._began is None:
            self._began = time.monotonic()
        if len(self._buffer) < count:
            self._buffer = bytearray(count)
        view, read = memoryview(self._buffer)[:count], 0
        while read < count:
            more = self._recv_into(view[read:])
            if not more:
                before = " before asking for an association" if self.upper_layer.is_associating else ""
                self.upper_layer.note(f"closed the connection{before}, without a release")
                raise ConnectionAbortedError
            read += more
            self._received += more
            self.upper_layer.heard()
        return view

    def _shutdown_socket(self) -> None:
        """Close, also where the peer was first; the base then keeps the descriptor."""
        connection = self.socket  # another thread may close it too
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def send(self, bytestream: bytes) -> None:
        """Send, and wait no longer than for anything else."""
        connection = self.socket
        if connection is None:
            return
        if bytestream[0] == _ACCEPTANCE:
            bytestream = negotiation.answered(bytestream, self.upper_layer.declined)
        try:
            connection.settimeout(self._listener.idle_seconds)
            connection.sendall(bytestream)
            connection.settimeout(0)
        except OSError as error:
            self.upper_layer.note(f"took no answer ({type(error).__name__})")
            self.event_queue.put("Evt17")  # the connection is closed (PS3.8 9.2.3)

    def _recv_into(self, view: memoryview) -> int:
        """Read what is here, or wait for it; 0: nothing more will come."""
        while (connection := self.socket) is not None:
            left = self._seconds_left()
            if left <= 0:
                self._end_late()
                raise TimeoutError
            try:
                return connection.recv_into(view)
            except (BlockingIOError, ssl.SSLWantReadError):
                with contextlib.suppress(ValueError):  # closed meanwhile: the next try says so
                    select.select([connection], [], [], left)
            except ConnectionError:
                return 0
            except OSError as error:
                self.upper_layer.note(f"the connection broke ({type(error).__name__})")
                raise
        raise ConnectionAbortedError

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
