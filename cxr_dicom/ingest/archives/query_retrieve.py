"""Archive ``query-retrieve``: C-FIND to look, C-GET or C-MOVE to fetch (PS3.4 C)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID, AllTransferSyntaxes, DeflatedExplicitVRLittleEndian
from pynetdicom import build_role, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from cxr_dicom.config.service import ListenerSettings, QueryRetrieveArchive
from cxr_dicom.dicom.private_parts import take_both_roles
from cxr_dicom.errors import ConnectionFailedError, CxrDicomError, FetchError
from cxr_dicom.ingest.archive import RemoteInstance, RemoteStudy, Store, StudyQuery
from cxr_dicom.ingest.doubts import Doubts
from cxr_dicom.ingest.identifiers import item_of
from cxr_dicom.ingest.listing import counted, first, listed, wanted_series
from cxr_dicom.ingest.matching import Item, Keys, judge
from cxr_dicom.ingest.search import Answer, Search
from cxr_dicom.system import words
from cxr_dicom.system.network import association
from cxr_dicom.system.operations import asking, echo, no_answer
from cxr_dicom.system.reasons import own_words
from cxr_dicom.system.requestor import SLOWEST

_SUCCESS, _PENDING = 0x0000, (0xFF00, 0xFF01)
_OUT_OF_RESOURCES, _NOT_REQUESTED = 0xA700, 0xA900  # answers to the C-STORE of a C-GET
_CUT = frozenset({0xA700, 0xFE00})  # what is given with results: there are more than the archive likes to give
_NOT_SO = frozenset({0x0106, 0xA900})  # the question is not liked, as all of 0xCxxx; a plainer one may be
_MEANINGS = {
    0xA701: "it cannot count the matches",
    0xA702: "it cannot send them",
    0xA801: "it does not know our AE title as a destination",
    0xA900: "it does not take the identifier",
    0xB000: "some were not sent",
}
_SYNTAXES: list[str | UID] = [uid for uid in AllTransferSyntaxes if uid != DeflatedExplicitVRLittleEndian]
_RETURNED = ("StudyDate", "StudyTime", "AccessionNumber", "PatientID", "StudyInstanceUID")
_RETURNED_BY_MOST = ("ModalitiesInStudy", "NumberOfStudyRelatedInstances")
_Answer = tuple[Dataset, Dataset | None]  # status and identifier
_MAX_ANSWER = 64 << 20  # bytes of the matches of one question
_MAX_PAUSES = 20  # times ``timeout_seconds``, for one question or one image


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
        self._doubts = Doubts(settings.name)
        self._plainness = 0  # of questions; 1: the modality is not matched, 2: nor returned, nor are counts
        self._is_by_syntax = False

    def studies(self, query: StudyQuery, modalities: Sequence[str]) -> Iterator[RemoteStudy]:
        """Ask once per modality."""
        search = Search(ask=self._ask, say=self._doubts.say)
        for item in search.matches({**query.keys(), "ModalitiesInStudy": modality} for modality in modalities):
            yield RemoteStudy(
                study_instance_uid=first(item, "StudyInstanceUID"),
                study_date=first(item, "StudyDate"),
                instances=counted(item, "NumberOfStudyRelatedInstances"),
                modalities=item.get("ModalitiesInStudy", ()),
            )

    def instances(self, study: RemoteStudy, modalities: Sequence[str]) -> Iterator[RemoteInstance]:
        """Ask for the series, then for the instances of those that matter."""
        uid = study.study_instance_uid
        returned = ("SeriesInstanceUID", "Modality", "NumberOfSeriesRelatedInstances")
        found = self._find("SERIES", {"StudyInstanceUID": uid}, returned)
        is_cut = found.is_cut
        for series in wanted_series(found.items, uid, modalities, self._doubts):
            keys = {"StudyInstanceUID": uid, "SeriesInstanceUID": first(series, "SeriesInstanceUID")}
            images = self._find("IMAGE", keys, ("SOPInstanceUID", "SOPClassUID"))
            is_cut = is_cut or images.is_cut
            yield from listed(images.items, uid, series, self._doubts)
        if is_cut:
            raise FetchError("expected all images of a study, the archive says that it lists only some")

    def fetch(self, instance: RemoteInstance, store: Store) -> None:
        """Have an instance sent."""
        if self._settings.retrieve == "move":
            self._move(instance)
            return
        try:
            self._get(instance, store)
        except FetchError:
            if self._is_by_syntax:
                raise
            self._is_by_syntax = True  # an archive takes one syntax for each context, perhaps not that of the image
            self._get(instance, store)

    def check(self) -> str:
        """C-ECHO."""
        return echo(self._settings)

    # --- operations ------------------------------------------------------------------------------

    def _ask(self, keys: Keys) -> Answer:
        """Ask for studies; where the archive does not like the question, ask a plainer one, and choose here."""
        while True:
            plainer = {key: value for key, value in keys.items() if not self._plainness or key != "ModalitiesInStudy"}
            returned = _RETURNED if self._plainness == 2 else _RETURNED + _RETURNED_BY_MOST
            try:
                found = self._find("STUDY", plainer, returned)
            except _RefusedQuestionError as error:
                if self._plainness == 2:
                    return Answer(items=[], is_cut=True, refusal=error)
                self._plainness += 1
                self._doubts.say(f"the archive refuses a question ({error}); it is asked a plainer one")
                continue
            items = [item for item in found.items if judge(keys, item)[1] != "ModalitiesInStudy"]
            return found if plainer == keys else Answer(items=items, is_cut=found.is_cut)

    def _find(self, level: str, keys: Keys, returned: Sequence[str]) -> Answer:
        model = StudyRootQueryRetrieveInformationModelFind
        query = _query(level, **(dict.fromkeys(returned, "") | dict(keys)))
        seconds = _MAX_PAUSES * self._settings.timeout_seconds
        items: list[Item] = []
        with (
            association(self._settings, [build_context(model)]) as opened,
            asking(opened, "C-FIND", seconds, _MAX_ANSWER),
        ):
            opened.dimse_timeout = pause = self._settings.timeout_seconds
            for status, identifier in _statuses(opened, "C-FIND", opened.send_c_find(query, model), pause):
                code = int(status.Status)
                if code in _PENDING:
                    items.append(item_of(identifier))
                elif code in _CUT:
                    too_many = ConnectionFailedError(f"0x{code:04X}", _failed(status, keys))
                    return Answer(items=items, is_cut=True, refusal=None if items else too_many)
                elif code != _SUCCESS:
                    refused = _RefusedQuestionError if code in _NOT_SO or code >> 12 == 0xC else ConnectionFailedError
                    raise refused(f"0x{code:04X}", _failed(status, keys))
        return Answer(items=items)

    def _get(self, instance: RemoteInstance, store: Store) -> None:
        model = StudyRootQueryRetrieveInformationModelGet
        is_stored, problems = [], []

        def on_store(event: Any) -> int:
            if str(event.request.AffectedSOPInstanceUID) != instance.sop_instance_uid:
                return _NOT_REQUESTED
            try:
                store((event.encoded_dataset(),), instance)
            except CxrDicomError as error:
                problems.append(error)
                return _OUT_OF_RESOURCES
            is_stored.append(True)
            return _SUCCESS

        contexts = [build_context(model), *self._storage_contexts(instance)]
        roles = [build_role(uid, scp_role=True) for uid in self._listener.sop_classes]
        most_bytes = (self._listener.max_instance_mb << 20) + _MAX_ANSWER
        seconds = _MAX_PAUSES * self._settings.timeout_seconds + most_bytes / SLOWEST
        with (
            association(self._settings, contexts, handlers=[(evt.EVT_C_STORE, on_store)], roles=roles) as opened,
            asking(opened, "C-GET", seconds, most_bytes),
        ):
            opened.dimse_timeout = pause = self._settings.timeout_seconds
            take_both_roles(opened, self._listener.sop_classes)
            for status, _ in _statuses(opened, "C-GET", opened.send_c_get(_identifier(instance), model), pause):
                code = int(status.Status)
                if problems:
                    raise problems[0]
                if code not in (_SUCCESS, *_PENDING) and not is_stored:
                    raise _not_given("C-GET", status, instance)

    def _storage_contexts(self, instance: RemoteInstance) -> list[PresentationContext]:
        """Propose what an image may come in; if need be a context for each transfer syntax, not one for all."""
        classes = [uid for uid in self._listener.sop_classes if instance.sop_class_uid in ("", uid)]
        if not self._is_by_syntax:
            return [build_context(uid, _SYNTAXES) for uid in self._listener.sop_classes]
        return [build_context(uid, syntax) for uid in classes[:3] for syntax in _SYNTAXES]

    def _move(self, instance: RemoteInstance) -> None:
        model = StudyRootQueryRetrieveInformationModelMove
        seconds = _MAX_PAUSES * self._settings.timeout_seconds
        with association(self._settings, [build_context(model)]) as opened, asking(opened, "C-MOVE", seconds):
            opened.dimse_timeout = pause = self._settings.timeout_seconds
            moving = opened.send_c_move(_identifier(instance), self._listener.ae_titles[0], model)
            for status, _ in _statuses(opened, "C-MOVE", moving, pause):
                if int(status.Status) not in (_SUCCESS, *_PENDING):
                    raise _not_given("C-MOVE", status, instance)


class _RefusedQuestionError(ConnectionFailedError):
    """An archive does not like a question."""


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


def _statuses(opened: Association, what: str, answers: Iterator[_Answer], seconds: float) -> Iterator[_Answer]:
    """Yield what an archive answers, as long as it does; it may take so long between two answers."""
    begin = monotonic()
    for status, identifier in answers:
        if "Status" not in status:
            raise no_answer(opened, what, seconds, monotonic() - begin)
        yield status, identifier
        begin = monotonic()


def _meaning(status: Dataset, asked: Keys) -> str:
    """Say what a status means, with the archive's own reason as far as it may be told."""
    code = int(status.Status)
    known = _MEANINGS.get(code) or words.of_dimse(code)
    own = own_words(str(status.get("ErrorComment") or ""), asked.values())
    return f"{known} ({own})" if own else known


def _failed(status: Dataset, asked: Keys) -> str:
    return f"C-FIND failed: {_meaning(status, asked)}"


def _not_given(what: str, status: Dataset, instance: RemoteInstance) -> FetchError:
    return FetchError(f"{what} of {instance.sop_instance_uid}: 0x{int(status.Status):04X}, {_meaning(status, {})}")
