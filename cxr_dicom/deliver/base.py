"""The contract between the courier and a destination."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Protocol

from cxr_dicom.dicom.files import Header, read_header
from cxr_dicom.errors import ImageError
from cxr_dicom.records import DeliveryStatus, EncodedObject, Reason, Receipt

_OF_THE_PATIENT = (
    *("PatientName", "PatientID", "OtherPatientIDs", "PatientBirthDate", "AccessionNumber", "StudyID"),
    *("StudyDescription", "SeriesDescription", "ReferringPhysicianName", "InstitutionName", "StudyDate"),
)
_PARTS = re.compile(r"[\s^=,.\\]+")

UNREADABLE = "UNREADABLE"  # status of a receipt: our file cannot be read, and the destination was not asked


class Destination(Protocol):
    """A place to which objects are sent. It is built by ``build(table, open_commitment)``.

    An implementation must provide:

    - The bytes that are on the disk, or those of `deliver.plain` to a peer that takes no deflated data set; the files
      stay where and as they are.
    - One receipt for each object, as soon as it is known, so that nothing is sent twice. An object that is sent
      again, after a crash, counts as the same object.
    - A receipt for a failure of one object, a `ConnectionFailedError` for a failure of the destination. Neither
      holds anything of the patient.

    The module's ``SETTINGS`` is the table of settings, a `config.service.DestinationTable` with a ``kind`` of its name.
    """

    name: str

    def send(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Send objects and yield the receipt of each, in any order."""

    def verify(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Ask whether the destination keeps objects that it accepted.

        Yields COMMITTED for those that it keeps, FAILED where it is too early to say, and REFUSED
        for those that it does not have.
        """

    def check(self) -> str:
        """Return a few words that confirm that the destination answers.

        Raises
        ------
        CxrDicomError
            If it does not.
        """


def receipt(
    name: str,
    about: EncodedObject,
    answer: DeliveryStatus,
    status: str,
    detail: str = "",
    retry_after: float | None = None,
) -> Receipt:
    """Make the receipt of one object."""
    return Receipt(
        sop_instance_uid=about.sop_instance_uid,
        destination=name,
        delivery_status=answer,
        status=status,
        detail=detail,
        retry_after=retry_after,
    )


def study_of(header: Header) -> str:
    """Return the Study Instance UID of an object.

    Raises
    ------
    ImageError
        ``UNREADABLE``: the file is damaged, and has none.
    """
    if not (uid := header.text("StudyInstanceUID")):
        raise ImageError(Reason.UNREADABLE, "expected a Study Instance UID, found none")
    return uid


def of_the_patient(about: EncodedObject) -> set[str]:
    """Return what an object says of its patient and study, which a destination's own words must not repeat."""
    try:
        header = read_header(about.path, _OF_THE_PATIENT)
    except (OSError, ImageError):
        return set()
    values = [header.text(keyword) for keyword in _OF_THE_PATIENT]
    parts = (part for value in values for part in _PARTS.split(value) if len(part) > 1)
    return {*values, *parts}


def unreadable(name: str, about: EncodedObject, error: OSError | ImageError) -> Receipt:
    """Make the receipt of an object whose file cannot be read: its trouble, and that of no other."""
    detail = error.detail if isinstance(error, ImageError) else error.strerror or type(error).__name__
    return receipt(name, about, DeliveryStatus.FAILED, UNREADABLE, f"our file: {detail}")
