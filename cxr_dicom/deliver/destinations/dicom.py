"""Destination ``dicom``: C-STORE, and Storage Commitment (PS3.4 J) or C-FIND to be sure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from pydicom import Dataset
from pydicom.uid import generate_uid
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
    Verification,
)

from cxr_dicom.config.service import DicomDestination
from cxr_dicom.deliver.base import receipt
from cxr_dicom.dicom.files import read_header
from cxr_dicom.dicom.private_parts import send_files_byte_for_byte
from cxr_dicom.records import DeliveryStatus, EncodedObject, Receipt
from cxr_dicom.system import retry
from cxr_dicom.system.network import ConnectionFailedError, ContextsRejectedError, association

_REQUEST_COMMITMENT = 1  # Action Type ID, PS3.4 J.3.2
_REPORT_ON_THE_SAME_ASSOCIATION_SECONDS = 2.0
_REPORT_WAIT_SECONDS = 60.0  # when no report came
_NO_SUCH_INSTANCE = 0x0112  # Failure Reason of a commitment, PS3.3 C.14.1.1
_MAX_CONTEXTS = 128  # of an association, PS3.8 9.3.2.2

_Kind = tuple[str, str]  # SOP class and transfer syntax


class Dicom:
    """An application entity that takes objects by C-STORE.

    Parameters
    ----------
    settings
        Of this destination.
    open_commitment
        Called with the Transaction UID before a commitment is asked for, so that the report, which
        may come on an association of its own, is believed.
    """

    def __init__(self, settings: DicomDestination, open_commitment: Callable[[str], None]) -> None:
        self.name = settings.name
        self._settings = settings
        self._open_commitment = open_commitment

    def send(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Send on one association that proposes exactly what is sent, as it is on the disk."""
        kinds = {encoded.sop_instance_uid: _kind(encoded) for encoded in objects}
        contexts = [build_context(*kind) for kind in sorted(set(kinds.values()))][:_MAX_CONTEXTS]
        try:
            yield from self._send(objects, kinds, contexts)
        except ContextsRejectedError as error:
            for encoded in objects:
                yield receipt(self.name, encoded, DeliveryStatus.UNSUPPORTED, error.status, error.detail)

    def verify(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Ask in the way that the settings name."""
        ask = self._request_commitment if self._settings.verify == "commitment" else self._find
        yield from ask(objects)

    def check(self) -> str:
        """C-ECHO."""
        with association(self._settings, [build_context(Verification)]) as opened:
            status = opened.send_c_echo()
        if "Status" not in status:
            raise ConnectionFailedError("TIMEOUT", "no answer to C-ECHO")
        return "answers C-ECHO"

    # --- C-STORE ---------------------------------------------------------------------------------

    def _send(
        self, objects: Sequence[EncodedObject], kinds: Mapping[str, _Kind], contexts: Sequence[PresentationContext]
    ) -> Iterator[Receipt]:
        with association(self._settings, contexts) as opened:
            accepted = {(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in opened.accepted_contexts}
            for encoded in objects:
                if kinds[encoded.sop_instance_uid] not in accepted:
                    yield receipt(
                        self.name,
                        encoded,
                        DeliveryStatus.UNSUPPORTED,
                        "CONTEXT_REJECTED",
                        "SOP class or syntax not taken",
                    )
                    continue
                if not opened.is_established:
                    raise ConnectionFailedError("ABORTED", "the peer ended the association")
                yield self._store(opened, encoded)

    def _store(self, opened: Association, encoded: EncodedObject) -> Receipt:
        send_files_byte_for_byte()
        answer = opened.send_c_store(encoded.path)
        if "Status" not in answer:
            raise ConnectionFailedError("TIMEOUT", f"no answer to C-STORE in {self._settings.timeout_seconds:g} s")
        return receipt(self.name, encoded, retry.answer_of_dimse(answer.Status), f"0x{answer.Status:04X}")

    # --- Storage Commitment ----------------------------------------------------------------------

    def _request_commitment(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """N-ACTION; the report may come at once, on this association, or later at the listener."""
        reports: list[Dataset] = []

        def on_report(event: Any) -> tuple[int, None]:
            reports.append(event.event_information)
            return 0x0000, None

        transaction_uid = generate_uid(prefix=None)
        self._open_commitment(transaction_uid)
        context = build_context(StorageCommitmentPushModel)
        with association(self._settings, [context], handlers=[(evt.EVT_N_EVENT_REPORT, on_report)]) as opened:
            status, _ = opened.send_n_action(
                _request(transaction_uid, objects),
                _REQUEST_COMMITMENT,
                StorageCommitmentPushModel,
                StorageCommitmentPushModelInstance,
            )
            if "Status" not in status:
                raise ConnectionFailedError("TIMEOUT", "no answer to the request for storage commitment")
            if status.Status != 0x0000:
                raise ConnectionFailedError(f"0x{status.Status:04X}", "storage commitment was not taken on")
            until = time.monotonic() + _REPORT_ON_THE_SAME_ASSOCIATION_SECONDS
            while not reports and opened.is_established and time.monotonic() < until:
                time.sleep(0.05)
        reported = {reply.sop_instance_uid: reply for reply in read_report(self.name, reports[0])} if reports else {}
        for encoded in objects:
            yield reported.get(encoded.sop_instance_uid) or receipt(
                self.name, encoded, DeliveryStatus.FAILED, "REQUESTED", retry_after=_REPORT_WAIT_SECONDS
            )

    # --- C-FIND ----------------------------------------------------------------------------------

    def _find(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Ask for each series which instances it has."""
        with association(self._settings, [build_context(StudyRootQueryRetrieveInformationModelFind)]) as opened:
            for series, members in groupby(
                sorted(objects, key=lambda encoded: encoded.series_instance_uid),
                key=lambda encoded: encoded.series_instance_uid,
            ):
                about = list(members)
                there = self._instances(opened, _query(about[0], series))
                for encoded in about:
                    answer = DeliveryStatus.COMMITTED if encoded.sop_instance_uid in there else DeliveryStatus.FAILED
                    yield receipt(
                        self.name, encoded, answer, "FOUND" if answer is DeliveryStatus.COMMITTED else "NOT_FOUND"
                    )

    def _instances(self, opened: Association, query: Dataset) -> set[str]:
        found = set()
        for status, identifier in opened.send_c_find(query, StudyRootQueryRetrieveInformationModelFind):
            if "Status" not in status or status.Status not in (0x0000, 0xFF00, 0xFF01):
                word = f"0x{status.Status:04X}" if "Status" in status else "TIMEOUT"
                raise ConnectionFailedError(word, "C-FIND failed")
            if identifier is not None:
                found.add(str(identifier.get("SOPInstanceUID", "")))
        return found


def build(settings: DicomDestination, open_commitment: Callable[[str], None]) -> Dicom:
    """Make the destination."""
    return Dicom(settings, open_commitment)


def read_report(name: str, information: Dataset) -> Iterator[Receipt]:
    """Turn the event information of a commitment report into receipts (PS3.4 J.3.3)."""
    for item in information.get("ReferencedSOPSequence") or ():
        yield _reported(name, item, DeliveryStatus.COMMITTED, "COMMITTED")
    for item in information.get("FailedSOPSequence") or ():
        reason = int(item.get("FailureReason", 0x0110))
        answer = DeliveryStatus.REFUSED if reason == _NO_SUCH_INSTANCE else DeliveryStatus.FAILED
        yield _reported(name, item, answer, f"0x{reason:04X}")


def _request(transaction_uid: str, objects: Sequence[EncodedObject]) -> Dataset:
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = []
    for encoded in objects:
        item = Dataset()
        item.ReferencedSOPClassUID = encoded.sop_class_uid
        item.ReferencedSOPInstanceUID = encoded.sop_instance_uid
        request.ReferencedSOPSequence.append(item)
    return request


def _reported(name: str, item: Dataset, answer: DeliveryStatus, status: str) -> Receipt:
    uid = str(item.get("ReferencedSOPInstanceUID", ""))
    return Receipt(sop_instance_uid=uid, destination=name, delivery_status=answer, status=status)


def _query(about: EncodedObject, series: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = read_header(about.path, ("StudyInstanceUID",)).dataset.StudyInstanceUID
    query.SeriesInstanceUID = series
    query.SOPInstanceUID = ""
    return query


def _kind(encoded: EncodedObject) -> _Kind:
    meta = read_header(encoded.path, ("SOPClassUID",)).dataset.file_meta
    return encoded.sop_class_uid, str(meta.TransferSyntaxUID)
