"""pynetdicom's server of associations, within bounds: who may connect, how many at once, and how long they wait."""

from __future__ import annotations

import socketserver
import ssl
import sys
import time
from collections.abc import Callable
from typing import Any

from pynetdicom.association import Association
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from cxr_dicom.config.service import ListenerSettings
from cxr_dicom.ingest.admission import Admission
from cxr_dicom.ingest.connection import BoundedSocket
from cxr_dicom.ingest.dimse import FileProvider, OnStore
from cxr_dicom.ingest.upper_layer import OnEnd, UpperLayer
from cxr_dicom.store.spool import Spool
from cxr_dicom.system import telemetry

OnTurnedAway = Callable[[str, str], None]  # address, reason


class Server(ThreadedAssociationServer):
    """Shakes hands outside of the accepting thread, and turns strangers and crowds away.

    Parameters
    ----------
    on_store
        Takes an image, as by `FileProvider`.
    on_end
        Called once for each association that was begun, as by `UpperLayer`.
    on_turned_away
        Called for each connection that was closed before that.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        *args: Any,
        listener: ListenerSettings,
        spool: Spool,
        tls: ssl.SSLContext | None,
        on_store: OnStore,
        on_end: OnEnd,
        on_turned_away: OnTurnedAway,
        **options: Any,
    ) -> None:
        self.listener = listener
        self.spool = spool
        self.admission = Admission(listener)
        self.on_store = on_store
        self.on_end = on_end
        self._on_turned_away = on_turned_away
        self._tls = tls
        self._since: dict[Any, float] = {}  # when a connection was made, by its address and port
        options["request_handler"] = _Handler
        super().__init__(*args, **options)

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Take a connection from an address on the list, while there is room for it."""
        reason = self.admission.connect(client_address, client_address[0])
        if reason:
            self._on_turned_away(client_address[0], reason)
        return not reason

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands, if TLS is asked for, and hand over to pynetdicom."""
        self._since[client_address] = time.monotonic()
        try:
            if self._tls:
                request.settimeout(self.listener.negotiation_seconds)  # for all of it
                request = self._tls.wrap_socket(request, server_side=True)
            self.finish_request(request, client_address)
        except Exception as error:
            self._turn_away(client_address, f"{'TLS: ' if self._tls else ''}{type(error).__name__}")
            self.shutdown_request(request)
        finally:
            del self._since[client_address]

    def since(self, client_address: Any) -> float:
        """Return when a connection that becomes an association was made."""
        return self._since[client_address]

    def shutdown(self) -> None:
        """Stop accepting; open associations go on."""
        socketserver.BaseServer.shutdown(self)
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Give room back for which there was no thread, and say so in a line instead of a traceback."""
        self._turn_away(client_address, type(sys.exc_info()[1]).__name__)

    def _turn_away(self, client_address: Any, reason: str) -> None:
        self.admission.leave(client_address)
        self._on_turned_away(client_address[0], reason)


class _Handler(RequestHandler):
    """Gives each association a socket that reads no more than it may, and the way to the spool."""

    server: Server

    def _create_association(self) -> Association:
        association = super()._create_association()
        upper_layer = UpperLayer(association, self.server.listener, self.client_address, self._ended)
        association.dimse = FileProvider(association, self.server.spool, self.server.on_store)
        association.dul = upper_layer
        association.network_timeout = self.ae.network_timeout  # tells the new upper layer
        association.acse_timeout = self.ae.acse_timeout
        since = self.server.since(self.client_address)
        upper_layer.socket = BoundedSocket(association, self.request, self.server.listener, since)
        setattr(association, "run", lambda: _run(association, upper_layer))  # noqa: B010 - what its thread does
        return association

    def _ended(self, association: Association, cause: str) -> None:
        self.server.admission.leave(self.client_address)
        self.server.on_end(association, cause)


def _run(association: Association, upper_layer: UpperLayer) -> None:
    """Do what the thread of an association does; whatever goes wrong ends it, and is one event."""
    try:
        association.run_reactor()
    except Exception as error:
        upper_layer.end(f"broke the protocol ({telemetry.safe_description(error)})", abort=True)
        if upper_layer.ident is None:  # there was no thread for it
            upper_layer.conclude()
