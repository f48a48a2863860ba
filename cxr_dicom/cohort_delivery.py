"""Objects of a cohort straight to a destination, each once."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from cxr_dicom import retry
from cxr_dicom._plugins import build_destination
from cxr_dicom.config import Settings
from cxr_dicom.errors import CxrDicomError, SettingsError
from cxr_dicom.network import ConnectionFailedError
from cxr_dicom.records import Answer, EncodedObject, Receipt

ATTEMPTS = 6  # with the pauses of `retry`, about half a minute; then the study failed, and the run goes on


class NotDeliveredError(CxrDicomError):
    """A destination did not take all objects of a study; ``taken`` has the SOP Instance UIDs of those that it has."""

    def __init__(self, detail: str, taken: Collection[str]) -> None:
        super().__init__(detail)
        self.taken = sorted(taken)


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

    def send(self, objects: Sequence[EncodedObject], taken: Collection[str]) -> list[str]:
        """Send what is not yet ``taken``; return the SOP Instance UIDs of all that the destination has.

        Raises
        ------
        NotDeliveredError
            With the answer, if there is an object that it does not take, after several attempts.
        """
        uids = {each.sop_instance_uid for each in objects}
        waiting = {each.sop_instance_uid: each for each in objects if each.sop_instance_uid not in taken}
        for attempt in range(1, ATTEMPTS + 1):
            problem, asked, is_final = self._attempt(waiting)
            if not waiting:
                break
            if is_final or attempt == ATTEMPTS:
                detail = f"{len(waiting)} of {len(uids)} objects were not taken: {problem}"
                raise NotDeliveredError(detail, {*taken, *uids} - waiting.keys())
            self._pause(max(retry.pause_after(attempt), asked))
        return sorted({*taken, *uids})

    def _attempt(self, waiting: dict[str, EncodedObject]) -> tuple[str, float, bool]:
        """Send once, take away what arrived; say of the rest why not, when to try again, and whether that is final."""
        problem, asked, is_final = "", 0.0, False
        try:
            for receipt in self._destination.send(list(waiting.values())):
                if receipt.answer in (Answer.ACCEPTED, Answer.WARNING):
                    del waiting[receipt.sop_instance_uid]
                    continue
                problem = _text(receipt)
                asked = max(asked, receipt.retry_after or 0.0)
                is_final = is_final or receipt.answer is not Answer.FAILED
        except ConnectionFailedError as error:
            problem, asked = str(error), error.retry_after or 0.0
        return problem, min(asked, retry.LONGEST_PAUSE), is_final


def _text(receipt: Receipt) -> str:
    return f"{receipt.status} {receipt.detail}".strip()
