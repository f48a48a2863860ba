"""Objects of a cohort straight to a destination, each once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pydicom.uid import SegmentationStorage

from cxr_dicom import retry, twins
from cxr_dicom._plugins import build_destination
from cxr_dicom.config import Settings
from cxr_dicom.errors import CxrDicomError, SettingsError
from cxr_dicom.network import ConnectionFailedError
from cxr_dicom.records import Answer, EncodedObject, Receipt
from cxr_dicom.states import Taken

ATTEMPTS = 6  # with the pauses of `retry`, about half a minute; then the study failed, and the run goes on
WORKSHOP = "twins-"  # begin of the names of folders that twins lie in until they are sent


class NotDeliveredError(CxrDicomError):
    """A destination did not take all objects of a study; ``taken`` has those that it took."""

    def __init__(self, detail: str, taken: Taken) -> None:
        super().__init__(detail)
        self.taken = taken


class Delivery:
    """The destination that a cohort goes to.

    Raises
    ------
    SettingsError
        If the settings have no destination of this name.
    """

    def __init__(self, settings: Settings, name: str, pause: Callable[[float], None] = time.sleep) -> None:
        described = {each.name: each for each in settings.destinations}
        if name not in described:
            raise SettingsError(
                f"destination {name!r} is not one of [[destinations]]: {', '.join(described) or 'none'}"
            )
        self._destination = build_destination(described[name], open_commitment=lambda transaction: None)
        self._pause = pause

    def send(self, objects: Sequence[EncodedObject], taken: Taken, folder: Path) -> Taken:
        """Send what is not yet ``taken``, and return what the destination has then.

        A label map whose SOP class it does not take is replaced by its BINARY twin, which lies below
        ``folder`` until it is sent: equal label maps give equal twins, so none need be kept.

        Raises
        ------
        NotDeliveredError
            With the answer, if there is an object that it does not take, after several attempts.
        """
        parcel = _Parcel(objects, taken)
        with TemporaryDirectory(prefix=WORKSHOP, dir=folder) as workshop:
            for attempt in range(1, ATTEMPTS + 1):
                asked = self._attempt(parcel, Path(workshop))
                if not parcel.waiting:
                    break
                if asked is not None and attempt < ATTEMPTS:
                    self._pause(max(retry.pause_after(attempt), asked))
        if left := parcel.left:
            detail = f"{len(left)} of {len(parcel.objects)} objects were not taken: {parcel.problem}"
            raise NotDeliveredError(detail, parcel.taken)
        return parcel.taken

    def _attempt(self, parcel: _Parcel, workshop: Path) -> float | None:
        """Send once; return the seconds that the destination asks for before the next time, None if that is now."""
        asked = None
        try:
            for receipt in self._destination.send(list(parcel.waiting.values())):
                if parcel.note(receipt, workshop) is Answer.FAILED:
                    asked = max(asked or 0.0, receipt.retry_after or 0.0)
        except ConnectionFailedError as error:
            parcel.problem = str(error)
            asked = error.retry_after or 0.0
        return asked if asked is None else min(asked, retry.LONGEST_PAUSE)


class _Parcel:
    """The objects of a study on their way."""

    def __init__(self, objects: Sequence[EncodedObject], taken: Taken) -> None:
        self.objects = {each.sop_instance_uid: each for each in objects}
        self.waiting = {uid: each for uid, each in self.objects.items() if uid not in taken}
        self.problem = ""
        self._earlier = taken
        self._instead: dict[str, str] = {}  # twin of a refused label map
        self._there = set(taken.values())

    @property
    def taken(self) -> Taken:
        """What the destination has of these and of earlier objects."""
        sent = {uid: self._instead.get(uid, uid) for uid in self.objects}
        return {**self._earlier, **{uid: name for uid, name in sent.items() if name in self._there}}

    @property
    def left(self) -> set[str]:
        """What the destination has not."""
        return self.objects.keys() - self.taken.keys()

    def note(self, receipt: Receipt, workshop: Path) -> Answer:
        """Note what is said of one object, put its twin in its place where one is wanted, and return the answer."""
        uid = receipt.sop_instance_uid
        about = self.waiting[uid]
        sibling, make = partial(self._sibling, about), partial(twins.make_twin, about, workshop)
        receipt, twin = twins.replaced(receipt, about, sibling=sibling, make=make)
        if twin:
            self._instead[uid] = twin.sop_instance_uid
            if twin.sop_instance_uid not in self._there:
                self.waiting[twin.sop_instance_uid] = twin
        elif receipt.answer in (Answer.ACCEPTED, Answer.WARNING):
            self._there.add(uid)
        else:
            self.problem = f"{receipt.status} {receipt.detail}".strip()
        if receipt.answer is not Answer.FAILED:
            del self.waiting[uid]
        return receipt.answer

    def _sibling(self, label_map: EncodedObject) -> EncodedObject | None:
        def about(each: EncodedObject) -> tuple[object, ...]:
            return each.kind, each.model, each.source_sop_instance_uids

        alike = (each for each in self.objects.values() if about(each) == about(label_map))
        return next((each for each in alike if each.sop_class_uid == SegmentationStorage), None)
