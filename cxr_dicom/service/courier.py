"""Carries objects to one destination: what is due, in batches, with a receipt for each in the ledger.

Each destination has a courier of its own, in a thread of its own: one that is slow or dead holds up
no other.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from pydicom.uid import SegmentationStorage

from cxr_dicom.deliver import binary_fallback
from cxr_dicom.deliver.base import UNREADABLE, Destination
from cxr_dicom.encode.binary_fallback import make_binary_fallback
from cxr_dicom.errors import ConnectionFailedError, CxrDicomError, SettingsError
from cxr_dicom.records import DeliveryStatus, EncodedObject, Receipt
from cxr_dicom.service.breaker import Breaker
from cxr_dicom.service.receipts import record
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import DueDelivery, Ledger
from cxr_dicom.store.ledger.places import Place
from cxr_dicom.store.spool import Spool
from cxr_dicom.system import retry, telemetry

_BEFORE_ANY_OBJECT = (retry.OUTAGE, "REJECTED", "BUSY")  # troubles that come before an object is sent
_TAKEN = (DeliveryStatus.ACCEPTED, DeliveryStatus.WARNING, DeliveryStatus.COMMITTED)

Send = Callable[[Sequence[EncodedObject]], Iterator[Receipt]]


class Courier:
    """One destination's courier.

    Parameters
    ----------
    unasked
        Kinds of objects that nobody asked for by name: one whose SOP class the destination does not take is left out.
    """

    def __init__(
        self,
        destination: Destination,
        ledger: Ledger,
        audit: AuditTrail,
        spool: Spool,
        *,
        give_up_after: float = retry.GIVE_UP_AFTER,
        unasked: Collection[str] = (),
    ) -> None:
        self.name = destination.name
        self._destination = destination
        self._ledger = ledger
        self._audit = audit
        self._spool = spool
        self._give_up_after = give_up_after
        self._unasked = unasked
        self._breaker, self._verifying = Breaker(), Breaker()  # one that cannot be asked may take objects all the same
        self._broke_off: set[str] = set()  # objects at which the destination broke off
        self._outages, self._refusals, self._own = telemetry.Repeats(), telemetry.Repeats(), telemetry.Repeats()
        self._asked_at = ledger.deliveries.asked_at(destination.name)
        self.woken = threading.Event()

    def wake(self) -> None:
        """Look for what is due now, and not after the pause."""
        self.woken.set()

    def run(self, stop: threading.Event, pause: float = 0.3) -> None:
        """Carry until ``stop``, of which `wake` tells; nothing that happens here ends it."""
        while not stop.is_set():
            self.woken.clear()
            try:
                busy = self.carry(stop)
            except Exception as error:  # a locked ledger, a file that is gone: the next round may be better
                words = telemetry.safe_description(error)
                self._own.failed("courier_failed", words, level=logging.ERROR, destination=self.name)
                busy = False
                stop.wait(5)
            if not busy:
                self.woken.wait(pause)

    def carry(self, stop: threading.Event | None = None) -> bool:
        """Do what is due now; tell whether there was anything."""
        if self._is_left_alone():
            return False
        due = self._ledger.deliveries.due(self.name)
        doubtful = [delivery for delivery in due if delivery.object.sop_instance_uid in self._broke_off]
        sent = self._attempt([delivery for delivery in due if delivery not in doubtful], self._destination.send, stop)
        verified = self._attempt(
            self._ledger.deliveries.due_for_verification(self.name), self._destination.verify, stop, is_verifying=True
        )
        return self._attempt(doubtful, self._destination.send, stop) or sent or verified

    def _is_left_alone(self) -> bool:
        """Whether a person paused it, or it did not answer and nobody wants it to be tried before its time."""
        if self.name in self._ledger.overview.paused():
            return True
        if not self._breaker.is_open and not self._verifying.is_open:
            return False
        asked_at = self._ledger.deliveries.asked_at(self.name)
        if asked_at == self._asked_at:
            return self._breaker.is_open
        self._asked_at = asked_at
        self._breaker.succeeded()
        self._verifying.succeeded()
        return False

    def _attempt(
        self, due: Sequence[DueDelivery], act: Send, stop: threading.Event | None, *, is_verifying: bool = False
    ) -> bool:
        if not due or self._breaker.is_open or (is_verifying and self._verifying.is_open):
            return False
        remaining = {delivery.object.sop_instance_uid: delivery for delivery in due}
        try:
            for said in _receipts(act, [delivery.object for delivery in due]):
                about = remaining.pop(said.sop_instance_uid)
                receipt = self._without_unasked(said, about.object)
                self._answered(receipt, is_verifying=is_verifying)
                self._record(receipt, about, is_verifying=is_verifying)
                if said.more_follow:
                    continue
                if (stop is not None and stop.is_set()) or (not is_verifying and self._is_overtaken(remaining)):
                    break
        except ConnectionFailedError as error:
            self._broken_off(error, remaining, is_verifying=is_verifying)
        return True

    def _is_overtaken(self, remaining: Mapping[str, DueDelivery]) -> bool:
        """Whether something urgent has come since ``remaining`` was found: it goes before what is left of that."""
        if not remaining or any(delivery.is_urgent for delivery in remaining.values()):
            return False
        first = self._ledger.deliveries.due(self.name, limit=1)
        return any(each.is_urgent and each.object.sop_instance_uid not in self._broke_off for each in first)

    def _without_unasked(self, receipt: Receipt, about: EncodedObject) -> Receipt:
        """Leave out what nobody asked for where its SOP class is not taken: no study is DEAD because of it."""
        if receipt.delivery_status is not DeliveryStatus.UNSUPPORTED or about.kind not in self._unasked:
            return receipt
        detail = f"SOP class not supported; left out, for nobody asked for a {about.kind} by name"
        return replace(receipt, delivery_status=DeliveryStatus.LEFT_OUT, detail=detail)

    def _answered(self, receipt: Receipt, *, is_verifying: bool) -> None:
        """The destination said something of an object: it is there, and the object no longer in doubt."""
        self._broke_off.discard(receipt.sop_instance_uid)
        if receipt.status != UNREADABLE:  # which the destination was not asked about
            self._breaker.succeeded()
            if is_verifying:
                self._verifying.succeeded()
            self._ledger.places.answered(Place.DESTINATION, self.name)
            self._outages.ended("delivery_recovered", destination=self.name)
        if receipt.delivery_status not in _TAKEN:
            self._refusals.failed(
                "object_not_taken",
                f"{receipt.status}: {receipt.detail}" if receipt.detail else receipt.status,
                level=logging.WARNING,
                destination=self.name,
            )

    def _broken_off(
        self, error: ConnectionFailedError, remaining: Mapping[str, DueDelivery], *, is_verifying: bool
    ) -> None:
        """The destination did not answer: what remains waits, and that is no refusal.

        But where it breaks off at the same object again, and has answered for others in between, it is that object's
        trouble. Objects at which it broke off go last (see `carry`), so that they hold up no other.
        """
        uid = next(iter(remaining), "")
        breaker = self._verifying if is_verifying else self._breaker
        is_trouble_of_object = uid in self._broke_off and breaker.is_closed
        if error.status in _BEFORE_ANY_OBJECT:
            is_trouble_of_object = False
        else:
            self._broke_off.add(uid)
        pause = breaker.failed(error.retry_after)
        cause = f"verify: {error}" if is_verifying else str(error)
        self._outages.failed("delivery_failed", cause, level=logging.ERROR, destination=self.name)
        if is_trouble_of_object:
            failed = _failed(self.name, uid, error.status, error.detail, pause)
            self._record(failed, remaining[uid], is_verifying=is_verifying)
            return
        self._ledger.places.failed(Place.DESTINATION, self.name, cause)
        detail = error.detail if error.status == retry.OUTAGE else str(error)
        for each, due in remaining.items():
            self._record(_failed(self.name, each, retry.OUTAGE, detail, pause), due, is_verifying=is_verifying)

    def _record(self, receipt: Receipt, due: DueDelivery, *, is_verifying: bool) -> None:
        receipt, twin = binary_fallback.replaced(
            receipt,
            due.object,
            sibling=lambda: self._ledger.deliveries.sibling(due.object.sop_instance_uid, SegmentationStorage),
            make=lambda: self._make_binary_fallback(due),
        )
        record(
            self._ledger,
            self._audit,
            receipt,
            due,
            is_verifying=is_verifying,
            twin=twin,
            give_up_after=self._give_up_after,
        )

    def _make_binary_fallback(self, due: DueDelivery) -> EncodedObject:
        """Put the BINARY twin of a label map durably beside it; after a crash it is found, or made alike."""
        with self._spool.workspace() as folder:
            (twin,) = self._spool.adopt(due.study_instance_uid, [make_binary_fallback(due.object, folder)])
        self._audit.object_made(due.study_instance_uid, twin)
        return twin


def _receipts(act: Send, objects: Sequence[EncodedObject]) -> Iterator[Receipt]:
    """Yield the receipts; whatever keeps us from asking a destination is an outage of it."""
    try:
        yield from act(objects)
    except SettingsError as error:  # a token or a certificate that cannot be read now
        raise ConnectionFailedError(retry.OUTAGE, str(error)) from error
    except CxrDicomError:
        raise
    except Exception as error:  # what nobody thought of; it must not be tried at once, and for ever
        raise ConnectionFailedError("UNEXPECTED", telemetry.safe_description(error)) from error


def _failed(name: str, uid: str, status: str, detail: str, pause: float) -> Receipt:
    return Receipt(
        sop_instance_uid=uid,
        destination=name,
        delivery_status=DeliveryStatus.FAILED,
        status=status,
        detail=detail,
        retry_after=pause,
    )
