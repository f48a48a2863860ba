"""Studies and their instances: arrived, complete, claimed by a worker, finished."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cxr_dicom.errors import CxrDicomError
from cxr_dicom.records import (
    ModelInfo,
    Outcome,
    StoredInstance,
    Study,
    StudyResult,
    StudyState,
    WrittenObject,
)
from cxr_dicom.records.words import object_kind
from cxr_dicom.store.group_commit import GroupCommit
from cxr_dicom.store.ledger import results
from cxr_dicom.store.ledger.results import Dispatch
from cxr_dicom.store.ledger.story import SHORT_OF
from cxr_dicom.store.ledger.transitions import expect_legal, origins
from cxr_dicom.system import retry

if TYPE_CHECKING:
    from cxr_dicom.store.ledger import Ledger


_TO_CLAIM = "SELECT * FROM studies INDEXED BY studies_to_claim WHERE state = ? ORDER BY urgent DESC, received_at"


class ClaimLostError(CxrDicomError):
    """A worker finished a study that is no longer its own; its result is not kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """A study that one worker may process."""

    study: Study
    owner: str
    job_key: str | None  # of its latest result; None when there is none, or when the run is forced
    attempts: int  # that failed
    models: tuple[str, ...] = ()  # that a person asked for; none: those of the settings


class Arrival(StrEnum):
    """What the ledger makes of an instance that arrives."""

    NEW = "new"
    KNOWN = "known"  # exactly this one
    OF_ANOTHER_STUDY = "of another study"  # its SOP Instance UID is known in another one, and stays there


class _Arriving(NamedTuple):
    instance: StoredInstance
    sha256: str
    is_urgent: bool


