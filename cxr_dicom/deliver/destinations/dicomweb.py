"""Destination ``dicomweb``: STOW-RS (PS3.18 10.5), and QIDO-RS to be sure.

An object is delivered when the answer names it among those that were stored, or a query finds it; a status code alone,
a page of a proxy or the name of another object is no receipt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.client import responses
from itertools import groupby

import requests
from dicomweb_client import DICOMwebClient
from pydicom.uid import DeflatedExplicitVRLittleEndian

from cxr_dicom.config.service import DicomwebDestination
from cxr_dicom.deliver.base import of_the_patient, receipt, study_of, unreadable
from cxr_dicom.deliver.plain import expect_whole
from cxr_dicom.deliver.store_request import StoreRequests
from cxr_dicom.deliver.store_response import Said, said_of
from cxr_dicom.deliver.trust import Trust
from cxr_dicom.deliver.upload import Part, as_it_is, in_plain
from cxr_dicom.dicom.files import read_header
from cxr_dicom.errors import ConnectionFailedError, ImageError
from cxr_dicom.records import DeliveryStatus, EncodedObject, Receipt
from cxr_dicom.system import retry, words
from cxr_dicom.system.network import answered, retry_after, searching, session
from cxr_dicom.system.reasons import reason_of

_SOP_UID = "00080018"
_AT_ONCE = 16  # objects in a request, which all have to be stored before it is answered
_AT_ONCE_BYTES = 32 << 20  # at which a request is full
_NOT_STORED = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, 415, 422)  # as a whole
_TAKEN = (DeliveryStatus.ACCEPTED, DeliveryStatus.WARNING)
_FOUND = "FOUND"  # status of what a query found before it was sent again
_NOT_NAMED = "the answer does not name the object, and a query does not find it"


@dataclass(frozen=True, slots=True)
class _Readable:
    """An object, and what its header says."""

    encoded: EncodedObject
    study: str
    is_deflated: bool

    @property
    def uid(self) -> str:
        return self.encoded.sop_instance_uid


class Dicomweb:
    """An origin server that takes objects by STOW-RS, those of a study together.

    From an answer to several objects we believe only which ones it names as stored. Every other object is sent once
    more, by itself and inflated, and its receipt is what the server says of it alone. What may be stored is asked for
    first.
    """

    def __init__(self, settings: DicomwebDestination) -> None:
        self.name = settings.name
        self._settings = settings
        self._sent: set[str] = set()  # without a final receipt
        self._doubted: set[str] = set()  # of these, what may be stored
        self._unknown_classes: set[str] = set()  # SOP classes that it does not take: they go by themselves
        self._requests = StoreRequests(settings)
        self._takes_several, self._takes_deflated = Trust(), Trust()

    def send(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Send the objects of each study together, where nothing speaks against it."""
        readable = []
        for encoded in objects:
            try:
                readable.append(_read(encoded))
            except (OSError, ImageError) as error:
                yield unreadable(self.name, encoded, error)
        if not readable:
            return
        with session(self._settings) as opened:
            for _, some in groupby(readable, lambda each: (each.study, self._goes_alone(each))):
                left = list(some)
                while left:
                    yield from self._send_some(opened, left)

    def verify(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Ask by QIDO-RS for each object."""
        with searching(self._settings) as client:
            for encoded in objects:
                try:
                    study = _read(encoded).study
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

    def _goes_alone(self, each: _Readable) -> bool:
        return each.uid in self._sent or each.encoded.sop_class_uid in self._unknown_classes

    def _go_together(self, left: Sequence[_Readable]) -> bool:
        may = self._takes_several.holds and self._requests.may_hold_several
        return may and len(left) > 1 and not self._goes_alone(left[0])

    def _goes_deflated(self, each: _Readable) -> bool:
        is_asked_for = self._settings.deflated and each.is_deflated
        return is_asked_for and self._takes_deflated.holds and not self._goes_alone(each)

    def _send_some(self, opened: requests.Session, left: list[_Readable]) -> Iterator[Receipt]:
        """Send as many as a request holds, and take them off the list."""
        several, taken = self._store_together(opened, left) if self._go_together(left) else ([], {})
        rest = [each for each in several or left[:1] if each.uid not in taken]
        del left[: len(several) or 1]
        yield from self._handed_over(taken)
        others = []
        for each in rest:
            try:
                said = self._store_alone(opened, each)
            except (OSError, ImageError) as error:
                said = unreadable(self.name, each.encoded, error)
            others.append(said)
            yield said
        if several and (not taken or all(said.delivery_status in _TAKEN for said in others)):
            self._takes_several.note(was_right=all(said.status == _FOUND for said in others))

    # --- several objects in a request ------------------------------------------------------------

    def _store_together(
        self, opened: requests.Session, left: Sequence[_Readable]
    ) -> tuple[Sequence[_Readable], Mapping[str, Receipt]]:
        """Send the first ones; return them, and the receipts of those that are stored."""
        parts = self._fill(left)
        several = left[: len(parts)]
        if len(several) < 2:
            return [], {}
        deflated = {each.uid for each in several if self._goes_deflated(each)}
        try:
            answer = self._post(opened, several, parts)
        except ImageError:  # of a file of ours: it is told when its turn comes
            return [], {}
        except ConnectionFailedError as error:
            if error.status != retry.OUTAGE:
                self._takes_several.note(was_right=False)
            raise
        taken = self._taken(several, answer)
        if deflated and deflated <= taken.keys():
            self._takes_deflated.note(was_right=True)
        return several, taken

    def _fill(self, left: Sequence[_Readable]) -> list[Part]:
        """Return what a request holds, up to a file that cannot be read, or at which it is full."""
        parts: list[Part] = []
        for each in left[:_AT_ONCE]:
            try:
                parts.append(_part(each, self._goes_deflated(each)))
            except (OSError, ImageError):
                break
            if sum(part.size for part in parts) >= _AT_ONCE_BYTES:
                break
        return parts

    def _taken(self, several: Sequence[_Readable], answer: requests.Response) -> Mapping[str, Receipt]:
        """Return the receipts of the objects that an answer names as stored; others may be there, or are refused."""
        said = said_of([each.uid for each in several], answer.content)
        taken = {}
        for each in several:
            told = said.get(each.uid)
            if told is not None and told.verdict in _TAKEN:
                taken[each.uid] = self._noted(each, self._stored(each, answer, told))
            elif told is not None or answer.status_code in _NOT_STORED:
                self._doubted.discard(each.uid)
        return taken

    def _handed_over(self, taken: Mapping[str, Receipt]) -> Iterator[Receipt]:
        """Yield receipts; an object whose receipt could not be kept, say as the ledger is locked, is in doubt."""
        left = dict(taken)
        try:
            for uid, said in taken.items():
                yield replace(said, more_follow=len(left) > 1)
                del left[uid]
        finally:
            self._sent |= left.keys()
            self._doubted |= left.keys()

    # --- one object in a request -----------------------------------------------------------------

    def _store_alone(self, opened: requests.Session, each: _Readable) -> Receipt:
        if each.uid in self._doubted and self._may_find(each):
            return self._noted(each, receipt(self.name, each.encoded, DeliveryStatus.ACCEPTED, _FOUND))
        goes_deflated, is_again = self._goes_deflated(each), each.uid in self._sent
        if goes_deflated:
            said = self._store(opened, each, is_deflated=True)
            if said.delivery_status in _TAKEN:
                self._takes_deflated.note(was_right=True)
                return said
        said = self._store(opened, each, is_deflated=False)
        if each.is_deflated and said.delivery_status in _TAKEN and (goes_deflated or is_again):
            self._takes_deflated.note(was_right=False)
        return said

    def _store(self, opened: requests.Session, each: _Readable, *, is_deflated: bool) -> Receipt:
        part = _part(each, is_deflated)
        answer = self._post(opened, [each], [part])
        return self._noted(each, self._receipt(each, part.size, answer))

    def _noted(self, each: _Readable, said: Receipt) -> Receipt:
        """Keep in mind what a receipt says."""
        sop_class = each.encoded.sop_class_uid
        if said.detail != _NOT_NAMED:
            self._doubted.discard(each.uid)
        if said.delivery_status is not DeliveryStatus.FAILED:
            self._sent.discard(each.uid)
        if said.delivery_status is DeliveryStatus.UNSUPPORTED:
            self._unknown_classes.add(sop_class)
        elif said.delivery_status in _TAKEN:
            self._unknown_classes.discard(sop_class)
        return said

    # --- requests --------------------------------------------------------------------------------

    def _post(self, opened: requests.Session, objects: Sequence[_Readable], parts: Sequence[Part]) -> requests.Response:
        """Send files in one request; an answer that is not about them is trouble of the server."""
        uids, is_begun = {each.uid for each in objects}, True
        try:
            answer = self._requests.post(opened, parts)
        except ConnectionFailedError as error:
            is_begun = error.status != retry.OUTAGE
            raise
        finally:
            if is_begun:
                self._sent |= uids
                self._doubted |= uids
        if not retry.is_about_the_object(answer.status_code):
            if 300 <= answer.status_code < 500:  # nothing was stored; behind a gateway it may be
                self._doubted -= uids
            raise answered(answer, {word for each in objects for word in of_the_patient(each.encoded)})
        return answer

    def _stored(self, each: _Readable, answer: requests.Response, said: Said) -> Receipt:
        return receipt(self.name, each.encoded, said.verdict, _status(answer, said), words.of_dimse(said.reason))

    def _receipt(self, each: _Readable, size: int, answer: requests.Response) -> Receipt:
        """Make the receipt of the only object of a request."""
        status = f"HTTP {answer.status_code}"
        verdict, detail = retry.answer_of_http(answer.status_code), responses.get(answer.status_code, "")
        detail += "" if answer.ok else reason_of(answer, of_the_patient(each.encoded))
        if (said := said_of([each.uid], answer.content).get(each.uid)) is not None:
            verdict, status, detail = said.verdict, _status(answer, said), words.of_dimse(said.reason)
        if verdict in _TAKEN and said is not None:
            return self._stored(each, answer, said)
        if (verdict in _TAKEN or answer.status_code == HTTPStatus.CONFLICT) and self._may_find(each):
            return receipt(self.name, each.encoded, DeliveryStatus.ACCEPTED, f"{status} FOUND")
        if verdict in _TAKEN:
            verdict, detail = DeliveryStatus.FAILED, _NOT_NAMED
        elif answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            detail = f"larger than the server takes: {size} bytes"
            if retry_after(answer) is not None:  # not for long, RFC 9110 15.5.14
                verdict = DeliveryStatus.FAILED
        return receipt(self.name, each.encoded, verdict, status, detail, retry_after(answer))

    def _may_find(self, each: _Readable) -> bool:
        """Whether a query finds an object; a server that cannot be queried finds none."""
        try:
            with searching(self._settings) as client:
                return _finds(client, each.study, each.encoded)
        except ConnectionFailedError:
            return False


def build(settings: DicomwebDestination, open_commitment: Callable[[str], None]) -> Dicomweb:
    """Make the destination."""
    return Dicomweb(settings)


def _read(encoded: EncodedObject) -> _Readable:
    header = read_header(encoded.path, ("StudyInstanceUID",))
    is_deflated = header.transfer_syntax == DeflatedExplicitVRLittleEndian
    return _Readable(encoded, study_of(header), is_deflated)


def _part(each: _Readable, is_deflated: bool) -> Part:
    """Return the file as it is, where it may go deflated, or in Explicit VR Little Endian."""
    if is_deflated:
        expect_whole(each.encoded.path)
    return as_it_is(each.encoded.path) if is_deflated or not each.is_deflated else in_plain(each.encoded.path)


def _status(answer: requests.Response, said: Said) -> str:
    return f"HTTP {answer.status_code} 0x{said.reason:04X}"


def _finds(client: DICOMwebClient, study: str, encoded: EncodedObject) -> bool:
    filters = {"SOPInstanceUID": encoded.sop_instance_uid}
    found = client.search_for_instances(study, encoded.series_instance_uid, search_filters=filters)
    return any(encoded.sop_instance_uid in map(_unpadded, item.get(_SOP_UID, {}).get("Value", ())) for item in found)


def _unpadded(value: object) -> str:
    return str(value).strip(" \0")
