"""The listener: C-ECHO, C-STORE to the intake, and reports of storage commitment.

An instance is written as it comes, never decoded, and success is told only when it is on the disk.
No model runs here. What a stranger can make this process do is bounded, in ``ingest``: who connects and how often in
``server`` and ``admission``, bytes and seconds in ``connection``, PDUs in ``upper_layer``, messages in ``dimse``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, cast

from pydicom import Dataset
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from cxr_dicom.config.service import ListenerSettings
from cxr_dicom.errors import SettingsError
from cxr_dicom.ingest.assembly import Assembly
from cxr_dicom.ingest.command import StoreRequest
from cxr_dicom.ingest.dimse import FileProvider
from cxr_dicom.ingest.intake import STATUS, TRANSFER_SYNTAXES, Intake, RefusedError
from cxr_dicom.ingest.server import Server
from cxr_dicom.ingest.upper_layer import UpperLayer
from cxr_dicom.store.spool import Part
from cxr_dicom.system import telemetry
from cxr_dicom.system.network import server_tls
from cxr_dicom.system.words import INVALID_ARGUMENT_VALUE, PROCESSING_FAILURE, SUCCESS

_REJECTIONS = {  # source and diagnostic (PS3.8 9.3.4)
    (1, 3): "not in listener.calling_ae_titles",
    (1, 7): "called another name than listener.ae_title",
}
_NO_ROOM = (0x02, 0x03, 0x02)  # rejected for now, by the presentation layer, local limit exceeded (PS3.8 9.3.4)
_STOPPED = "the service stopped"
_ANSWER_SECONDS = 2.0  # for which a message that is whole is waited for when the listener stops
_UNLIMITED = 1_000_000  # associations, for pynetdicom: we count ourselves

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
        self._titles = {*settings.ae_titles, *assembly.settings.urgent.called_ae_titles}
        self._entity = _entity(settings)
        try:
            made = self._entity.make_server(
                (settings.address, settings.port),
                evt_handlers=[
                    (evt.EVT_C_ECHO, lambda event: SUCCESS),
                    (evt.EVT_N_EVENT_REPORT, self._report),
                    (evt.EVT_REQUESTED, self._requested),
                    (evt.EVT_REJECTED, self._rejected),
                ],
                server_class=Server,
                listener=settings,
                spool=intake.spool,
                tls=server_tls(settings.tls) if settings.tls else None,
                on_store=self._store,
                on_end=self._ended,
                on_turned_away=self._intake.turned_away,
            )
        except OSError as error:
            place = f"{settings.address}:{settings.port}"
            raise SettingsError(f"listener.address, listener.port = {place}: {error.strerror}") from error
        self._server = cast(Server, made)
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

    @property
    def connections(self) -> int:
        """How many connections are open, associated or not."""
        return self._server.admission.connections

    def problem(self) -> str | None:
        """Say that somebody found no room; None when all did."""
        return self._server.admission.problem()

    def stop(self, seconds: float) -> None:
        """Accept no more; wait so long for open associations, then abort them."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        until = time.monotonic() + seconds
        while self._server.active_associations and time.monotonic() < until:
            time.sleep(0.05)
        left = [cast(UpperLayer, association.dul) for association in self._server.active_associations]
        for upper_layer in left:
            upper_layer.stop(_STOPPED)
        until = time.monotonic() + _ANSWER_SECONDS
        for upper_layer in left:
            if upper_layer.is_alive():
                upper_layer.join(max(0.0, until - time.monotonic()))
            if upper_layer.is_alive():  # it waits in the middle of a message
                upper_layer.end(_STOPPED, abort=True)

    def _store(self, association: Association, request: StoreRequest, receive: Callable[[], Part]) -> tuple[int, str]:
        """Take an image; return status and Error Comment of the answer."""
        requestor = association.requestor
        try:
            self._intake.store(
                receive,
                sender=requestor.ae_title,
                sop_instance_uid=request.sop_instance_uid,
                sop_class_uid=request.sop_class_uid,
                address=requestor.address,
                called_ae_title=cast(A_ASSOCIATE, requestor.primitive).called_ae_title,
                association=association,
            )
        except RefusedError as error:
            return STATUS[error.refusal], error.refusal
        except Exception as error:  # the sender must hear something, and the next instance may be fine
            telemetry.failure("store", error)
            return 0xA700, "INTERNAL_ERROR"
        return SUCCESS, ""

    def _requested(self, event: Any) -> None:
        association = event.assoc
        requestor = association.requestor
        reason = self._server.admission.associate(association.dul.connection, requestor.address)
        if reason:
            association.acse.send_reject(*_NO_ROOM)
            self._intake.rejected(requestor.primitive.calling_ae_title, requestor.address, reason)
            association.kill()
        elif requestor.primitive.called_ae_title in self._titles:
            association.acceptor.ae_title = requestor.primitive.called_ae_title

    def _rejected(self, event: Any) -> None:
        requestor, answer = event.assoc.requestor, event.assoc.acceptor.primitive
        reason = _REJECTIONS.get((answer.result_source, answer.diagnostic), f"diagnostic {answer.diagnostic}")
        self._intake.rejected(requestor.ae_title, requestor.address, reason)

    def _ended(self, association: Association, cause: str) -> None:
        cast(FileProvider, association.dimse).close()
        sends_all = association.requestor.ae_title in self._assembly.settings.whole_studies_from
        self._assembly.left(association, sent_all=sends_all and not cause)
        if cause:
            asked = association.requestor.primitive
            sender = asked.calling_ae_title if asked else None
            self._intake.broken_off(sender, association.requestor.address, cause)

    def _report(self, event: Any) -> tuple[int, None]:
        try:
            information = event.event_information
            known = self._on_commitment(str(information.get("TransactionUID", "")), information)
        except Exception as error:  # as in _store
            telemetry.failure("commitment_report", error)
            return PROCESSING_FAILURE, None
        return (SUCCESS if known else INVALID_ARGUMENT_VALUE), None


def _entity(settings: ListenerSettings) -> AE:
    entity = AE(settings.ae_titles[0])
    entity.require_called_aet = True
    entity.require_calling_aet = list(settings.calling_ae_titles)
    entity.maximum_associations = _UNLIMITED
    entity.maximum_pdu_size = settings.max_pdu_bytes
    entity.network_timeout = settings.idle_seconds
    entity.acse_timeout = settings.negotiation_seconds
    entity.dimse_timeout = settings.idle_seconds
    entity.add_supported_context(Verification)
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    for sop_class in settings.sop_classes:
        entity.add_supported_context(sop_class, TRANSFER_SYNTAXES)
    return entity
