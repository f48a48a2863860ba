"""Destination ``dicomweb``: STOW-RS (PS3.18 10.5), and QIDO-RS to be sure."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests

from cxr_dicom.config.service import DicomwebDestination
from cxr_dicom.deliver.base import receipt
from cxr_dicom.dicom.files import read_header
from cxr_dicom.records import DeliveryStatus, EncodedObject, Receipt
from cxr_dicom.system import retry
from cxr_dicom.system.network import answered, request, retry_after, searching, session

# Attributes of the Store Instances Response Module (PS3.18 10.5.3)
_SOP_UID = "00080018"
_FAILED_SOP_SEQUENCE, _REFERENCED_SOP_SEQUENCE = "00081198", "00081199"
_REFERENCED_SOP_INSTANCE_UID = "00081155"
_FAILURE_REASON, _WARNING_REASON = "00081197", "00081196"
_UNAVAILABLE = frozenset({401, 403, 407, 429, 502, 503, 504})  # 401: a token may be renewed
_JSON = {"Accept": "application/dicom+json"}
_DUPLICATE = 0x0111  # duplicate SOP instance: an earlier attempt, whose answer was lost, succeeded

Json = Mapping[str, Any]


class Dicomweb:
    """An origin server that takes objects by STOW-RS, one object per request."""

    def __init__(self, settings: DicomwebDestination) -> None:
        self.name = settings.name
        self._settings = settings

    def send(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Send each object in its own request, so that each has its own answer."""
        with session(self._settings) as opened:
            for encoded in objects:
                yield self._store(opened, encoded)

    def verify(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Ask by QIDO-RS for each object."""
        with searching(self._settings) as client:
            for encoded in objects:
                study = read_header(encoded.path, ("StudyInstanceUID",)).dataset.StudyInstanceUID
                filters = {"SOPInstanceUID": encoded.sop_instance_uid}
                found = client.search_for_instances(study, encoded.series_instance_uid, search_filters=filters)
                is_there = any(encoded.sop_instance_uid in item.get(_SOP_UID, {}).get("Value", ()) for item in found)
                yield receipt(
                    self.name,
                    encoded,
                    DeliveryStatus.COMMITTED if is_there else DeliveryStatus.FAILED,
                    "FOUND" if is_there else "NOT_FOUND",
                )

    def check(self) -> str:
        """QIDO-RS for one study."""
        with searching(self._settings) as client:
            client.search_for_studies(limit=1)
        return "answers QIDO-RS"

    def _store(self, opened: requests.Session, encoded: EncodedObject) -> Receipt:
        boundary = uuid.uuid4().hex
        headers = {
            **_JSON,
            "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
        }
        answer = request(opened, self._settings, "POST", "studies", data=_body(encoded.path, boundary), headers=headers)
        _expect_service(answer)
        status = f"HTTP {answer.status_code}"
        stated = _status_of(encoded.sop_instance_uid, answer)
        if stated is not None:
            return receipt(self.name, encoded, stated[0], f"{status} 0x{stated[1]:04X}")
        verdict = retry.answer_of_http(answer.status_code)
        if answer.status_code == HTTPStatus.CONFLICT:  # PS3.18 table 10.5.3-1: nothing was stored
            verdict = DeliveryStatus.REFUSED
        return receipt(self.name, encoded, verdict, status, retry_after=retry_after(answer))


def build(settings: DicomwebDestination, open_commitment: Callable[[str], None]) -> Dicomweb:
    """Make the destination."""
    return Dicomweb(settings)


def _expect_service(answer: requests.Response) -> None:
    """Tell trouble of the place, which may pass for all objects at once, from trouble with one object."""
    if answer.status_code in _UNAVAILABLE:
        raise answered(answer)


def _body(path: Path, boundary: str) -> Iterator[bytes]:
    """Stream a file as the only part of a multipart body."""
    yield f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk
    yield f"\r\n--{boundary}--\r\n".encode()


def _status_of(uid: str, answer: requests.Response) -> tuple[DeliveryStatus, int] | None:
    """Read the status of one object in the body, which counts more than the status of the whole answer."""
    try:
        body = answer.json()
        body = body[0] if isinstance(body, list) else body
        for item in _items(body, _FAILED_SOP_SEQUENCE):
            if _uid(item) in (uid, None):
                reason = _number(item, _FAILURE_REASON, 0x0110)
                return (DeliveryStatus.ACCEPTED if reason == _DUPLICATE else retry.answer_of_dimse(reason)), reason
        for item in _items(body, _REFERENCED_SOP_SEQUENCE):
            if _uid(item) == uid:
                reason = _number(item, _WARNING_REASON, 0)
                return (DeliveryStatus.WARNING if reason else DeliveryStatus.ACCEPTED), reason
    except (ValueError, TypeError, LookupError, AttributeError):
        return None  # no body that we understand: the status decides
    return None


def _items(body: Json, tag: str) -> Sequence[Json]:
    return body.get(tag, {}).get("Value") or ()


def _uid(item: Json) -> str | None:
    return next(iter(item.get(_REFERENCED_SOP_INSTANCE_UID, {}).get("Value") or ()), None)


def _number(item: Json, tag: str, default: int) -> int:
    return int(next(iter(item.get(tag, {}).get("Value") or ()), default))
