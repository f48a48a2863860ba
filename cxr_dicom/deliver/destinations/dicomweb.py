"""Destination ``dicomweb``: STOW-RS (PS3.18 10.5), and QIDO-RS to be sure.

An object is delivered when the answer names it among those that were stored, or a query finds it; a status code alone,
a page of a proxy or the name of another object is no receipt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from http import HTTPStatus
from http.client import responses
from pathlib import Path

import requests
from dicomweb_client import DICOMwebClient

from cxr_dicom.config.service import DicomwebDestination
from cxr_dicom.deliver.base import of_the_patient, receipt, unreadable
from cxr_dicom.deliver.plain import plain
from cxr_dicom.deliver.store_response import said_of
from cxr_dicom.deliver.upload import FORMS, Upload
from cxr_dicom.dicom.files import read_header
from cxr_dicom.errors import ConnectionFailedError, ImageError
from cxr_dicom.records import DeliveryStatus, EncodedObject, Receipt
from cxr_dicom.system import retry, words
from cxr_dicom.system.network import answered, request, retry_after, searching, session
from cxr_dicom.system.reasons import reason_of

_SOP_UID = "00080018"
_ACCEPTED = ("application/dicom+json", "application/dicom+xml", "*/*")  # answers; the first that a server likes
_TAKEN = (DeliveryStatus.ACCEPTED, DeliveryStatus.WARNING)
_NOT_NAMED = "the answer does not name the object, and a query does not find it"


class Dicomweb:
    """An origin server that takes objects by STOW-RS, one object per request."""

    def __init__(self, settings: DicomwebDestination) -> None:
        self.name = settings.name
        self._settings = settings
        self._doubted: set[str] = set()  # sent without a receipt: asked for before they are sent again
        self._form, self._accept = 0, 0  # the plainest that was needed, of `FORMS` and `_ACCEPTED`
        self._is_understood = False  # whether the server took an object in this form: then 415 is about the object

    def send(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Send each object in its own request, so that each has its own answer."""
        with session(self._settings) as opened:
            for encoded in objects:
                try:
                    said = self._store(opened, encoded, _study(encoded))
                except (OSError, ImageError) as error:
                    yield unreadable(self.name, encoded, error)
                    continue
                if said.detail != _NOT_NAMED:
                    self._doubted.discard(encoded.sop_instance_uid)
                yield said

    def verify(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Ask by QIDO-RS for each object."""
        with searching(self._settings) as client:
            for encoded in objects:
                try:
                    study = _study(encoded)
                except (OSError, ImageError) as error:
                    yield unreadable(self.name, encoded, error)
                    continue
                is_there = _finds(client, study, encoded)
                answer = DeliveryStatus.COMMITTED if is_there else DeliveryStatus.FAILED
                yield receipt(self.name, encoded, answer, "FOUND" if is_there else "NOT_FOUND")

    def check(self) -> str:
        """QIDO-RS for one study."""
        with searching(self._settings) as client:
            client.search_for_studies(limit=1)
        return "answers QIDO-RS"

    def _store(self, opened: requests.Session, encoded: EncodedObject, study: str) -> Receipt:
        uid = encoded.sop_instance_uid
        if uid in self._doubted and self._may_find(study, encoded, is_sent=False):
            return receipt(self.name, encoded, DeliveryStatus.ACCEPTED, "FOUND")
        with plain(encoded.path) as path:  # nothing says whether a server inflates (PS3.18 8.7.3.5)
            size = path.stat().st_size
            self._doubted.add(uid)
            answer = self._post(opened, path)
        if not retry.is_about_the_object(answer.status_code):
            if 300 <= answer.status_code < 500:  # it was not stored; behind a gateway it may be
                self._doubted.discard(uid)
            raise answered(answer, of_the_patient(encoded))
        return self._receipt(encoded, size, study, answer)

    def _post(self, opened: requests.Session, path: Path) -> requests.Response:
        """Send a file; where the server does not like the form, or what it may answer, again in a plainer one."""
        form, accept = self._form, self._accept
        while True:
            with Upload(path, FORMS[form]) as body:
                headers = {"Accept": _ACCEPTED[accept], **body.headers}
                answer = request(opened, self._settings, "POST", "studies", data=body, headers=headers)
            if answer.status_code == HTTPStatus.NOT_ACCEPTABLE and accept + 1 < len(_ACCEPTED):
                accept += 1
            elif (
                answer.status_code == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
                and form + 1 < len(FORMS)
                and not self._is_understood
            ):
                form += 1
            else:
                break
        if answer.ok:
            self._form, self._accept, self._is_understood = form, accept, True
        return answer

    def _receipt(self, encoded: EncodedObject, size: int, study: str, answer: requests.Response) -> Receipt:
        status = f"HTTP {answer.status_code}"
        said = said_of(encoded.sop_instance_uid, answer.content)
        verdict, detail = retry.answer_of_http(answer.status_code), responses.get(answer.status_code, "")
        detail += "" if answer.ok else reason_of(answer, of_the_patient(encoded))
        if said is not None:
            verdict, status, detail = said.verdict, f"{status} 0x{said.reason:04X}", words.of_dimse(said.reason)
        if verdict in _TAKEN and said is not None:
            return receipt(self.name, encoded, verdict, status, detail)
        if (verdict in _TAKEN or answer.status_code == HTTPStatus.CONFLICT) and self._may_find(study, encoded):
            return receipt(self.name, encoded, DeliveryStatus.ACCEPTED, f"{status} FOUND")
        if verdict in _TAKEN:
            verdict, detail = DeliveryStatus.FAILED, _NOT_NAMED
        elif answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            detail = f"larger than the server takes: {size} bytes"
            if retry_after(answer) is not None:  # not for long, RFC 9110 15.5.14
                verdict = DeliveryStatus.FAILED
        return receipt(self.name, encoded, verdict, status, detail, retry_after(answer))

    def _may_find(self, study: str, encoded: EncodedObject, *, is_sent: bool = True) -> bool:
        """Whether a query finds an object; a server that cannot be queried finds none.

        Raises
        ------
        ConnectionFailedError
            If it does not answer at all, unless the object has just been sent.
        """
        try:
            with searching(self._settings) as client:
                return _finds(client, study, encoded)
        except ConnectionFailedError as error:
            if error.http_status is None and not is_sent:
                raise
            return False


def build(settings: DicomwebDestination, open_commitment: Callable[[str], None]) -> Dicomweb:
    """Make the destination."""
    return Dicomweb(settings)


def _study(encoded: EncodedObject) -> str:
    return str(read_header(encoded.path, ("StudyInstanceUID",)).dataset.StudyInstanceUID)


def _finds(client: DICOMwebClient, study: str, encoded: EncodedObject) -> bool:
    filters = {"SOPInstanceUID": encoded.sop_instance_uid}
    found = client.search_for_instances(study, encoded.series_instance_uid, search_filters=filters)
    return any(encoded.sop_instance_uid in map(_unpadded, item.get(_SOP_UID, {}).get("Value", ())) for item in found)


def _unpadded(value: object) -> str:
    return str(value).strip(" \0")
