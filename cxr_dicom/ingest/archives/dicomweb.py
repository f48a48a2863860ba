"""Archive ``dicomweb``: QIDO-RS to look (PS3.18 10.6), WADO-RS to fetch (PS3.18 10.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from email.message import Message
from functools import partial
from http import HTTPStatus
from typing import Any

import requests

from cxr_dicom.config.service import DicomwebArchive, ListenerSettings
from cxr_dicom.errors import FetchError
from cxr_dicom.ingest.archive import RemoteInstance, RemoteStudy, Store, StudyQuery
from cxr_dicom.ingest.folder import is_uid
from cxr_dicom.system.network import ConnectionFailedError, answered, request, searching, session

_STUDY_UID, _SERIES_UID, _SOP_UID, _SOP_CLASS = "0020000D", "0020000E", "00080018", "00080016"
_STUDY_DATE, _MODALITY, _MODALITIES, _STUDY_INSTANCES = "00080020", "00080060", "00080061", "00201208"
_PAGE = 100
_UNAVAILABLE = frozenset({401, 403, 407, 408, 429, 502, 503, 504})
_INSTANCE = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}

Json = Mapping[str, Any]
Search = Callable[..., Sequence[Json]]  # takes limit and offset


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

    def studies(self, query: StudyQuery, modalities: Sequence[str]) -> Iterator[RemoteStudy]:
        """Ask once per modality."""
        return self.matching(_matching(query), modalities)

    def matching(self, query: Mapping[str, str], modalities: Sequence[str]) -> Iterator[RemoteStudy]:
        """Yield the studies that a query matches, each once.

        Parameters
        ----------
        query
            Keys of QIDO-RS, keywords or tags, and what they have to match.
        modalities
            Queried one after the other, unless the query names modalities itself.
        """
        filters = [{}] if "ModalitiesInStudy" in query else [{"ModalitiesInStudy": modality} for modality in modalities]
        seen: set[str] = set()
        with searching(self._settings) as client:
            for more in filters:
                search = partial(
                    client.search_for_studies,
                    fields=[_MODALITIES, _STUDY_INSTANCES],
                    search_filters={**query, **more},
                )
                for item in _all(search, _STUDY_UID):
                    study = _study(item)
                    if is_uid(study.study_instance_uid) and study.study_instance_uid not in seen:
                        seen.add(study.study_instance_uid)
                        yield study

    def instances(self, study: RemoteStudy, modalities: Sequence[str]) -> Iterator[RemoteInstance]:
        """Ask for the series, then for the instances of those that matter."""
        uid = study.study_instance_uid
        with searching(self._settings) as client:
            for series in _all(partial(client.search_for_series, uid), _SERIES_UID):
                series_uid = _text(series, _SERIES_UID)
                if _text(series, _MODALITY) not in modalities or not is_uid(series_uid):
                    continue
                for item in _all(partial(client.search_for_instances, uid, series_uid), _SOP_UID):
                    if is_uid(sop_uid := _text(item, _SOP_UID)):
                        yield RemoteInstance(
                            study_instance_uid=uid,
                            series_instance_uid=series_uid,
                            sop_instance_uid=sop_uid,
                            sop_class_uid=_text(item, _SOP_CLASS),
                        )

    def fetch(self, instance: RemoteInstance, store: Store) -> None:
        """Fetch an instance in the transfer syntax that the archive keeps it in."""
        path = (
            f"studies/{instance.study_instance_uid}/series/{instance.series_instance_uid}"
            f"/instances/{instance.sop_instance_uid}"
        )
        with (
            session(self._settings) as opened,
            request(opened, self._settings, "GET", path, headers=_INSTANCE, stream=True) as answer,
        ):
            if answer.status_code != HTTPStatus.OK and answer.status_code not in _UNAVAILABLE:
                raise FetchError(f"WADO-RS of {instance.sop_instance_uid}: HTTP {answer.status_code}")
            _expect(answer, HTTPStatus.OK)
            body = _read(answer, self._max_bytes)
        store((_only_part(answer.headers.get("Content-Type", ""), body),), instance)

    def check(self) -> str:
        """QIDO-RS for one study."""
        with searching(self._settings) as client:
            client.search_for_studies(limit=1)
        return "answers QIDO-RS"


def build(settings: DicomwebArchive, listener: ListenerSettings) -> Dicomweb:
    """Make the archive; an instance may be as long as one that the listener takes."""
    return Dicomweb(settings, listener.max_instance_mb << 20)


def _all(search: Search, key: str) -> Iterator[Json]:
    """Yield all matches, page by page; servers may return shorter pages than requested, or ignore paging."""
    seen: set[str] = set()
    while True:
        page = {_text(item, key): item for item in search(limit=_PAGE, offset=len(seen))}
        fresh = [item for uid, item in page.items() if uid not in seen]
        if not fresh:
            return
        seen.update(page)
        yield from fresh


def _matching(query: StudyQuery) -> dict[str, str]:
    if query.study_instance_uid:
        return {"StudyInstanceUID": query.study_instance_uid}
    if query.accession_number:
        return {"AccessionNumber": query.accession_number}
    return {"StudyDate": f"{query.since}-"}


def _study(item: Json) -> RemoteStudy:
    count = _text(item, _STUDY_INSTANCES)
    return RemoteStudy(
        study_instance_uid=_text(item, _STUDY_UID),
        study_date=_text(item, _STUDY_DATE),
        instances=int(count) if count.isdecimal() else None,
        modalities=tuple(_values(item, _MODALITIES)),
    )


def _text(item: Json, tag: str) -> str:
    return next(iter(_values(item, tag)), "")


def _values(item: Json, tag: str) -> list[str]:
    return [str(value) for value in item.get(tag, {}).get("Value") or ()]


def _expect(answer: requests.Response, *accepted: int) -> None:
    if answer.status_code not in accepted:
        raise answered(answer)


def _read(answer: requests.Response, max_bytes: int) -> bytes:
    body = bytearray()
    try:
        for chunk in answer.iter_content(1 << 20):
            body += chunk
            if len(body) > max_bytes:
                raise FetchError(f"expected an instance of at most {max_bytes >> 20} MB, found more")
    except requests.RequestException as error:
        raise ConnectionFailedError("BROKEN_OFF", type(error).__name__) from error
    return bytes(body)


def _only_part(content_type: str, body: bytes) -> bytes:
    """Return the part of a multipart body that has one (RFC 2046 5.1.1), or a body that is no multipart."""
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_boundary()
    if boundary is None:
        return body
    delimiter = b"--" + boundary.encode()
    start = body.find(b"\r\n\r\n", body.find(delimiter))
    end = body.rfind(b"\r\n" + delimiter)
    if start < 0 or end < start:
        raise FetchError("expected a multipart body with one part")
    return body[start + 4 : end]