class Studies:
    """See the module.

    Attributes
    ----------
    arriving
        Records instances of several threads in one transaction.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.arriving: GroupCommit[_Arriving, Arrival] = GroupCommit(self._add_all)

    # --- arriving --------------------------------------------------------------------------------

    def arrival(self, instance: StoredInstance, sha256: str) -> Arrival:
        """Say what `add` would make of an instance now."""
        return self._arrival(instance, sha256)[0]

    def add(self, instance: StoredInstance, sha256: str, *, is_urgent: bool = False) -> Arrival:
        """Record a file that lies durably in the spool, if it is new; otherwise the file is not needed.

        Never call it within a transaction, which others would wait for.
        """
        return self.arriving.make(_Arriving(instance, sha256, is_urgent))

    def knows(self, sop_instance_uid: str) -> bool:
        """Whether an instance was received."""
        return bool(self._ledger.rows("SELECT 1 FROM instances WHERE sop_instance_uid = ?", sop_instance_uid))

    def path_of(self, sop_instance_uid: str) -> Path | None:
        """Where the file of an instance lies; None for one that never came or was deleted."""
        rows = self._ledger.rows("SELECT path FROM instances WHERE sop_instance_uid = ?", sop_instance_uid)
        return self._ledger.folder / rows[0]["path"] if rows and rows[0]["path"] else None

    def uids(self, state: StudyState) -> list[str]:
        """Return the studies in a state, the oldest first."""
        rows = self._ledger.rows("SELECT study_instance_uid FROM studies WHERE state = ? ORDER BY received_at", state)
        return [row["study_instance_uid"] for row in rows]

    def complete(self, study_instance_uid: str) -> bool:
        """Close a study that is RECEIVING; tell whether it was."""
        return self.move(study_instance_uid, (StudyState.RECEIVING,), StudyState.COMPLETE)

    def hurry(self, study_instance_uid: str) -> None:
        """Let a study go before all that are not urgent, here and to its destinations."""
        with self._ledger.transaction() as connection:
            connection.execute("UPDATE studies SET urgent = 1 WHERE study_instance_uid = ?", (study_instance_uid,))
            self._ledger.deliveries.hurry(study_instance_uid)

    def _add_all(self, arriving: Sequence[_Arriving]) -> list[Arrival]:
        with self._ledger.transaction() as connection:
            arrivals = [self._add(connection, *each) for each in arriving]
            self._ledger.count("received", arrivals.count(Arrival.NEW))
        return arrivals

    def _add(self, connection: sqlite3.Connection, instance: StoredInstance, sha256: str, is_urgent: bool) -> Arrival:
        now = time.time()
        arrival, is_known = self._arrival(instance, sha256)
        if arrival is not Arrival.NEW:
            return arrival
        begun = connection.execute(
            "INSERT INTO studies (study_instance_uid, state, received_at, changed_at) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO NOTHING",
            (instance.study_instance_uid, StudyState.RECEIVING, now, now),
        )
        if is_known:  # with other content
            self._ledger.stories.supersede(instance.sop_instance_uid)
        connection.execute(
            "INSERT OR REPLACE INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid,"
            " sop_class_uid, path, sha256, sender, called_ae_title, received_at)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                instance.sop_instance_uid,
                instance.study_instance_uid,
                instance.series_instance_uid,
                instance.sop_class_uid,
                self._ledger.stored(instance.path),
                sha256,
                instance.sender,
                instance.called_ae_title,
                now,
            ),
        )
        if not begun.rowcount:
            self._reopen(connection, instance.study_instance_uid)
        if is_urgent:
            self.hurry(instance.study_instance_uid)
        return arrival

    def _arrival(self, instance: StoredInstance, sha256: str) -> tuple[Arrival, bool]:
        """Say what an instance is to the ledger, and whether its UID is known."""
        found = self._ledger.rows(
            "SELECT study_instance_uid, sha256 FROM instances WHERE sop_instance_uid = ?", instance.sop_instance_uid
        )
        if found and found[0]["study_instance_uid"] != instance.study_instance_uid:
            return Arrival.OF_ANOTHER_STUDY, True
        return Arrival.KNOWN if found and found[0]["sha256"] == sha256 else Arrival.NEW, bool(found)

    def _reopen(self, connection: sqlite3.Connection, uid: str) -> None:
        """A new image arrived: gather again, or after the run that is under way."""
        (row,) = self._ledger.rows("SELECT state FROM studies WHERE study_instance_uid = ?", uid)
        if row["state"] == StudyState.RECEIVING:
            return
        connection.execute(
            "UPDATE studies SET dirty = 1, changed_at = ? WHERE study_instance_uid = ? AND state IN (?, ?)",
            (time.time(), uid, StudyState.RUNNING, StudyState.HELD),
        )
        closed = set(origins(StudyState.RECEIVING)) - {StudyState.RUNNING}
        self.move(uid, tuple(closed), StudyState.RECEIVING)

    # --- working ---------------------------------------------------------------------------------

    def claim(self, owner: str, *, max_interruptions: int) -> Claim | None:
        """Take the oldest study that waits; None when there is none.

        A study whose worker died ``max_interruptions`` times is HELD instead.
        """
        now = time.time()
        with self._ledger.transaction() as connection:
            while row := self._next_waiting(connection, now, max_interruptions):
                uid = row["study_instance_uid"]
                if row["interruptions"] >= max_interruptions:
                    reason = (
                        f"a worker died, or was ended after service.study_seconds, {row['interruptions']} times"
                        " while it processed this study"
                    )
                    self.move(uid, (StudyState.COMPLETE,), StudyState.HELD, reason)
                    continue
                connection.execute(
                    "UPDATE studies SET state = ?, claimed_by = ?, interruptions = interruptions + 1, dirty = 0,"
                    " changed_at = ? WHERE study_instance_uid = ?",
                    (StudyState.RUNNING, owner, now, uid),
                )
                return self._claim(row, owner)
        return None

    def is_claimed_by(self, owner: str) -> bool:
        """Whether a worker has a study."""
        return bool(
            self._ledger.rows("SELECT 1 FROM studies WHERE state = ? AND claimed_by = ?", StudyState.RUNNING, owner)
        )

    def take_back(self, owner: str | None = None, *, is_interruption: bool = True) -> list[str]:
        """Take the claims of a worker that ended, or, without a name, of all; return their studies."""
        with self._ledger.transaction() as connection:
            rows = connection.execute(
                "UPDATE studies SET state = ?, claimed_by = NULL, interruptions = interruptions - ?, changed_at = ?"
                " WHERE state = ? AND (? IS NULL OR claimed_by = ?) RETURNING study_instance_uid",
                (StudyState.COMPLETE, not is_interruption, time.time(), StudyState.RUNNING, owner, owner),
            )
            return [row["study_instance_uid"] for row in rows.fetchall()]

    def keep_unchanged(self, claim: Claim) -> None:
        """The study has a result already: nothing is to be done."""
        with self._ledger.transaction() as connection:
            self._let_go(connection, claim, StudyState.ENCODED, "")
            self._ledger.deliveries.settle(claim.study.study_instance_uid)

    def postpone(self, claim: Claim, result: StudyResult, until: float, *, counts: bool = True) -> None:
        """Processing failed in a way that may pass: try again at ``until``.

        It is an attempt if it ``counts``; otherwise this machine lacked something.
        """
        failed = next((f"{i.reason}: {i.detail}" for i in result.instances if i.outcome is Outcome.FAILED), "")
        why = f"attempt {claim.attempts + 1} failed" if counts else SHORT_OF
        with self._ledger.transaction() as connection:
            uid = claim.study.study_instance_uid
            self._let_go(connection, claim, StudyState.COMPLETE, f"{why}: {failed}")
            self._ledger.results.record_outcomes(connection, result)
            connection.execute(
                "UPDATE studies SET attempts = ?, next_attempt_at = ? WHERE study_instance_uid = ?",
                (claim.attempts + counts, until, uid),
            )

    def finish(
        self,
        claim: Claim,
        result: StudyResult,
        models: Sequence[ModelInfo],
        dispatches: Iterable[Dispatch] = (),
        shown: Path | None = None,
    ) -> StudyState:
        """Record the result of a study whose objects lie durably in the spool, where they go, and what pages show.

        Raises
        ------
        ClaimLostError
            If the study was taken from this worker meanwhile.
        """
        objects = results.objects(result)
        state, reason = results.state_after(result)
        with self._ledger.transaction() as connection:
            self._let_go(connection, claim, state, reason)
            self._ledger.results.record(connection, result, models)
            if shown:
                self._ledger.overview.keep(claim.study.study_instance_uid, shown)
            self._ledger.deliveries.plan(claim.study.study_instance_uid, set(objects), dispatches)
        return state

    def _next_waiting(self, connection: sqlite3.Connection, now: float, max_interruptions: int) -> sqlite3.Row | None:
        """Return the oldest study that is due, or was interrupted too often, the urgent first; no row behind it."""
        rows = connection.execute(_TO_CLAIM, (StudyState.COMPLETE,))
        due = (
            row
            for row in rows
            if row["interruptions"] >= max_interruptions or retry.is_due(row["next_attempt_at"], now)
        )
        return next(due, None)

    def _claim(self, row: sqlite3.Row, owner: str) -> Claim:
        uid = row["study_instance_uid"]
        job = self._ledger.rows(
            "SELECT job_key FROM jobs WHERE study_instance_uid = ? AND outcome <> ? ORDER BY id DESC LIMIT 1",
            uid,
            Outcome.FAILED,
        )
        return Claim(
            study=Study(
                study_instance_uid=uid, instances=tuple(self._instances(uid)), earlier=tuple(self._earlier(uid))
            ),
            owner=owner,
            job_key=job[0]["job_key"] if job and not row["forced"] else None,
            attempts=row["attempts"],
            models=tuple(json.loads(row["models"] or "[]")),
        )

    def _instances(self, uid: str) -> Iterable[StoredInstance]:
        rows = self._ledger.rows(
            "SELECT * FROM instances WHERE study_instance_uid = ? AND path IS NOT NULL ORDER BY sop_instance_uid", uid
        )
        for row in rows:
            yield StoredInstance(
                path=self._ledger.folder / row["path"],
                study_instance_uid=uid,
                series_instance_uid=row["series_instance_uid"],
                sop_instance_uid=row["sop_instance_uid"],
                sop_class_uid=row["sop_class_uid"],
                sender=row["sender"],
                called_ae_title=row["called_ae_title"],
                sha256=row["sha256"],
            )

    def _earlier(self, uid: str) -> Iterable[WrittenObject]:
        for row in self._ledger.rows("SELECT * FROM objects WHERE study_instance_uid = ? ORDER BY rowid", uid):
            yield WrittenObject(
                kind=object_kind(row["kind"]),
                sop_class_uid=row["sop_class_uid"],
                sop_instance_uid=row["sop_instance_uid"],
                series_instance_uid=row["series_instance_uid"],
                source_sop_instance_uids=tuple(json.loads(row["sources"])),
            )

    def _let_go(self, connection: sqlite3.Connection, claim: Claim, state: StudyState, reason: str) -> None:
        """End a claim; images that arrived meanwhile make the study RECEIVING."""
        expect_legal([StudyState.RUNNING], state)
        done = connection.execute(
            "UPDATE studies SET state = iif(dirty, ?, ?), reason = iif(dirty, '', ?), dirty = 0, forced = 0,"
            " claimed_by = NULL, interruptions = 0, attempts = 0, next_attempt_at = NULL, changed_at = ?"
            " WHERE study_instance_uid = ? AND state = ? AND claimed_by = ?",
            (
                StudyState.RECEIVING,
                state,
                reason,
                time.time(),
                claim.study.study_instance_uid,
                StudyState.RUNNING,
                claim.owner,
            ),
        )
        if not done.rowcount:
            raise ClaimLostError(f"study {claim.study.study_instance_uid} was taken from worker {claim.owner}")

    def move(self, uid: str, origin: Sequence[StudyState], target: StudyState, reason: str = "") -> bool:
        """Change the state of a study that is in one of ``origin``; tell whether it was.

        Raises
        ------
        ValueError
            If `transitions` do not allow it.
        """
        expect_legal(origin, target)
        marks = ", ".join("?" * len(origin))
        with self._ledger.transaction() as connection:
            moved = connection.execute(
                "UPDATE studies SET state = ?, reason = ?,"  # noqa: S608 - only question marks are added
                " changed_at = iif(state = ? AND reason = ?, changed_at, ?)"
                f" WHERE study_instance_uid = ? AND state IN ({marks})",
                (target, reason, target, reason, time.time(), uid, *origin),
            )
        return moved.rowcount > 0
