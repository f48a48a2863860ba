"""What a person may do about studies and deliveries, by command or page: the rules, and a line of the audit trail.

Whether something may be done is decided where it is done: in one transaction.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_dicom.errors import CxrDicomError
from cxr_dicom.records import StudyState
from cxr_dicom.store.audit import AuditTrail

if TYPE_CHECKING:
    from cxr_dicom.store.ledger import Ledger

_RUNS_AGAIN = (StudyState.DEAD, StudyState.HELD, StudyState.IGNORED)
_MAY_RUN_ANEW = (  # whatever became of it
    *(StudyState.COMPLETE, StudyState.ENCODED, StudyState.SENT, StudyState.COMMITTED),
    *_RUNS_AGAIN,
)
_STUCK = (StudyState.COMPLETE, StudyState.ENCODED, StudyState.DEAD, StudyState.HELD)  # what all of means
_BATCH = 50  # changes of one transaction, so that the service is never kept waiting for long


class ActionRefusedError(CxrDicomError):
    """What a person asked for is not possible in the state that a study or a destination is in."""


class UnknownStudyError(ActionRefusedError):
    """The ledger does not know the study."""


class ImagesDeletedError(ActionRefusedError):
    """A study cannot run again, for retention deleted its images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Person:
    """Who acts."""

    name: str  # login, not of a patient
    via: str  # "command", "page"


@dataclass(frozen=True, kw_only=True, slots=True)
class Retried:
    """What became of many studies that were to be tried again."""

    studies: tuple[str, ...]  # that are
    refused: tuple[ActionRefusedError, ...]  # why the others are not


