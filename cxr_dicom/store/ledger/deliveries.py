"""Objects on their way: one row per object and destination, and what the destination said."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from cxr_dicom.records import DeliveryStatus, EncodedObject, Receipt, StudyState
from cxr_dicom.records.words import object_kind
from cxr_dicom.store.ledger.transitions import origins
from cxr_dicom.system import retry

if TYPE_CHECKING:
    from cxr_dicom.store.ledger import Ledger
    from cxr_dicom.store.ledger.results import Dispatch


class _State(StrEnum):
    WAITING = "waiting"
    DELIVERED = "delivered"
    COMMITTED = "committed"
    REFUSED = "refused"
    REPLACED = "replaced"  # another object goes in its place
    WITHDRAWN = "withdrawn"  # a newer result took its place before it was sent, or it can be done without


_STATE_AFTER = {
    DeliveryStatus.ACCEPTED: _State.DELIVERED,
    DeliveryStatus.WARNING: _State.DELIVERED,
    DeliveryStatus.COMMITTED: _State.COMMITTED,
    DeliveryStatus.REFUSED: _State.REFUSED,
    DeliveryStatus.UNSUPPORTED: _State.REFUSED,
    DeliveryStatus.LEFT_OUT: _State.WITHDRAWN,
}
_DELIVERING = {StudyState.ENCODED, StudyState.SENT, StudyState.COMMITTED}
_TAKEN = (DeliveryStatus.ACCEPTED, DeliveryStatus.WARNING, DeliveryStatus.COMMITTED)

_TO_SEND = f"state = '{_State.WAITING}'"  # these two have an index each, which SQLite knows by its very words
_TO_VERIFY = f"state = '{_State.DELIVERED}' AND verify"
_WITH_OBJECT = (
    "SELECT d.*, o.rowid AS number, o.study_instance_uid, o.series_instance_uid, o.sop_class_uid, o.kind, o.model,"
    " o.sources, o.path FROM deliveries d JOIN objects o USING (sop_instance_uid)"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class DueDelivery:
    """An object whose turn it is at a destination."""

    object: EncodedObject
    study_instance_uid: str
    attempts: int  # that failed
    first_attempt_at: float | None  # later by the time in which nobody asked
    found_at: float  # when its turn had come
    is_urgent: bool = False


class Deliveries:
    """See the module."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def plan(self, study_instance_uid: str, object_uids: set[str], dispatches: Iterable[Dispatch]) -> None:
        """Send the objects of the latest result where they go; withdraw what waits of earlier ones."""
        with self._ledger.transaction() as connection:
            for row in self._of_study(study_instance_uid):
                is_made_again = not object_uids.isdisjoint((row["sop_instance_uid"], row["twin_of"]))
                if row["state"] in (_State.WAITING, _State.REPLACED) and not is_made_again:
                    self._set(connection, row, _State.WITHDRAWN, detail="a newer result took its place")
            for dispatch in dispatches:
                for uid in sorted(object_uids if dispatch.objects is None else object_uids & dispatch.objects):
                    self._send(connection, uid, dispatch.destination, verify=dispatch.verify)
            self.settle(study_instance_uid)

    def due(self, destination: str, *, limit: int = 64) -> list[DueDelivery]:
        """Return what is to be sent now, the oldest first."""
        return self._due(destination, _TO_SEND, limit)

    def due_for_verification(self, destination: str, *, limit: int = 64) -> list[DueDelivery]:
        """Return what was delivered and must be verified now."""
        return self._due(destination, _TO_VERIFY, limit)

    def record(self, receipt: Receipt, *, retry_at: float | None = None, is_verifying: bool = False) -> None:
        """Keep what a destination said; a failure is tried again at ``retry_at``.

        What it did not take or keep counts only in the state that was asked about: a report of its own
        association, or a newer result, may have come first.
        """
        with self._ledger.transaction() as connection:
            row = self._row(receipt.sop_instance_uid, receipt.destination)
            if row is None:
                return  # forgotten meanwhile
            self._ledger.count("deliveries", destination=receipt.destination, answer=receipt.delivery_status)
            if receipt.delivery_status not in _TAKEN and not self._is_asked(row, is_verifying=is_verifying):
                return
            if receipt.delivery_status is DeliveryStatus.FAILED:
                self._postpone(connection, row, receipt, retry_at)
            else:
                state = _STATE_AFTER[receipt.delivery_status]
                goes_on = state is _State.DELIVERED and self._was_lost(row)
                self._set(connection, row, state, receipt.status, receipt.detail, goes_on=goes_on)
            self.settle(self._study_of(receipt.sop_instance_uid))

    def give_up(self, receipt: Receipt, reason: str, *, is_verifying: bool = False) -> None:
        """Stop trying after failures that did not pass."""
        with self._ledger.transaction() as connection:
            row = self._row(receipt.sop_instance_uid, receipt.destination)
            if row is not None and self._is_asked(row, is_verifying=is_verifying):
                self._set(connection, row, _State.REFUSED, receipt.status, f"{reason}; last: {receipt.detail}")
                self.settle(self._study_of(receipt.sop_instance_uid))

    def replace(self, receipt: Receipt, twin: EncodedObject) -> None:
        """Send ``twin`` to a destination that refused an object for its SOP class; the object is settled."""
        with self._ledger.transaction() as connection:
            row = self._row(receipt.sop_instance_uid, receipt.destination)
            if row is None or not self._is_asked(row, is_verifying=False):
                return  # forgotten or withdrawn meanwhile
            self._ledger.count("deliveries", destination=receipt.destination, answer=receipt.delivery_status)
            connection.execute(
                "INSERT INTO objects SELECT ?, study_instance_uid, ?, ?, job_id, kind, model, sources, ?,"
                " sop_instance_uid FROM objects WHERE sop_instance_uid = ?"
                " ON CONFLICT DO UPDATE SET path = coalesce(path, excluded.path)",
                (
                    twin.sop_instance_uid,
                    twin.series_instance_uid,
                    twin.sop_class_uid,
                    self._ledger.stored(twin.path),
                    receipt.sop_instance_uid,
                ),
            )
            self._send(connection, twin.sop_instance_uid, receipt.destination, verify=bool(row["verify"]))
            self._set(connection, row, _State.REPLACED, receipt.status, receipt.detail)
            self.settle(self._study_of(receipt.sop_instance_uid))

    def sibling(self, sop_instance_uid: str, sop_class_uid: str) -> EncodedObject | None:
        """Return what the same job said of the same images in another SOP class; twins do not count."""
        rows = self._ledger.rows(
            "SELECT o.* FROM objects o JOIN objects a USING (job_id, kind, sources) WHERE a.sop_instance_uid = ?"
            " AND o.model IS a.model AND o.sop_class_uid = ? AND o.twin_of IS NULL AND o.path IS NOT NULL",
            sop_instance_uid,
            sop_class_uid,
        )
        return self._object(rows[0]) if rows else None

    def send_again(self, receipt: Receipt, *, retry_at: float) -> None:
        """The destination does not have what it took: send it again at ``retry_at``."""
        with self._ledger.transaction() as connection:
            row = self._row(receipt.sop_instance_uid, receipt.destination)
            if row is not None and self._is_asked(row, is_verifying=True):
                self._postpone(connection, row, receipt, retry_at)
                connection.execute(
                    "UPDATE deliveries SET state = ?, changed_at = ? WHERE sop_instance_uid = ? AND destination = ?",
                    (_State.WAITING, time.time(), receipt.sop_instance_uid, receipt.destination),
                )
                self.settle(self._study_of(receipt.sop_instance_uid), reopen=True)

    def retry(self, study_instance_uid: str, destination: str | None = None, *, is_taken: bool = False) -> int:
        """Send what was refused, or was taken, too, again, and what waits or is to be verified now; return how many."""
        with self._ledger.transaction() as connection:
            rows = [
                row
                for row in self._of_study(study_instance_uid)
                if destination in (None, row["destination"]) and row["path"] is not None
            ]
            states = (_State.REFUSED, _State.WAITING, *((_State.DELIVERED, _State.COMMITTED) if is_taken else ()))
            again = [row for row in rows if row["state"] in states]
            to_verify = [
                row for row in rows if row["state"] == _State.DELIVERED and self._is_open(row) and row not in again
            ]
            for row in again:
                self._set(connection, row, _State.WAITING, row["status"], row["detail"])
            for row in to_verify:
                connection.execute(
                    "UPDATE deliveries SET next_attempt_at = NULL WHERE sop_instance_uid = ? AND destination = ?",
                    (row["sop_instance_uid"], row["destination"]),
                )
            for name in {row["destination"] for row in (*again, *to_verify)}:
                connection.execute("INSERT OR REPLACE INTO asked VALUES (?, ?)", (name, time.time()))
            if again:
                self.settle(study_instance_uid, reopen=True)
        return len(again) + len(to_verify)

    def asked_at(self, destination: str) -> float | None:
        """Return when a person last wanted a destination to be tried at once; None: never."""
        rows = self._ledger.rows("SELECT asked_at FROM asked WHERE destination = ?", destination)
        return rows[0]["asked_at"] if rows else None

    def open(self) -> dict[str, int]:
        """Count what waits for each destination, to be sent or verified, whether the settings name it or not."""
        rows = self._ledger.rows(
            f"SELECT destination, count(*) n FROM deliveries WHERE {_TO_SEND} OR ({_TO_VERIFY})"  # noqa: S608 - constants
            " GROUP BY destination ORDER BY destination"
        )
        return {row["destination"]: row["n"] for row in rows}

    def withdraw(self, destination: str, *, limit: int = -1) -> int:
        """Let so many objects, or all, wait for a destination no more; return how many did."""
        with self._ledger.transaction() as connection:
            rows = self._ledger.rows(
                f"SELECT * FROM deliveries WHERE destination = ? AND ({_TO_SEND} OR ({_TO_VERIFY})) LIMIT ?",  # noqa: S608
                destination,
                limit,
            )
            for row in rows:
                self._set(connection, row, _State.WITHDRAWN, detail="withdrawn by `jobs withdraw`")
            for uid in {self._study_of(row["sop_instance_uid"]) for row in rows}:
                self.settle(uid)
        return len(rows)

    def hurry(self, study_instance_uid: str) -> None:
        """Send what waits of a study before all that is not urgent."""
        with self._ledger.transaction() as connection:
            connection.execute(
                "UPDATE deliveries SET urgent = 1 WHERE sop_instance_uid IN"
                " (SELECT sop_instance_uid FROM objects WHERE study_instance_uid = ?)",
                (study_instance_uid,),
            )

    # --- storage commitment ----------------------------------------------------------------------

    def open_commitment(self, transaction_uid: str, destination: str) -> None:
        """Remember a request, so that its report is believed."""
        with self._ledger.transaction() as connection:
            connection.execute("INSERT INTO commitments VALUES (?, ?, ?)", (transaction_uid, destination, time.time()))
            connection.execute("DELETE FROM commitments WHERE requested_at < ?", (time.time() - retry.GIVE_UP_AFTER,))

    def commitment_destination(self, transaction_uid: str) -> str | None:
        """Return whom a transaction was opened with; None when it is not ours."""
        rows = self._ledger.rows("SELECT destination FROM commitments WHERE transaction_uid = ?", transaction_uid)
        return rows[0]["destination"] if rows else None

    def awaiting_verification(self, sop_instance_uid: str, destination: str) -> DueDelivery | None:
        """Return a delivered object whose commitment is asked for, due or not."""
        rows = self._ledger.rows(
            f"{_WITH_OBJECT} WHERE sop_instance_uid = ? AND destination = ? AND {_TO_VERIFY} AND path IS NOT NULL",
            sop_instance_uid,
            destination,
        )
        return self._delivery(rows[0]) if rows else None

    # --- inside ----------------------------------------------------------------------------------

    def _send(self, connection: sqlite3.Connection, uid: str, destination: str, *, verify: bool) -> None:
        """Let an object wait for a destination, unless it was sent there or is on its way."""
        connection.execute(
            "INSERT INTO deliveries (sop_instance_uid, destination, state, verify, changed_at, urgent)"
            " SELECT ?, ?, ?, ?, ?, urgent FROM studies JOIN objects USING (study_instance_uid)"
            " WHERE sop_instance_uid = ? ON CONFLICT DO UPDATE SET state = excluded.state, urgent = excluded.urgent"
            " WHERE deliveries.state = ?",
            (uid, destination, _State.WAITING, verify, time.time(), uid, _State.WITHDRAWN),
        )

    def _due(self, destination: str, which: str, limit: int) -> list[DueDelivery]:
        """Return the deliveries for which `retry.is_due`, the urgent first, without reading the others."""
        now, found = time.time(), []
        for which_now in (f"{which} AND urgent = {urgent}" for urgent in (1, 0)):
            found += self._next(destination, f"{which_now} AND next_attempt_at IS NULL", limit)
            found += self._next(destination, f"{which_now} AND next_attempt_at <= ?", limit, now)
            latest = now + retry.LONGEST_ASKED_PAUSE
            found += self._next(destination, f"{which_now} AND next_attempt_at > ?", limit, latest)
        found.sort(key=lambda row: (-row["urgent"], row["changed_at"], row["number"]))
        return [self._delivery(row) for row in found[:limit]]

    def _next(self, destination: str, which: str, limit: int, *values: float) -> list[sqlite3.Row]:
        """Return the first deliveries of one kind in the order of an index."""
        return self._ledger.rows(
            f"{_WITH_OBJECT} WHERE destination = ? AND {which} AND path IS NOT NULL"
            " ORDER BY next_attempt_at, d.changed_at, d.rowid LIMIT ?",
            destination,
            *values,
            limit,
        )

    def _delivery(self, row: sqlite3.Row) -> DueDelivery:
        return DueDelivery(
            object=self._object(row),
            study_instance_uid=row["study_instance_uid"],
            attempts=row["attempts"],
            first_attempt_at=_troubled_since(row),
            found_at=time.time(),
            is_urgent=bool(row["urgent"]),
        )

    def _object(self, row: sqlite3.Row) -> EncodedObject:
        return EncodedObject(
            path=self._ledger.folder / row["path"],
            kind=object_kind(row["kind"]),
            sop_class_uid=row["sop_class_uid"],
            sop_instance_uid=row["sop_instance_uid"],
            series_instance_uid=row["series_instance_uid"],
            source_sop_instance_uids=tuple(json.loads(row["sources"])),
            model=row["model"],
        )

    def _row(self, uid: str, destination: str) -> sqlite3.Row | None:
        rows = self._ledger.rows(
            "SELECT * FROM deliveries WHERE sop_instance_uid = ? AND destination = ?", uid, destination
        )
        return rows[0] if rows else None

    def _of_study(self, uid: str) -> list[sqlite3.Row]:
        return self._ledger.rows(
            "SELECT d.*, o.path, o.twin_of FROM deliveries d JOIN objects o USING (sop_instance_uid)"
            " WHERE study_instance_uid = ?",
            uid,
        )

    def _study_of(self, object_uid: str) -> str:
        (row,) = self._ledger.rows("SELECT study_instance_uid FROM objects WHERE sop_instance_uid = ?", object_uid)
        return str(row["study_instance_uid"])

    def _set(
        self,
        connection: sqlite3.Connection,
        row: sqlite3.Row,
        state: _State,
        status: str = "",
        detail: str = "",
        *,
        goes_on: bool = False,
    ) -> None:
        """Change the state, and count failures anew unless the trouble ``goes_on``."""
        attempts, since = (row["attempts"], row["first_attempt_at"]) if goes_on else (0, None)
        connection.execute(
            "UPDATE deliveries SET state = ?, status = ?, detail = ?, attempts = ?, first_attempt_at = ?,"
            " next_attempt_at = NULL, changed_at = ? WHERE sop_instance_uid = ? AND destination = ?",
            (state, status, detail, attempts, since, time.time(), row["sop_instance_uid"], row["destination"]),
        )

    def _postpone(
        self, connection: sqlite3.Connection, row: sqlite3.Row, receipt: Receipt, retry_at: float | None
    ) -> None:
        now = time.time()
        since = now if (known := _troubled_since(row)) is None else known
        if receipt.status == retry.OUTAGE and retry_at is not None:  # the clock stands still until the next attempt
            since += retry_at - now
        connection.execute(
            "UPDATE deliveries SET status = ?, detail = ?, attempts = attempts + 1,"
            " first_attempt_at = ?, next_attempt_at = ?"
            " WHERE sop_instance_uid = ? AND destination = ?",
            (receipt.status, receipt.detail, since, retry_at, row["sop_instance_uid"], row["destination"]),
        )

    @staticmethod
    def _is_asked(row: sqlite3.Row, *, is_verifying: bool) -> bool:
        """Whether an object is still in the state that its destination was asked about."""
        return bool(row["state"] == (_State.DELIVERED if is_verifying else _State.WAITING))

    @staticmethod
    def _was_lost(row: sqlite3.Row) -> bool:
        """Whether what waits was delivered before, and not kept: then its trouble is older than its waiting."""
        return row["first_attempt_at"] is not None and row["first_attempt_at"] <= row["changed_at"]

    @staticmethod
    def _is_open(row: sqlite3.Row) -> bool:
        """Whether something is still to be done."""
        return row["state"] == _State.WAITING or (row["state"] == _State.DELIVERED and bool(row["verify"]))

    def settle(self, uid: str, *, reopen: bool = False) -> None:
        """Let the state of a study say what became of its deliveries."""
        rows = [row for row in self._of_study(uid) if row["state"] != _State.WITHDRAWN]
        found = {row["state"] for row in rows}
        refused = [row for row in rows if row["state"] == _State.REFUSED]
        target, reason = StudyState.COMMITTED, ""
        if not rows:
            target, reason = StudyState.ENCODED, "nothing to deliver"
        elif _State.WAITING in found:
            target = StudyState.ENCODED
        elif refused:
            target = StudyState.DEAD
            reason = f"{refused[0]['destination']}: {refused[0]['status']} {refused[0]['detail']}".strip()
        elif any(self._is_open(row) for row in rows) or _State.COMMITTED not in found:
            target = StudyState.SENT
        states = {*_DELIVERING, StudyState.DEAD} if reopen else _DELIVERING
        self._ledger.studies.move(uid, [state for state in origins(target) if state in states], target, reason)


def _troubled_since(row: sqlite3.Row) -> float | None:
    """Return when the trouble of a delivery began, less the time in which its destination was not asked."""
    if row["first_attempt_at"] is None:
        return None
    due_at = row["changed_at"] if row["next_attempt_at"] is None else row["next_attempt_at"]
    was_outage = row["status"] == retry.OUTAGE
    return retry.without_absence(row["first_attempt_at"], due_at=due_at, now=time.time(), was_outage=was_outage)
