"""Carries objects to one destination: what is due, in batches, with a receipt for each in the ledger.

Each destination has a courier of its own, in a thread of its own: one that is slow or dead holds up
no other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

from pydicom.uid import SegmentationStorage

from cxr_dicom.deliver import binary_fallback
from cxr_dicom.deliver.base import Destination
from cxr_dicom.encode.binary_fallback import make_binary_fallback
from cxr_dicom.records import DeliveryStatus, EncodedObject, Receipt
from cxr_dicom.service.breaker import Breaker
from cxr_dicom.service.receipts import record
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import DueDelivery, Ledger
from cxr_dicom.store.ledger.places import Place
from cxr_dicom.store.spool import Spool
from cxr_dicom.system import telemetry
from cxr_dicom.system.network import ConnectionFailedError

Send = Callable[[Sequence[EncodedObject]], Iterator[Receipt]]


class Courier:
    """One destination's courier."""

    def __init__(self, destination: Destination, ledger: Ledger, audit: AuditTrail, spool: Spool) -> None:
        self.name = destination.name
        self._destination = destination
        self._ledger = ledger
        self._audit = audit
        self._spool = spool
        self._breaker = Breaker()
        self._asked_at = ledger.deliveries.asked_at(destination.name)

    def run(self, stop: threading.Event, pause: float = 0.3) -> None:
        """Carry until ``stop``; nothing that happens here ends it."""
        while not stop.is_set():
            try:
                busy = self.carry(stop)
            except Exception as error:  # a locked ledger, a file that is gone: the next round may be better
                telemetry.failure("courier", error, destination=self.name)
                busy = False
                stop.wait(5)
            if not busy:
                stop.wait(pause)

    def carry(self, stop: threading.Event | None = None) -> bool:
        """Do what is due now; tell whether there was anything."""
        if self._is_left_alone():
            return False
        sent = self._attempt(self._ledger.deliveries.due(self.name), self._destination.send, stop)
        verified = self._attempt(
            self._ledger.deliveries.due_for_verification(self.name), self._destination.verify, stop, is_verifying=True
        )
        return sent or verified

    def _is_left_alone(self) -> bool:
        """Whether the destination did not answer and its pause lasts, unless a person wants it to be tried now."""
        if not self._breaker.is_open:
            return False
        asked_at = self._ledger.deliveries.asked_at(self.name)
        if asked_at == self._asked_at:
            return True
        self._asked_at = asked_at
        self._breaker.succeeded()
        return False

    def _attempt(
        self, due: Sequence[DueDelivery], act: Send, stop: threading.Event | None, *, is_verifying: bool = False
    ) -> bool:
        if not due or self._breaker.is_open:
            return False
        by_uid = {each.object.sop_instance_uid: each for each in due}
        remaining = dict(by_uid)
        try:
            for receipt in act([each.object for each in due]):
                self._breaker.succeeded()
                self._ledger.places.answered(Place.DESTINATION, self.name)
                self._record(receipt, remaining.pop(receipt.sop_instance_uid), is_verifying=is_verifying)
                if stop is not None and stop.is_set():
                    break
        except ConnectionFailedError as error:
            pause = self._breaker.failed(error.retry_after)
            self._ledger.places.failed(Place.DESTINATION, self.name, str(error))
            telemetry.failure("delivery", error, destination=self.name)
            for uid, each in remaining.items():
                failed = Receipt(
                    sop_instance_uid=uid,
                    destination=self.name,
                    delivery_status=DeliveryStatus.FAILED,
                    status=error.status,
                    detail=error.detail,
                    retry_after=pause,
                )
                self._record(failed, each, is_verifying=is_verifying)
        return True

    def _record(self, receipt: Receipt, due: DueDelivery, *, is_verifying: bool) -> None:
        receipt, twin = binary_fallback.replaced(
            receipt,
            due.object,
            sibling=lambda: self._ledger.deliveries.sibling(due.object.sop_instance_uid, SegmentationStorage),
            make=lambda: self._make_binary_fallback(due),
        )
        record(self._ledger, self._audit, receipt, due, is_verifying=is_verifying, twin=twin)

    def _make_binary_fallback(self, due: DueDelivery) -> EncodedObject:
        """Put the BINARY twin of a label map durably beside it; after a crash it is found, or made alike."""
        with self._spool.workspace() as folder:
            twin = self._spool.adopt(due.study_instance_uid, make_binary_fallback(due.object, folder))
        self._audit.object_made(due.study_instance_uid, twin)
        return twin
