"""The listener: C-ECHO, C-STORE to the intake, and reports of storage commitment.

An instance is written as it comes, never decoded, and success is told only when it is on the disk.
No model runs here. What a stranger can make this process hold is bounded: connections, bytes of a
PDU, bytes of an instance, seconds of silence.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import socketserver
import ssl
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from pydicom import Dataset
from pydicom.uid import AllTransferSyntaxes, DeflatedExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from cxr_dicom.config.service import ListenerSettings
from cxr_dicom.errors import SettingsError
from cxr_dicom.ingest.assembly import Assembly
from cxr_dicom.ingest.dimse import FileProvider, UpperLayer
from cxr_dicom.ingest.intake import Intake, Refusal, RefusedError
from cxr_dicom.store.spool import Spool
from cxr_dicom.system import telemetry
from cxr_dicom.system.network import server_tls

SUCCESS = 0x0000
_STATUS = {  # PS3.4 B.2.3 and PS3.7 C
    Refusal.NO_SPACE: 0xA700,  # out of resources: the sender tries again
    Refusal.UNREADABLE: 0xC000,  # cannot understand
    Refusal.INVALID_UID: 0xC000,
    Refusal.OTHER_STUDY: 0xC001,
    Refusal.UID_MISMATCH: 0xA900,  # data set does not match SOP class
    Refusal.WRONG_SOP_CLASS: 0x0122,  # SOP class not supported
    Refusal.OWN_OUTPUT: 0x0124,  # not authorised
}
_REJECTIONS = {  # source and diagnostic (PS3.8 9.3.4)
    (1, 3): "not in listener.calling_ae_titles",
    (1, 7): "called another name than listener.ae_title",
    (3, 2): "listener.max_associations are open",
}
_NO_SUCH_TRANSACTION = 0x0115  # invalid argument value
_MAX_NEGOTIATION_BYTES = 1 << 20  # of a PDU that asks for an association

# A deflated instance of a few kilobytes may unpack to gigabytes; every sender has another syntax to offer.
TRANSFER_SYNTAXES = [uid for uid in AllTransferSyntaxes if uid != DeflatedExplicitVRLittleEndian]

OnCommitment = Callable[[str, Dataset], bool]


class Listener:
    """The provider of C-ECHO and C-STORE on one port.

    Parameters
    ----------
    settings
        Table ``[listener]``.
    intake
        Where instances go.
    assembly
        Told when an association ends.
    on_commitment
        Called with Transaction UID and event information of a report; tells whether the transaction
        was ours. A stranger cannot guess a Transaction UID.

    Raises
    ------
    SettingsError
        If the port is taken, or certificates cannot be read.
    """

    def __init__(
        self, settings: ListenerSettings, intake: Intake, assembly: Assembly, on_commitment: OnCommitment
    ) -> None:
        self._settings = settings
        self._intake = intake
        self._assembly = assembly
        self._on_commitment = on_commitment
        self._entity = _entity(settings)
        try:
            self._server = self._entity.make_server(
                (settings.address, settings.port),
                evt_handlers=[
                    (evt.EVT_C_ECHO, lambda event: SUCCESS),
                    (evt.EVT_C_STORE, self._store),
                    (evt.EVT_N_EVENT_REPORT, self._report),
                    (evt.EVT_REJECTED, self._rejected),
                    (evt.EVT_CONN_CLOSE, self._left),
                ],
                server_class=_Server,
                listener=settings,
                spool=intake.spool,
                tls=server_tls(settings.tls) if settings.tls else None,
            )
        except OSError as error:
            place = f"{settings.address}:{settings.port}"
            raise SettingsError(f"listener.address, listener.port = {place}: {error.strerror}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="listener", daemon=True)

    def start(self) -> None:
        """Accept associations from now on."""
        if not self._settings.calling_addresses:
            telemetry.event(
                "listener_loopback_only", level=logging.WARNING, status="listener.calling_addresses is empty"
            )
        self._thread.start()
        telemetry.event("listener_started", address=self._settings.address, port=self._settings.port)

    @property
    def is_alive(self) -> bool:
        """Whether associations are accepted."""
        return self._thread.is_alive()

    def stop(self, seconds: float) -> None:
        """Accept no more; wait so long for open associations, then abort them."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        until = time.monotonic() + seconds
        while self._server.active_associations and time.monotonic() < until:
            time.sleep(0.05)
        for association in self._server.active_associations:
            association.abort()

    def _store(self, event: Any) -> Dataset | int:  # the class of an event's request depends on its message
        request, association = event.request, event.assoc
        association.dul.socket.begin_message()
        try:
            self._intake.store(
                request.DataSet.finish,
                sender=association.requestor.ae_title,
                sop_instance_uid=str(request.AffectedSOPInstanceUID),
                sop_class_uid=str(request.AffectedSOPClassUID),
                address=association.requestor.address,
                association=association,
            )
        except RefusedError as error:
            return _refused(_STATUS[error.refusal], error.refusal)
        except Exception as error:  # the sender must hear something, and the next instance may be fine
            telemetry.failure("store", error)
            return _refused(0xA700, "INTERNAL_ERROR")
        return SUCCESS

    def _rejected(self, event: Any) -> None:
        requestor, answer = event.assoc.requestor, event.assoc.acceptor.primitive
        reason = _REJECTIONS.get((answer.result_source, answer.diagnostic), f"diagnostic {answer.diagnostic}")
        self._intake.rejected(requestor.ae_title, requestor.address, reason)

    def _left(self, event: Any) -> None:
        event.assoc.dimse.close()
        self._assembly.left(event.assoc)

    def _report(self, event: Any) -> tuple[int, None]:
        event.assoc.dul.socket.begin_message()
        try:
            information = event.event_information
            known = self._on_commitment(str(information.get("TransactionUID", "")), information)
        except Exception as error:  # as in _store
            telemetry.failure("commitment_report", error)
            return 0x0110, None
        return (SUCCESS if known else _NO_SUCH_TRANSACTION), None