class Actions:
    """Everything that a person can do, with the name of the person."""

    def __init__(self, ledger: Ledger, person: Person) -> None:
        self._ledger = ledger
        self._person = person
        self._audit = AuditTrail(ledger.folder)

    def retry(self, study_instance_uid: str, destination: str | None = None) -> None:
        """Send again what was refused or waits, or run again what has no objects; at once.

        Parameters
        ----------
        destination
            Only send, and only there.

        Raises
        ------
        ActionRefusedError
            If there is nothing to try again.
        """
        with self._ledger.transaction():
            self._retry(study_instance_uid, destination)
        self._tell("study_retried", study_instance_uid=study_instance_uid, destination=destination)

    def retry_all(
        self, states: Collection[StudyState] = (), destination: str | None = None, since: float | None = None
    ) -> Retried:
        """`retry` every study that waits or was given up; those that cannot be stop no other.

        Parameters
        ----------
        states
            Only studies in one of these. Without any: all that pause, wait for a destination, or are DEAD or HELD;
            with a destination: all of which something waits for it or was refused by it.
        destination
            Only send, and only there.
        since
            Only studies that changed at this time or later, in seconds since 1970.
        """
        wanted = states or (tuple(StudyState) if destination else _STUCK)
        retried: list[str] = []
        refused: list[ActionRefusedError] = []
        for batch in _batched(self._ledger.stories.stuck(wanted, destination, since)):
            begin = len(retried)
            with self._ledger.transaction():
                for uid in batch:
                    try:
                        self._retry(uid, destination)
                        retried.append(uid)
                    except UnknownStudyError:  # forgotten meanwhile
                        continue
                    except ActionRefusedError as error:
                        refused.append(error)
            for uid in retried[begin:]:
                self._tell("study_retried", study_instance_uid=uid, destination=destination)
        return Retried(studies=tuple(retried), refused=tuple(refused))

    def resend(self, study_instance_uid: str, destination: str | None = None) -> None:
        """Send the objects of a study once more, also those that were taken: to all destinations, or to one.

        Raises
        ------
        ActionRefusedError
            If there is nothing to send, or it is gathered or processed just now.
        """
        with self._ledger.transaction():
            state = self._state(study_instance_uid)
            if state in (StudyState.RECEIVING, StudyState.COMPLETE, StudyState.RUNNING):
                raise ActionRefusedError(f"{study_instance_uid}: expected a study with a result, it is {state}")
            if not self._ledger.deliveries.retry(study_instance_uid, destination, is_taken=True):
                where = f" to {destination}" if destination else ""
                raise ActionRefusedError(
                    f"{study_instance_uid}: expected objects that went{where}, and whose files are here"
                    " (retention.objects_days), found none"
                )
        self._tell("study_resent", study_instance_uid=study_instance_uid, destination=destination)

    def reprocess(self, study_instance_uid: str, models: Sequence[str] = ()) -> None:
        """Process a study again, whatever became of it; what is made takes the place of what was made.

        Parameters
        ----------
        models
            Names, in the order in which they run, now and when further images of it come; none: those of the settings.

        Raises
        ------
        ActionRefusedError
            If it is RECEIVING or RUNNING, or not all of its images are here.
        """
        with self._ledger.transaction() as connection:
            state = self._state(study_instance_uid)
            if state not in _MAY_RUN_ANEW:
                first = "complete it first" if state is StudyState.RECEIVING else "wait for its result"
                raise ActionRefusedError(
                    f"{study_instance_uid}: expected a study that can run again, it is {state}; {first}"
                )
            self._expect_images(study_instance_uid, is_whole=True)
            self._run_anew(study_instance_uid)
            asked = json.dumps(list(models)) if models else None
            connection.execute(
                "UPDATE studies SET models = ? WHERE study_instance_uid = ?", (asked, study_instance_uid)
            )
        self._tell("study_reprocessed", study_instance_uid=study_instance_uid, model=",".join(models) or None)

    def complete(self, study_instance_uid: str) -> None:
        """Close a study that is RECEIVING.

        Raises
        ------
        ActionRefusedError
            If it is not.
        """
        with self._ledger.transaction():
            state = self._state(study_instance_uid)
            if not self._ledger.studies.complete(study_instance_uid):
                raise ActionRefusedError(f"{study_instance_uid}: expected RECEIVING, found {state}")
        self._tell("study_completed", study_instance_uid=study_instance_uid)

    def forget(self, study_instance_uid: str) -> None:
        """Delete a study from ledger and disk, in whatever state it is; what a worker makes of it is not kept.

        Raises
        ------
        ActionRefusedError
            If it is unknown.
        """
        with self._ledger.transaction():
            state = self._state(study_instance_uid)
            paths = self._ledger.stories.forget(study_instance_uid)
        self._tell("study_forgotten", study_instance_uid=study_instance_uid, state=state)
        for path in paths:  # after a crash the next start deletes them
            path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # not empty
                path.parent.rmdir()

    def withdraw(self, destination: str) -> int:
        """Let nothing wait for a destination any more; return how many objects waited.

        Raises
        ------
        ActionRefusedError
            If nothing does.
        """
        withdrawn = 0
        while count := self._ledger.deliveries.withdraw(destination, limit=_BATCH):
            withdrawn += count
        if not withdrawn:
            raise ActionRefusedError(f"{destination}: nothing waits for it")
        self._tell("destination_withdrawn", destination=destination, objects=withdrawn)
        return withdrawn

    def pause(self, destination: str) -> None:
        """Send nothing to a destination until `resume`.

        Raises
        ------
        ActionRefusedError
            If it is paused.
        """
        if not self._ledger.overview.pause(destination):
            raise ActionRefusedError(f"{destination}: is paused already")
        self._tell("destination_paused", destination=destination)

    def resume(self, destination: str) -> None:
        """Send to a destination again; the time of the pause counts for nothing.

        Raises
        ------
        ActionRefusedError
            If it is not paused.
        """
        if not self._ledger.overview.resume(destination):
            raise ActionRefusedError(f"{destination}: is not paused")
        self._tell("destination_resumed", destination=destination)

    def _state(self, uid: str) -> StudyState:
        state = self._ledger.stories.state(uid)
        if state is None:
            raise UnknownStudyError(f"{uid}: not in the ledger; `cxr-dicom jobs list` shows what is")
        return state

    def _retry(self, uid: str, destination: str | None) -> None:
        """Do as `retry`; nothing is changed when it raises."""
        state = self._state(uid)
        tried = bool(self._ledger.deliveries.retry(uid, destination))
        if destination is None and (not tried or state is StudyState.COMPLETE):
            tried |= self._run_again(uid, state)
        if not tried:
            where = f" for {destination}" if destination else ""
            raise ActionRefusedError(
                f"{uid}: expected something refused or waiting{where}, or a study that is DEAD, HELD or IGNORED;"
                f" it is {state}, with nothing to try again"
            )

    def _run_again(self, uid: str, state: StudyState) -> bool:
        """Let a study run now: one that was given up although nothing changed, one that pauses without its pause."""
        with self._ledger.transaction() as connection:
            if state is StudyState.COMPLETE:
                pausing = connection.execute(
                    "UPDATE studies SET next_attempt_at = NULL, reason = ''"
                    " WHERE study_instance_uid = ? AND next_attempt_at IS NOT NULL",
                    (uid,),
                )
                return pausing.rowcount > 0
            if state not in _RUNS_AGAIN:
                return False
            self._expect_images(uid, is_whole=False)
            self._run_anew(uid)
            return True

    def _expect_images(self, uid: str, *, is_whole: bool) -> None:
        """Check that a study has images to run on, or all that it ever had."""
        rows = self._ledger.rows("SELECT path FROM instances WHERE study_instance_uid = ?", uid)
        is_here = [row["path"] is not None for row in rows]
        if not (all(is_here) if is_whole else any(is_here)):
            which = "images of it" if any(is_here) else "its images"
            raise ImagesDeletedError(
                f"{uid}: {which} were deleted (retention.sources_days); to process it again,"
                " delete the rest with `cxr-dicom jobs forget` and send the images again"
            )

    def _run_anew(self, uid: str) -> None:
        """Let a study run now although nothing changed."""
        with self._ledger.transaction() as connection:
            self._ledger.studies.move(uid, _MAY_RUN_ANEW, StudyState.COMPLETE)
            connection.execute(
                "UPDATE studies SET forced = 1, interruptions = 0, attempts = 0, next_attempt_at = NULL"
                " WHERE study_instance_uid = ?",
                (uid,),
            )

    def _tell(self, action: str, **fields: str | int | None) -> None:
        self._audit.write(action, **fields, by=self._person.name, via=self._person.via)


def _batched(uids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield so many that the service is not kept waiting."""
    return (uids[start : start + _BATCH] for start in range(0, len(uids), _BATCH))
