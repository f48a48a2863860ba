"""Archive ``dicomweb``: QIDO-RS to look (PS3.18 10.6), WADO-RS to fetch (PS3.18 10.4)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from http import HTTPStatus

import requests

from cxr_dicom.config.service import DicomwebArchive, ListenerSettings
from cxr_dicom.errors import ConnectionFailedError, FetchError
from cxr_dicom.ingest.archive import RemoteInstance, RemoteStudy, Store, StudyQuery
from cxr_dicom.ingest.dicom_json import items_of, only_part
from cxr_dicom.ingest.doubts import Doubts
from cxr_dicom.ingest.listing import counted, first, listed, wanted_series
from cxr_dicom.ingest.matching import Item, Keys, judge, keyword
from cxr_dicom.ingest.search import Answer, Search
from cxr_dicom.system.network import answered, request, session
from cxr_dicom.system.reasons import reason_of

_PAGE = 100
_SMALLEST_CAP = 10  # series and instances on a page; fewer are the last
_WARNING = re.compile(r"\b299\b")
_NOBODYS = "2.25.0"  # a Study Instance UID
_MAX_MATCHES = 100_000  # of one question
_STUDY_FIELDS = "00080061,00201208"  # Modalities in Study, Number of Study Related Instances
_FOUND = frozenset({HTTPStatus.OK, HTTPStatus.NO_CONTENT, HTTPStatus.PARTIAL_CONTENT})
_UNAVAILABLE = frozenset({401, 403, 407, 408, 429, 502, 503, 504})
_NOT_SO = frozenset({400, 406, 414, 422, 501})  # the request is not liked; a plainer one may be
_INSTANCE = 'multipart/related; type="application/dicom"'
_FORMS = (f"{_INSTANCE}; transfer-syntax=*", _INSTANCE, "*/*")  # of an image: as it is kept; as the server likes it
_KINDS = (  # of the items of an answer
    "application/dicom+json",
    "application/json",
    'multipart/related; type="application/dicom+xml"',
)
_ABOUT_A_FUNCTION = re.compile("fuzzy|literal|deprecat", re.IGNORECASE)  # what a warning may be about, beside of more


class Dicomweb:
    """An origin server that is queried by QIDO-RS.

    Parameters
    ----------
    max_bytes
        Of one instance; a longer answer is not read.
    """

    def __init__(self, settings: DicomwebArchive, max_bytes: int) -> None:
        self.name = settings.name
        self._settings = settings
        self._max_bytes = max_bytes
        self._doubts = Doubts(settings.name)
        self._plainness = 0  # of questions; 1: without the modality, 2: without pages and fields too
        self._form, self._kind = 0, 0  # the plainest that was needed

    def studies(self, query: StudyQuery, modalities: Sequence[str]) -> Iterator[RemoteStudy]:
        """Ask once per modality."""
        return self.matching(query.keys(), modalities)

    def matching(self, query: Mapping[str, str], modalities: Sequence[str]) -> Iterator[RemoteStudy]:
        """Yield the studies that a query matches, each once.

        Parameters
        ----------
        query
            Keys of QIDO-RS, keywords or tags, and what they have to match.
        modalities
            Queried one after the other, unless the query names modalities itself.
        """
        keys = {keyword(key): value for key, value in query.items()}
        questions = (
            [keys] if "ModalitiesInStudy" in keys else [{**keys, "ModalitiesInStudy": each} for each in modalities]
        )
        with session(self._settings) as opened:
            search = Search(ask=partial(self._ask, opened), say=self._doubts.say)
            for item in search.matches(questions):
                yield RemoteStudy(
                    study_instance_uid=item["StudyInstanceUID"][0],
                    study_date=first(item, "StudyDate"),
                    instances=counted(item, "NumberOfStudyRelatedInstances"),
                    modalities=item.get("ModalitiesInStudy", ()),
                )

    def instances(self, study: RemoteStudy, modalities: Sequence[str]) -> Iterator[RemoteInstance]:
        """Ask for the series, then for the instances of those that matter."""
        uid = study.study_instance_uid
        with session(self._settings) as opened:
            series = self._all(opened, f"studies/{uid}/series", "SeriesInstanceUID", {})
            for each in wanted_series(series.items, uid, modalities, self._doubts):
                series_uid = each["SeriesInstanceUID"][0]
                found = self._all(opened, f"studies/{uid}/series/{series_uid}/instances", "SOPInstanceUID", {})
                yield from listed(found.items, uid, each, self._doubts)

    def fetch(self, instance: RemoteInstance, store: Store) -> None:
        """Fetch an instance in the transfer syntax that the archive keeps it in, or in one that it likes better."""
        path = (
            f"studies/{instance.study_instance_uid}/series/{instance.series_instance_uid}"
            f"/instances/{instance.sop_instance_uid}"
        )
        with session(self._settings, self._max_bytes) as opened:
            answer = self._get(opened, path, _FORMS[self._form])
            for form in range(self._form + 1, len(_FORMS)):
                if answer.status_code not in _NOT_SO:
                    break
                plainer = self._get(opened, path, _FORMS[form])
                if plainer.status_code == HTTPStatus.OK:
                    self._form, answer = form, plainer
                    self._doubts.say("the archive does not send images as it keeps them; it transcodes")
        if answer.status_code == HTTPStatus.OK:
            file = only_part(answer.headers.get("Content-Type", ""), answer.content)
            store((file,), instance)
            return
        if answer.status_code in _UNAVAILABLE or answer.is_redirect:
            raise answered(answer)
        raise FetchError(f"WADO-RS of {instance.sop_instance_uid}: HTTP {answer.status_code}{reason_of(answer)}")

    def check(self) -> str:
        """QIDO-RS for one study; some servers answer no question that is so wide."""
        with session(self._settings) as opened:
            try:
                self._page(opened, "studies", {"limit": "1"}, {})
            except ConnectionFailedError as error:
                if error.http_status not in {*_NOT_SO, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}:
                    raise
                self._page(opened, "studies", {"StudyInstanceUID": _NOBODYS}, {})
        return "answers QIDO-RS"

    # --- requests --------------------------------------------------------------------------------

    def _get(self, opened: requests.Session, path: str, accept: str) -> requests.Response:
        try:
            return request(opened, self._settings, "GET", path, headers={"Accept": accept})
        except ConnectionFailedError as error:
            if error.status == "TOO_LONG":
                raise FetchError(f"expected an instance of at most {self._max_bytes >> 20} MB, found more") from error
            raise

    def _ask(self, opened: requests.Session, keys: Keys) -> Answer:
        """Ask for studies; where the server does not like the question, ask a plainer one, and choose here."""
        while True:
            plainer = {key: value for key, value in keys.items() if not self._plainness or key != "ModalitiesInStudy"}
            try:
                found = self._all(opened, "studies", "StudyInstanceUID", plainer)
            except ConnectionFailedError as error:
                if error.http_status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or (
                    error.http_status in _NOT_SO and self._plainness == 2
                ):
                    return Answer(items=[], is_cut=True, refusal=error)
                if error.http_status not in _NOT_SO:
                    raise
                self._plainness += 1
                self._doubts.say(f"the archive refuses a question ({error}); it is asked a plainer one")
                continue
            if plainer == keys:
                return found
            items = [item for item in found.items if judge(keys, item)[1] != "ModalitiesInStudy"]
            return Answer(items=items, is_cut=found.is_cut)

    def _all(self, opened: requests.Session, path: str, key: str, keys: Keys) -> Answer:
        """Give all matches, page by page; servers may return shorter pages than requested, or ignore paging."""
        items: list[Item] = []
        seen: set[str] = set()
        is_cut = False
        while True:
            parameters = dict(keys)
            if path == "studies" and self._plainness < 2:
                parameters["includefield"] = _STUDY_FIELDS
            if self._plainness < 2:
                parameters |= {"limit": str(_PAGE), "offset": str(len(seen))}
            page, says_more = self._page(opened, path, parameters, keys)
            fresh = [item for item in page if (value := item.get(key)) is None or not seen & set(value[:1])]
            known = len(seen)
            seen.update(item[key][0] for item in fresh if item.get(key))
            items += fresh
            if len(seen) == known:
                return Answer(items=items, is_cut=is_cut or says_more)
            is_cut = says_more or len(page) >= _PAGE  # unless the next page shows the end
            is_last = len(page) < _SMALLEST_CAP and (path != "studies" or key in keys)
            if is_last or self._plainness == 2:
                return Answer(items=items, is_cut=says_more)
            if len(items) > _MAX_MATCHES:
                return Answer(items=items, is_cut=True)

    def _page(
        self, opened: requests.Session, path: str, parameters: Mapping[str, str], keys: Keys
    ) -> tuple[list[Item], bool]:
        """Return one page, and whether the server says that there is more (PS3.18 8.3.4.4)."""
        for kind in range(self._kind, len(_KINDS)):
            headers = {"Accept": _KINDS[kind]}
            answer = request(opened, self._settings, "GET", path, params=parameters, headers=headers)
            if answer.status_code != HTTPStatus.NOT_ACCEPTABLE:
                self._kind = kind
                break
        if answer.status_code not in _FOUND:
            raise answered(answer, keys.values())
        warning = answer.headers.get("Warning", "")
        return items_of(answer), bool(_WARNING.search(warning)) and not _ABOUT_A_FUNCTION.search(warning)


def build(settings: DicomwebArchive, listener: ListenerSettings) -> Dicomweb:
    """Make the archive; an instance may be as long as one that the listener takes."""
    return Dicomweb(settings, listener.max_instance_mb << 20)
