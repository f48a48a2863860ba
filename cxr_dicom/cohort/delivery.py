"""Objects of a cohort straight to a destination, each once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom.uid import SegmentationStorage

from cxr_dicom.cohort.states import Delivered
from cxr_dicom.config import Settings
from cxr_dicom.deliver import binary_fallback, build_destination
from cxr_dicom.encode.binary_fallback import make_binary_fallback
from cxr_dicom.errors import ConnectionFailedError, CxrDicomError, SettingsError
from cxr_dicom.records import DeliveryStatus, EncodedObject, Reason, Receipt
from cxr_dicom.system import retry
from cxr_dicom.system.lock import in_turn

ATTEMPTS = 6  # with the pauses of `retry`, about half a minute
BUSY_SECONDS = 900.0  # of pauses, for which a destination may be busy at one study
LONGEST_BUSY_PAUSE = 30.0  # seconds
STUDIES_IN_A_ROW = 3  # for which the destination was not reached; then the run stops
TURN = "sending-to-"  # prefix of the file that the one sender of a destination has locked
WORKSPACE = "twins-"  # prefix of the temporary folders that hold twins until they are sent


class NotDeliveredError(CxrDicomError):
    """A destination did not accept all objects of a study.

    Attributes
    ----------
    reason
        DESTINATION_UNREACHABLE where it was no longer there at the last attempt, else DELIVERY_FAILED.
    delivered
        What it has accepted.
    """

    def __init__(self, reason: Reason, detail: str, delivered: Delivered) -> None:
        super().__init__(detail)
        self.reason = reason
        self.delivered = delivered


class DestinationDownError(CxrDicomError):
    """The destination of a cohort cannot be reached. The run has stopped; started again, it continues."""


class OutageGuard:
    """Stops a run whose destination is down, before a hundred thousand studies fail one after the other."""

    def __init__(self, destination: str | None) -> None:
        self._destination = destination
        self._in_a_row = 0

    def note(self, problem: str, *, has_answered: bool) -> None:
        """Take note of a finished study.

        Parameters
        ----------
        problem
            Why the destination was not reached; empty when it was, or nothing was to be sent.
        has_answered
            Whether it took or refused an object of this study.

        Raises
        ------
        DestinationDownError
            When it was not reached for `STUDIES_IN_A_ROW`.
        """
        if problem:
            self._in_a_row += 1
        elif has_answered:
            self._in_a_row = 0
        if self._in_a_row == STUDIES_IN_A_ROW:
            raise DestinationDownError(
                f"{Reason.DESTINATION_UNREACHABLE}: destination {self._destination!r} was not reached for"
                f" {self._in_a_row} studies in a row: {problem}."
                " The run has stopped; the same command goes on, and sends what could not be sent"
            )


class Delivery:
    """The destination that a cohort goes to.

    Raises
    ------
    SettingsError
        If the settings have no destination of this name.
    """

    def __init__(self, settings: Settings, name: str, pause: Callable[[float], None] = time.sleep) -> None:
        described = {destination.name: destination for destination in settings.destinations}
        if name not in described:
            raise SettingsError(
                f"destination {name!r} is not one of [[destinations]]: {', '.join(described) or 'none'}"
            )
        self._destination = build_destination(described[name], open_commitment=lambda transaction: None)
        self._pause = pause

    def send(self, objects: Sequence[EncodedObject], delivered: Delivered, folder: Path) -> Delivered:
        """Send what is not yet ``delivered``, and return what the destination has then.

        All workers that share ``folder`` send one after the other, so that a run takes one association of a small
        archive. Being busy is no failure: it is waited for, up to `BUSY_SECONDS`.

        A label map whose SOP class it does not accept is replaced by its BINARY twin, which stays below
        ``folder`` until it is sent. Equal label maps give equal twins, so none is kept.

        Raises
        ------
        NotDeliveredError
            With the answer, if there is an object that it does not take, after several attempts.
        """
        shipment = _Shipment(objects, delivered)
        with (
            in_turn(folder / f"{TURN}{self._destination.name}"),
            TemporaryDirectory(prefix=WORKSPACE, dir=folder) as workspace,
        ):
            self._send(shipment, Path(workspace))
        if left := shipment.left:
            detail = f"{len(left)} of {len(shipment.objects)} objects were not taken: {shipment.problem}"
            reason = Reason.DESTINATION_UNREACHABLE if shipment.is_cut_off else Reason.DELIVERY_FAILED
            raise NotDeliveredError(reason, detail, shipment.delivered)
        return shipment.delivered

    def _send(self, shipment: _Shipment, workspace: Path) -> None:
        attempts, turns_away, waited = 0, 0, 0.0
        while shipment.waiting and attempts < ATTEMPTS and waited < BUSY_SECONDS:
            pause = self._attempt(shipment, workspace)
            if shipment.is_busy:
                turns_away += 1
                seconds = min(max(retry.pause_after(turns_away), pause or 0.0), LONGEST_BUSY_PAUSE)
                waited += seconds
                self._pause(seconds)
                continue
            attempts += 1
            if pause is not None and attempts < ATTEMPTS:
                self._pause(max(retry.pause_after(attempts), pause))

    def _attempt(self, shipment: _Shipment, workspace: Path) -> float | None:
        """Send once; return how many seconds to wait before the next attempt, None where there is no need to wait."""
        pause, shipment.is_cut_off, shipment.is_busy = None, False, False
        try:
            for receipt in self._destination.send(list(shipment.waiting.values())):
                if shipment.note(receipt, workspace) is DeliveryStatus.FAILED:
                    pause = max(pause or 0.0, receipt.retry_after or 0.0)
        except ConnectionFailedError as error:
            shipment.problem, shipment.is_cut_off, shipment.is_busy = str(error), not error.is_busy, error.is_busy
            pause = error.retry_after or 0.0
            if not error.is_busy:
                shipment.put_off()
        return pause if pause is None else min(pause, retry.LONGEST_PAUSE)


class _Shipment:
    """The objects of a study on their way."""

    def __init__(self, objects: Sequence[EncodedObject], delivered: Delivered) -> None:
        self.objects = {encoded.sop_instance_uid: encoded for encoded in objects}
        self.waiting = {uid: encoded for uid, encoded in self.objects.items() if uid not in delivered}
        self.problem = ""
        self.is_busy = False  # it was there at the latest attempt, and had no room for us
        self.is_cut_off = False  # the destination was not there, or no longer, at the latest attempt
        self._earlier = delivered
        self._instead: dict[str, str] = {}  # twin of a refused label map
        self._there = set(delivered.values())

    @property
    def delivered(self) -> Delivered:
        """What the destination has of these and of earlier objects."""
        sent = {uid: self._instead.get(uid, uid) for uid in self.objects}
        return {**self._earlier, **{uid: name for uid, name in sent.items() if name in self._there}}

    @property
    def left(self) -> set[str]:
        """What the destination still lacks."""
        return self.objects.keys() - self.delivered.keys()

    def put_off(self) -> None:
        """Send the object at which the destination broke off after the others, so that it holds up none."""
        if self.waiting:
            uid = next(iter(self.waiting))
            self.waiting[uid] = self.waiting.pop(uid)

    def note(self, receipt: Receipt, workspace: Path) -> DeliveryStatus:
        """Record the receipt of one object, replace the object by its twin where needed, and return the status."""
        uid = receipt.sop_instance_uid
        about = self.waiting[uid]
        sibling, make = partial(self._sibling, about), partial(make_binary_fallback, about, workspace)
        receipt, twin = binary_fallback.replaced(receipt, about, sibling=sibling, make=make)
        if twin:
            self._instead[uid] = twin.sop_instance_uid
            if twin.sop_instance_uid not in self._there:
                self.waiting[twin.sop_instance_uid] = twin
        elif receipt.delivery_status in (DeliveryStatus.ACCEPTED, DeliveryStatus.WARNING):
            self._there.add(uid)
        else:
            self.problem = f"{receipt.status} {receipt.detail}".strip()
        if receipt.delivery_status is not DeliveryStatus.FAILED:
            del self.waiting[uid]
        return receipt.delivery_status

    def _sibling(self, label_map: EncodedObject) -> EncodedObject | None:
        def about(encoded: EncodedObject) -> tuple[object, ...]:
            return encoded.kind, encoded.model, encoded.source_sop_instance_uids

        alike = (encoded for encoded in self.objects.values() if about(encoded) == about(label_map))
        return next((encoded for encoded in alike if encoded.sop_class_uid == SegmentationStorage), None)