def _entity(settings: ListenerSettings) -> AE:
    entity = AE(settings.ae_title)
    entity.require_called_aet = True
    entity.require_calling_aet = list(settings.calling_ae_titles)
    entity.maximum_associations = settings.max_associations
    entity.maximum_pdu_size = settings.max_pdu_bytes
    entity.network_timeout = settings.idle_seconds
    entity.acse_timeout = settings.negotiation_seconds
    entity.dimse_timeout = settings.idle_seconds
    entity.add_supported_context(Verification)
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    for sop_class in settings.sop_classes:
        entity.add_supported_context(sop_class, TRANSFER_SYNTAXES)
    return entity


def _refused(status: int, comment: str) -> Dataset:
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = comment
    return answer


# --- bounds --------------------------------------------------------------------------------------


class _Server(ThreadedAssociationServer):
    """pynetdicom's server, which shakes hands outside of the accepting thread and turns strangers away."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self, *args: Any, listener: ListenerSettings, spool: Spool, tls: ssl.SSLContext | None, **options: Any
    ) -> None:
        self.listener = listener
        self.spool = spool
        self._tls = tls
        self._networks = [ipaddress.ip_network(each, strict=False) for each in listener.calling_addresses]
        self._shaking_hands = 0
        self._guard = threading.Lock()
        options["request_handler"] = _Handler
        super().__init__(*args, **options)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take a connection from an address on the list, while there is room for it."""
        address = ipaddress.ip_address(client_address[0])
        if not (any(address in each for each in self._networks) if self._networks else address.is_loopback):
            return _turned_away(client_address, "not in listener.calling_addresses")
        with self._guard:
            open_now = self._shaking_hands + len(self.active_associations)
            if open_now >= 2 * self.listener.max_associations + 8:
                return _turned_away(client_address, f"{open_now} connections are open")
            self._shaking_hands += 1
        return True

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands, if TLS is asked for, and hand over to pynetdicom."""
        try:
            request.settimeout(self.listener.negotiation_seconds)
            if self._tls:
                request = self._tls.wrap_socket(request, server_side=True)
            request.settimeout(self.listener.idle_seconds)
            super().process_request_thread(request, client_address)
        except OSError as error:
            _turned_away(client_address, f"TLS: {type(error).__name__}")
            self.shutdown_request(request)
        finally:
            with self._guard:
                self._shaking_hands -= 1

    def shutdown(self) -> None:
        """Stop accepting; open associations go on."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log instead of printing a traceback."""
        error = sys.exc_info()[1]
        if error is not None:
            telemetry.failure("connection", error, address=client_address[0])


class _Handler(RequestHandler):
    """Gives each association a socket that reads no more than it may, and the way to the spool."""

    server: _Server

    def _create_association(self) -> Association:
        association = super()._create_association()
        association.dimse = FileProvider(association, self.server.spool)
        association.dul = UpperLayer(association)
        association.network_timeout = self.ae.network_timeout  # tells the new upper layer
        association.acse_timeout = self.ae.acse_timeout
        association.dul.socket = _BoundedSocket(association, self.request, self.server.listener)
        return association


class _BoundedSocket(AssociationSocket):
    """Closes when a PDU or a message is longer than allowed; pynetdicom itself believes any length."""

    def __init__(self, association: Association, client_socket: socket.socket, listener: ListenerSettings) -> None:
        super().__init__(association, client_socket=client_socket)
        self._max_pdu = max(listener.max_pdu_bytes, _MAX_NEGOTIATION_BYTES)
        self._max_message = listener.max_instance_mb * 2**20 + self._max_pdu
        self._received = 0

    def begin_message(self) -> None:
        """A message is whole: count anew."""
        self._received = 0

    def recv(self, nr_bytes: int) -> bytearray:
        """Read as the base does, within bounds, and without its pieces of 4 KB."""
        self._received += nr_bytes
        if nr_bytes > self._max_pdu or self._received > self._max_message:
            self._shutdown_socket()
            _turned_away((self.assoc.requestor.address,), "sent more than listener.max_instance_mb or a PDU too long")
            raise ConnectionAbortedError
        if self.socket is None:
            raise ConnectionAbortedError
        received, count = bytearray(nr_bytes), 0
        with memoryview(received) as view:
            while count < nr_bytes and (more := self.socket.recv_into(view[count:])):
                count += more
        del received[count:]
        return received


def _turned_away(client_address: Any, reason: str) -> bool:
    telemetry.event("connection_refused", level=logging.WARNING, address=client_address[0], reason=reason)
    return False
