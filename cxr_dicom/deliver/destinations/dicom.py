"""Destination ``dicom``: C-STORE, and Storage Commitment (PS3.4 J) or C-FIND to be sure."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from itertools import groupby
from typing import Any

from pydicom import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, generate_uid
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
)

from cxr_dicom.config.service import DicomDestination
from cxr_dicom.deliver.base import of_the_patient, receipt, study_of, unreadable
from cxr_dicom.deliver.plain import expect_whole, plain
from cxr_dicom.dicom.files import read_header
from cxr_dicom.dicom.private_parts import send_files_byte_for_byte
from cxr_dicom.errors import ConnectionFailedError, ImageError
from cxr_dicom.records import DeliveryStatus, EncodedObject, Receipt
from cxr_dicom.system import retry, words
from cxr_dicom.system.negotiation import refusal
from cxr_dicom.system.network import ContextsRejectedError, association
from cxr_dicom.system.operations import ABORTED, asking, echo, no_answer
from cxr_dicom.system.reasons import own_words
from cxr_dicom.system.requestor import SLOWEST, goes_on, operation
from cxr_dicom.system.words import INVALID_ARGUMENT_VALUE, NO_SUCH_INSTANCE, PROCESSING_FAILURE, SUCCESS

_REQUEST_COMMITMENT = 1  # Action Type ID, PS3.4 J.3.2
_REPORT_ON_THE_SAME_ASSOCIATION_SECONDS = 2.0
_REPORT_WAIT_SECONDS = 60.0  # when no report came
_STORE_RSP = 0x8001  # Command Field of an answer to C-STORE, PS3.7 E.1
_NOT_FINAL = (0xFF00, 0xFF01)  # pending; no status of C-STORE (PS3.4 B.2.3)
_SEARCH = 10  # times as long as one answer
_MAX_FOUND_BYTES = 64 << 20  # of the matches of one series
_MAX_CONTEXTS = 128  # of an association, PS3.8 9.3.2.2

_TAKEN = (DeliveryStatus.ACCEPTED, DeliveryStatus.WARNING)

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
        """Send on one association that proposes exactly what is sent, as it is on the disk.

        A deflated object is proposed in Explicit VR Little Endian too, or only so, as the settings say.
        """
        kinds: dict[str, _Kind] = {}
        for encoded in objects:
            try:
                kinds[encoded.sop_instance_uid] = _kind(encoded)
            except (OSError, ImageError) as error:
                yield unreadable(self.name, encoded, error)
        if not kinds:
            return
        readable = [encoded for encoded in objects if encoded.sop_instance_uid in kinds]
        proposed = sorted({each for kind in kinds.values() for each in self._forms(kind)})
        contexts = [build_context(*kind) for kind in proposed][:_MAX_CONTEXTS]
        try:
            yield from self._send(readable, kinds, contexts)
        except ContextsRejectedError as error:
            for encoded in readable:
                yield receipt(self.name, encoded, DeliveryStatus.UNSUPPORTED, error.status, error.detail)

    def verify(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Ask in the way that the settings name."""
        ask = self._request_commitment if self._settings.verify == "commitment" else self._find
        yield from ask(objects)

    def check(self) -> str:
        """C-ECHO."""
        return echo(self._settings)

    # --- C-STORE ---------------------------------------------------------------------------------

    def _forms(self, kind: _Kind) -> tuple[_Kind, ...]:
        return (kind, _plain(kind)) if self._settings.deflated else (_plain(kind),)

    def _send(
        self, objects: Sequence[EncodedObject], kinds: Mapping[str, _Kind], contexts: Sequence[PresentationContext]
    ) -> Iterator[Receipt]:
        """Send on one association, or on as many as it takes: some peers end it after each object, or after some."""
        left = list(objects)
        while left:
            had = len(left)
            try:
                yield from self._send_some(left, kinds, contexts)
            except ConnectionFailedError as error:
                if error.status != ABORTED or len(left) == had:
                    raise

    def _send_some(
        self, left: list[EncodedObject], kinds: Mapping[str, _Kind], contexts: Sequence[PresentationContext]
    ) -> Iterator[Receipt]:
        """Send on one association what is left, and take it off the list with its receipt."""
        heard: list[Dataset] = []
        handlers = [(evt.EVT_DIMSE_RECV, lambda event: heard.append(event.message.command_set))]
        with association(self._settings, contexts, handlers=handlers) as opened:
            accepted = {(str(c.abstract_syntax), str(c.transfer_syntax[0])) for c in opened.accepted_contexts}
            for number, encoded in enumerate(tuple(left), 1):
                kind = kinds[encoded.sop_instance_uid]
                if accepted.isdisjoint((kind, _plain(kind))):
                    why = refusal(c for c in opened.rejected_contexts if c.abstract_syntax == encoded.sop_class_uid)
                    said = receipt(self.name, encoded, DeliveryStatus.UNSUPPORTED, "CONTEXT_REJECTED", why)
                elif not goes_on(opened):
                    raise ConnectionFailedError(ABORTED, "the peer ended the association")
                else:
                    heard.clear()
                    said = self._store(opened, encoded, number, heard, is_as_stored=kind in accepted)
                del left[0]
                yield said
                if opened.is_established and any(each.get("Status") in _NOT_FINAL for each in heard):
                    opened.abort()  # the final answer may still come, and would pass for that of another object
                    return

    def _store(
        self,
        opened: Association,
        encoded: EncodedObject,
        number: int,
        heard: Sequence[Dataset],
        *,
        is_as_stored: bool,
    ) -> Receipt:
        send_files_byte_for_byte()
        begin = time.monotonic()
        try:
            with nullcontext(encoded.path) if is_as_stored else plain(encoded.path) as path:
                seconds = self._settings.timeout_seconds + path.stat().st_size / SLOWEST
                with asking(opened, "C-STORE", seconds):
                    answer = opened.send_c_store(path, msg_id=number)
        except (OSError, ImageError) as error:
            return unreadable(self.name, encoded, error)
        if "Status" not in answer:
            raise no_answer(opened, "C-STORE", seconds, time.monotonic() - begin)
        if not heard or not all(_is_about(encoded, number, each) for each in heard):
            opened.abort()
            raise ConnectionFailedError("OTHER_ANSWER", "expected the answer to this C-STORE, got that to another one")
        status = int(answer.Status)
        verdict, detail = retry.answer_of_dimse(status), words.of_dimse(status)
        if verdict not in _TAKEN and (own := own_words(str(answer.get("ErrorComment") or ""), of_the_patient(encoded))):
            detail += f" ({own})"
        return receipt(self.name, encoded, verdict, f"0x{status:04X}", detail)

    # --- Storage Commitment ----------------------------------------------------------------------

    def _request_commitment(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """N-ACTION; the report may come at once, on this association, or later at the listener."""
        reports: list[Sequence[Receipt]] = []
        is_answered = threading.Event()

        def on_report(event: Any) -> tuple[int, None]:
            try:
                information = event.event_information
                if str(information.get("TransactionUID", "")).strip(" \0") != transaction_uid:
                    return INVALID_ARGUMENT_VALUE, None  # an earlier one: the listener is there for it
                reports.append(read_report(self.name, information))
            except Exception:  # pydicom's of all kinds
                return PROCESSING_FAILURE, None
            return SUCCESS, None

        def on_sent(event: Any) -> None:
            if reports:  # pynetdicom answers a report in a thread of its own, which a release would overtake
                is_answered.set()

        transaction_uid = str(generate_uid(prefix=None))
        self._open_commitment(transaction_uid)
        context = build_context(StorageCommitmentPushModel)
        begin, seconds, what = time.monotonic(), self._settings.timeout_seconds, "the request for storage commitment"
        handlers = [(evt.EVT_N_EVENT_REPORT, on_report), (evt.EVT_PDU_SENT, on_sent)]
        with association(self._settings, [context], handlers=handlers) as opened:
            with asking(opened, what, seconds):
                status, _ = opened.send_n_action(
                    _request(transaction_uid, objects),
                    _REQUEST_COMMITMENT,
                    StorageCommitmentPushModel,
                    StorageCommitmentPushModelInstance,
                )
            if "Status" not in status:
                raise no_answer(opened, what, seconds, time.monotonic() - begin)
            if status.Status != SUCCESS:
                raise ConnectionFailedError(f"0x{status.Status:04X}", "storage commitment was not taken on")
            until = time.monotonic() + _REPORT_ON_THE_SAME_ASSOCIATION_SECONDS
            with operation(opened, seconds):
                while opened.is_established and time.monotonic() < until and not is_answered.wait(0.05):
                    continue
        reported = {reply.sop_instance_uid: reply for reply in (reports[0] if reports else ())}
        for encoded in objects:
            yield reported.get(encoded.sop_instance_uid) or receipt(
                self.name, encoded, DeliveryStatus.FAILED, "REQUESTED", retry_after=_REPORT_WAIT_SECONDS
            )

    # --- C-FIND ----------------------------------------------------------------------------------

    def _find(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Ask for each series which instances it has."""
        studies: dict[str, str] = {}
        for encoded in objects:
            try:
                studies[encoded.sop_instance_uid] = study_of(read_header(encoded.path, ("StudyInstanceUID",)))
            except (OSError, ImageError) as error:
                yield unreadable(self.name, encoded, error)
        if not studies:
            return
        readable = [encoded for encoded in objects if encoded.sop_instance_uid in studies]
        with association(self._settings, [build_context(StudyRootQueryRetrieveInformationModelFind)]) as opened:
            for series, members in groupby(
                sorted(readable, key=lambda encoded: encoded.series_instance_uid),
                key=lambda encoded: encoded.series_instance_uid,
            ):
                about = list(members)
                there = self._instances(opened, _query(studies[about[0].sop_instance_uid], series))
                for encoded in about:
                    answer = DeliveryStatus.COMMITTED if encoded.sop_instance_uid in there else DeliveryStatus.FAILED
                    yield receipt(
                        self.name, encoded, answer, "FOUND" if answer is DeliveryStatus.COMMITTED else "NOT_FOUND"
                    )

    def _instances(self, opened: Association, query: Dataset) -> set[str]:
        found, begin, seconds = set(), time.monotonic(), self._settings.timeout_seconds * _SEARCH
        with asking(opened, "C-FIND", seconds, _MAX_FOUND_BYTES):
            for status, identifier in opened.send_c_find(query, StudyRootQueryRetrieveInformationModelFind):
                if "Status" not in status:
                    raise no_answer(opened, "C-FIND", seconds, time.monotonic() - begin)
                if (code := int(status.Status)) not in (SUCCESS, *_NOT_FINAL):
                    raise ConnectionFailedError(f"0x{code:04X}", f"C-FIND failed: {words.of_dimse(code)}")
                if identifier is not None:
                    found.add(str(identifier.get("SOPInstanceUID", "")).strip(" \0"))
        return found


def build(settings: DicomDestination, open_commitment: Callable[[str], None]) -> Dicom:
    """Make the destination."""
    return Dicom(settings, open_commitment)


def read_report(name: str, information: Dataset) -> list[Receipt]:
    """Turn the event information of a commitment report into receipts, one for each object (PS3.4 J.3.3).

    An object that is said to be kept and to have failed is not believed to be kept.
    """
    said: dict[str, Receipt] = {}
    for item in _items(information, "ReferencedSOPSequence"):
        kept = _reported(name, item, DeliveryStatus.COMMITTED, "COMMITTED")
        said[kept.sop_instance_uid] = kept
    for item in _items(information, "FailedSOPSequence"):
        stated = item.get("FailureReason")
        reason = stated if isinstance(stated, int) else PROCESSING_FAILURE
        answer = DeliveryStatus.REFUSED if reason == NO_SUCH_INSTANCE else DeliveryStatus.FAILED
        lost = _reported(name, item, answer, f"0x{reason:04X}")
        said[lost.sop_instance_uid] = lost
    return list(said.values())


def _items(information: Dataset, keyword: str) -> Iterable[Dataset]:
    """Return the items of a sequence; what a peer sends in its place has none."""
    found = information.get(keyword)
    return found if isinstance(found, Items) else ()


def _is_about(encoded: EncodedObject, number: int, command: Dataset) -> bool:
    """Whether a message answers the C-STORE request with this Message ID, and names no other object (PS3.7 9.3.1.2)."""
    named = str(command.get("AffectedSOPInstanceUID") or "").strip(" \0")
    is_answer = command.get("CommandField") == _STORE_RSP and command.get("MessageIDBeingRespondedTo") == number
    return is_answer and named in ("", encoded.sop_instance_uid)


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
    uid = str(item.get("ReferencedSOPInstanceUID", "")).strip(" \0")
    return Receipt(sop_instance_uid=uid, destination=name, delivery_status=answer, status=status)


def _query(study: str, series: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    query.StudyInstanceUID = study
    query.SeriesInstanceUID = series
    query.SOPInstanceUID = ""
    return query


def _plain(kind: _Kind) -> _Kind:
    """Return the kind in which a peer that takes no deflated data set may have an object; others stay as they are."""
    return (kind[0], str(ExplicitVRLittleEndian)) if kind[1] == DeflatedExplicitVRLittleEndian else kind


def _kind(encoded: EncodedObject) -> _Kind:
    """Return the kind of an object, whose file is whole."""
    syntax = read_header(encoded.path, ("SOPClassUID",)).transfer_syntax
    if syntax == DeflatedExplicitVRLittleEndian:
        expect_whole(encoded.path)
    return encoded.sop_class_uid, str(syntax)
