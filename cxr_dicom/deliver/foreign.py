"""A destination of another package, held to what `deliver.base.Destination` says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from cxr_dicom.deliver.base import Destination, receipt
from cxr_dicom.errors import ConnectionFailedError, CxrDicomError
from cxr_dicom.plugins import Choice
from cxr_dicom.records import DeliveryStatus, EncodedObject, Receipt
from cxr_dicom.system import telemetry


class ForeignDestination:
    """Each object gets one receipt, of this destination; whatever it raises is trouble with the place."""

    def __init__(self, destination: Destination, name: str, choice: Choice) -> None:
        self.name = name
        self._destination = destination
        self._package = f"{choice.name} of {choice.package}"

    def send(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Send objects and yield the receipt of each; an object without a receipt is tried again later."""
        return self._receipts(objects, self._destination.send)

    def verify(self, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
        """Ask whether the place keeps objects that it took."""
        return self._receipts(objects, self._destination.verify)

    def check(self) -> str:
        """Say in a few words that the place answers."""
        return str(self._tried(self._destination.check))

    def _receipts(self, objects: Sequence[EncodedObject], act: Callable[..., Any]) -> Iterator[Receipt]:
        waiting = {encoded.sop_instance_uid: encoded for encoded in objects}
        answers = self._tried(lambda: iter(act(tuple(objects))))
        while (answer := self._tried(lambda: next(answers, None))) is not None:
            if not isinstance(answer, Receipt) or not isinstance(answer.delivery_status, DeliveryStatus):
                raise ConnectionFailedError(
                    "PLUGIN", f"{self._package}: expected a Receipt, got {type(answer).__name__}"
                )
            if waiting.pop(answer.sop_instance_uid, None) is None:
                uid = str(answer.sop_instance_uid)[:64]
                raise ConnectionFailedError(
                    "PLUGIN", f"{self._package}: expected one receipt for each object, got another of {uid}"
                )
            yield replace(answer, destination=self.name)
        for encoded in waiting.values():
            yield receipt(
                self.name, encoded, DeliveryStatus.FAILED, "NO_RECEIPT", f"{self._package} said nothing of it"
            )

    def _tried(self, act: Callable[[], Any]) -> Any:
        try:
            return act()
        except (CxrDicomError, KeyboardInterrupt):
            raise
        except BaseException as error:  # not ours: `sys.exit` in it must not end a courier
            raise ConnectionFailedError("PLUGIN", f"{self._package}: {telemetry.safe_description(error)}") from error
