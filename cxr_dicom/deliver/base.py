"""What a destination owes to the courier."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from cxr_dicom.records import DeliveryStatus, EncodedObject, Receipt


class Destination(Protocol):
    """A place that objects go to.

    An implementation sends the bytes that lie on the disk, transcodes nothing, and yields a receipt
    as soon as it knows it, so that what was taken is never sent again. Trouble with one object is a
    receipt; trouble with the place is a `ConnectionFailedError`.
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
