"""What a destination owes to the courier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from cxr_dicom.records import DeliveryStatus, EncodedObject, Receipt


class Destination(Protocol):
    """A place that objects go to. It is built by ``build(table, open_commitment)``.

    An implementation owes:

    - The bytes that lie on the disk, not transcoded; the files stay where and as they are.
    - One receipt for each object, as soon as it knows it, so that what was taken is never sent again. An object that
      is sent a second time, after a crash, is taken as the same object.
    - Trouble with one object is a receipt; trouble with the place is a `ConnectionFailedError`. Neither has
      anything of the patient in its text.

    The module's ``SETTINGS`` is the table of settings, a `config.service.DestinationTable` with a ``kind`` of its name.
    """

    name: str

    def send(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Send objects and yield what is said of each, in any order."""

    def verify(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Ask whether the place keeps objects that it took.

        Yields COMMITTED for those that it keeps, FAILED where it is too early to say, and REFUSED
        for those that it does not have.
        """

    def check(self) -> str:
        """Say in a few words that the place answers.

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
