"""Archive ``query-retrieve``: C-FIND to look, C-GET or C-MOVE to fetch (PS3.4 C)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID, AllTransferSyntaxes, DeflatedExplicitVRLittleEndian
from pynetdicom import build_role, evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
    Verification,
)

from cxr_dicom.config.service import ListenerSettings, QueryRetrieveArchive
from cxr_dicom.errors import CxrDicomError, FetchError
from cxr_dicom.ingest.archive import RemoteInstance, RemoteStudy, Store, StudyQuery
from cxr_dicom.ingest.folder import is_uid
from cxr_dicom.system.network import ConnectionFailedError, association

_SUCCESS, _PENDING = 0x0000, (0xFF00, 0xFF01)
_OUT_OF_RESOURCES, _NOT_REQUESTED = 0xA700, 0xA900  # answers to the C-STORE of a C-GET
_SYNTAXES: list[str | UID] = [uid for uid in AllTransferSyntaxes if uid != DeflatedExplicitVRLittleEndian]


class QueryRetrieve:
    """An application entity that is queried by C-FIND, study root.

    Parameters
    ----------
    listener
        Its AE title is where C-MOVE sends to; its SOP classes are what C-GET takes.
    """

    def __init__(self, settings: QueryRetrieveArchive, listener: ListenerSettings) -> None:
        self.name = settings.name
        self._settings = settings
        self._listener = listener

    def studies(self, query: StudyQuery, modalities: Sequence[str]) -> Iterator[RemoteStudy]:
        """Ask once per modality."""
        seen: set[str] = set()
        for modality in modalities:
            keys = _query("STUDY", StudyInstanceUID=query.study_instance_uid or "", ModalitiesInStudy=modality)
            keys.StudyDate = f"{query.since}-" if query.since else ""
            keys.AccessionNumber = query.accession_number or ""
            keys.NumberOfStudyRelatedInstances = ""
            for item in self._find(keys):
                uid = str(item.get("StudyInstanceUID", ""))
                if is_uid(uid) and uid not in seen:
                    seen.add(uid)
                    count = str(item.get("NumberOfStudyRelatedInstances") or "")
                    yield RemoteStudy(
                        study_instance_uid=uid,
                        study_date=str(item.get("StudyDate") or ""),
                        instances=int(count) if count.isdecimal() else None,
                    )

    def instances(self, study: RemoteStudy, modalities: Sequence[str]) -> Iterator[RemoteInstance]:
        """Ask for the series, then for the instances of those that matter."""
        uid = study.study_instance_uid
        for series in self._find(_query("SERIES", StudyInstanceUID=uid, SeriesInstanceUID="", Modality="")):
            series_uid = str(series.get("SeriesInstanceUID", ""))
            if str(series.get("Modality", "")) not in modalities or not is_uid(series_uid):
                continue
            query = _query(
                "IMAGE", StudyInstanceUID=uid, SeriesInstanceUID=series_uid, SOPInstanceUID="", SOPClassUID=""
            )
            for item in self._find(query):
                if is_uid(sop_uid := str(item.get("SOPInstanceUID", ""))):
                    yield RemoteInstance(
                        study_instance_uid=uid,
                        series_instance_uid=series_uid,
                        sop_instance_uid=sop_uid,
                        sop_class_uid=str(item.get("SOPClassUID") or ""),
                    )

    def fetch(self, instance: RemoteInstance, store: Store) -> None:
        """Have an instance sent."""
        if self._settings.retrieve == "get":
            self._get(instance, store)
        else:
            self._move(instance)

    def check(self) -> str:
        """C-ECHO."""
        with association(self._settings, [build_context(Verification)]) as opened:
            if "Status" not in opened.send_c_echo():
                raise ConnectionFailedError("TIMEOUT", "no answer to C-ECHO")
        return "answers C-ECHO"

    def _find(self, query: Dataset) -> list[Dataset]:
        model = StudyRootQueryRetrieveInformationModelFind
        with association(self._settings, [build_context(model)]) as opened:
            found = []
            for status, identifier in opened.send_c_find(query, model):
                _expect(status, "C-FIND")
                if identifier is not None:
                    found.append(identifier)
        return found

    def _get(self, instance: RemoteInstance, store: Store) -> None:
        model = StudyRootQueryRetrieveInformationModelGet
        contexts = [build_context(model), *(build_context(uid, _SYNTAXES) for uid in self._listener.sop_classes)]
        roles = [build_role(uid, scp_role=True) for uid in self._listener.sop_classes]

        def on_store(event: Any) -> int:
            if str(event.request.AffectedSOPInstanceUID) != instance.sop_instance_uid:
                return _NOT_REQUESTED
            try:
                store((event.encoded_dataset(),), instance)
            except CxrDicomError:
                return _OUT_OF_RESOURCES
            return _SUCCESS

        handlers = [(evt.EVT_C_STORE, on_store)]
        with association(self._settings, contexts, handlers=handlers, roles=roles) as opened:
            for status, _ in opened.send_c_get(_identifier(instance), model):
                _expect_given(status, "C-GET", instance)

    def _move(self, instance: RemoteInstance) -> None:
        model = StudyRootQueryRetrieveInformationModelMove
        with association(self._settings, [build_context(model)]) as opened:
            for status, _ in opened.send_c_move(_identifier(instance), self._listener.ae_title, model):
                _expect_given(status, "C-MOVE", instance)


def build(settings: QueryRetrieveArchive, listener: ListenerSettings) -> QueryRetrieve:
    """Make the archive."""
    return QueryRetrieve(settings, listener)


def _query(level: str, **keys: str) -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    return query


def _identifier(instance: RemoteInstance) -> Dataset:
    return _query(
        "IMAGE",
        StudyInstanceUID=instance.study_instance_uid,
        SeriesInstanceUID=instance.series_instance_uid,
        SOPInstanceUID=instance.sop_instance_uid,
    )


def _expect_given(status: Dataset, what: str, instance: RemoteInstance) -> None:
    if "Status" in status and status.Status != _SUCCESS and status.Status not in _PENDING:
        raise FetchError(f"{what} of {instance.sop_instance_uid}: 0x{status.Status:04X}")
    _expect(status, what)


def _expect(status: Dataset, what: str) -> None:
    if "Status" not in status:
        raise ConnectionFailedError("TIMEOUT", f"no answer to {what}")
    if status.Status != _SUCCESS and status.Status not in _PENDING:
        raise ConnectionFailedError(f"0x{status.Status:04X}", f"{what} failed")
