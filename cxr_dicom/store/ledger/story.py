"""What people and programs read of the ledger, and what retention deletes from it."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_dicom.records import StudyState

if TYPE_CHECKING:
    from cxr_dicom.store.ledger import Ledger

Row = dict[str, Any]

KEPT = (StudyState.RECEIVING, StudyState.COMPLETE, StudyState.RUNNING, StudyState.HELD, StudyState.DEAD)
SHORT_OF = "this machine lacks room, memory or permission"  # how the reason of a study begins that waits for it
_OPEN_DELIVERY = "(d.state IN ('waiting', 'refused') OR (d.state = 'delivered' AND d.verify))"


@dataclass(frozen=True, kw_only=True, slots=True)
class Waiting:
    """What waits for one destination."""

    destination: str
    objects: int
    oldest_seconds: float  # since the one that waits longest was made


class Stories:
    """See the module."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def summaries(self, state: str | None = None, *, limit: int = 100) -> list[Row]:
        """Return studies, the newest change first: state, numbers of images and objects, reason, what it waits for."""
        condition, values = ("WHERE state = ?", (state,)) if state else ("", ())
        rows = self._ledger.rows(
            "SELECT study_instance_uid, state, urgent, reason, received_at, changed_at, next_attempt_at,"  # noqa: S608
            " (SELECT count(*) FROM instances i WHERE i.study_instance_uid = s.study_instance_uid) AS instances,"
            " (SELECT count(*) FROM objects o WHERE o.study_instance_uid = s.study_instance_uid) AS objects"
            f" FROM studies s {condition} ORDER BY changed_at DESC LIMIT ?",
            *values,
            limit,
        )
        return [{**dict(row), "waits_for": self._waits_for(row["study_instance_uid"])} for row in rows]

    def matching(self, beginning: str, *, limit: int) -> list[str]:
        """Return the study with this Study Instance UID, or else those whose UID begins so."""
        rows = self._ledger.rows(
            "SELECT study_instance_uid FROM studies WHERE study_instance_uid = ? OR NOT EXISTS"
            " (SELECT 1 FROM studies WHERE study_instance_uid = ?) AND study_instance_uid >= ?"
            " AND study_instance_uid < ? ORDER BY 1 LIMIT ?",
            beginning,
            beginning,
            beginning,
            f"{beginning}:",  # the character after 9
            limit,
        )
        return [row["study_instance_uid"] for row in rows]

    def a_file_of_each(self) -> Iterator[tuple[str, Path]]:
        """Yield each study of which a file is left, the newest change first, with one file of it."""
        rows = self._ledger.rows(
            "SELECT study_instance_uid uid, coalesce("
            "(SELECT path FROM instances i WHERE i.study_instance_uid = s.study_instance_uid AND path IS NOT NULL),"
            "(SELECT path FROM objects o WHERE o.study_instance_uid = s.study_instance_uid AND path IS NOT NULL)) path"
            " FROM studies s WHERE path IS NOT NULL ORDER BY changed_at DESC"
        )
        return ((row["uid"], self._ledger.folder / row["path"]) for row in rows)

    def show(self, study_instance_uid: str) -> Row | None:
        """Return all that is known of a study; None when nothing is."""
        found = self._ledger.rows("SELECT * FROM studies WHERE study_instance_uid = ?", study_instance_uid)
        if not found:
            return None
        story = {**dict(found[0]), "waits_for": self._waits_for(study_instance_uid)}
        story["models"] = json.loads(story["models"] or "[]")
        story["instances"] = self._of_study("instances", study_instance_uid)
        jobs = self._of_study("jobs", study_instance_uid)
        story["jobs"] = [
            {**job, "models": json.loads(job["models"]), "seconds": json.loads(job["seconds"])} for job in jobs
        ]
        objects = self._of_study("objects", study_instance_uid)
        story["objects"] = [{**made, "sources": json.loads(made["sources"]), "deliveries": []} for made in objects]
        for made in story["objects"]:
            rows = self._ledger.rows("SELECT * FROM deliveries WHERE sop_instance_uid = ?", made["sop_instance_uid"])
            made["deliveries"] = [dict(row) for row in rows]
        return story

    def stuck(self, states: Collection[str], destination: str | None = None, since: float | None = None) -> list[str]:
        """Return studies that wait longer than they should or were given up, the oldest change first.

        A COMPLETE one counts while it pauses, any other that is not DEAD, HELD or IGNORED while something waits for a
        destination or was refused. With ``destination``: only what waits for it or was refused by it.
        """
        rows = self._ledger.rows(
            "SELECT study_instance_uid FROM studies s"  # noqa: S608 - only question marks are added
            f" WHERE state IN ({', '.join('?' * len(states))}) AND changed_at >= ?"
            " AND (? IS NULL AND (state IN ('DEAD', 'HELD', 'IGNORED') OR state = 'COMPLETE' AND next_attempt_at > 0)"
            " OR EXISTS (SELECT 1 FROM objects o JOIN deliveries d USING (sop_instance_uid)"
            " WHERE o.study_instance_uid = s.study_instance_uid AND d.state IN ('waiting', 'refused')"
            " AND (? IS NULL OR d.destination = ?))) ORDER BY changed_at",
            *states,
            since or 0.0,
            destination,
            destination,
            destination,
        )
        return [row["study_instance_uid"] for row in rows]

    def figures(self) -> list[tuple[str, dict[str, str], float]]:
        """Return every number that is worth watching: name, labels, value."""
        found = [(row["name"] + "_total", json.loads(row["labels"]), row["value"]) for row in self._rows("counters")]
        found += [("studies", {"state": state}, count) for state, count in self.counts().items()]
        (oldest,) = self._ledger.rows("SELECT min(received_at) t FROM studies WHERE state = ?", StudyState.COMPLETE)
        age = max(0.0, time.time() - oldest["t"]) if oldest["t"] else 0.0
        return [*found, ("oldest_waiting_seconds", {}, round(age, 1))]

    def counts(self) -> dict[StudyState, int]:
        """Count the studies in each state; triggers keep the numbers, however many studies there are."""
        counts = {row["state"]: row["studies"] for row in self._rows("state_counts")}
        return {state: counts.get(state, 0) for state in StudyState}

    def waiting(self) -> list[Waiting]:
        """Say how much waits to be sent to each destination, and how long ago the oldest of it was made."""
        rows = self._ledger.rows(
            "SELECT destination, count(*) n, min(finished_at) t FROM deliveries d"
            " JOIN objects o USING (sop_instance_uid) JOIN jobs j ON j.id = o.job_id WHERE state = 'waiting'"
            " GROUP BY destination ORDER BY destination"
        )
        now = time.time()
        return [
            Waiting(destination=row["destination"], objects=row["n"], oldest_seconds=max(0.0, now - row["t"]))
            for row in rows
        ]

    def short_of(self) -> dict[str, int]:
        """Count the studies that wait because this machine lacks something, by what it lacks."""
        rows = self._ledger.rows(
            "SELECT reason, count(*) n FROM studies WHERE state IN (?, ?) AND reason LIKE ? GROUP BY 1 ORDER BY 1",
            StudyState.COMPLETE,
            StudyState.RUNNING,
            f"{SHORT_OF}%",
        )
        return {row["reason"]: row["n"] for row in rows}

    def paths(self) -> set[Path]:
        """Return every file that the ledger knows."""
        rows = self._ledger.rows(
            "SELECT path FROM instances WHERE path IS NOT NULL UNION SELECT path FROM objects WHERE path IS NOT NULL"
            " UNION SELECT path FROM shown"
        )
        return {self._ledger.folder / row["path"] for row in rows}

    def state(self, study_instance_uid: str) -> StudyState | None:
        """Return the state of a study; None when nothing is known of it."""
        rows = self._ledger.rows("SELECT state FROM studies WHERE study_instance_uid = ?", study_instance_uid)
        return StudyState(rows[0]["state"]) if rows else None

    def images_of_series(self, study_instance_uid: str) -> dict[str, int]:
        """Count the images of each series of a study."""
        rows = self._ledger.rows(
            "SELECT series_instance_uid uid, count(*) n FROM instances WHERE study_instance_uid = ? GROUP BY 1",
            study_instance_uid,
        )
        return {row["uid"]: row["n"] for row in rows}

    def received_at(self, sop_instance_uid: str) -> float | None:
        """Return when an instance came last, with new content; None for one that never came."""
        rows = self._ledger.rows("SELECT received_at FROM instances WHERE sop_instance_uid = ?", sop_instance_uid)
        return rows[0]["received_at"] if rows else None

    # --- forgetting ------------------------------------------------------------------------------

    def forget(self, study_instance_uid: str) -> list[Path]:
        """Delete all rows of a study; return the files, which are now nobody's."""
        with self._ledger.transaction() as connection:
            rows = self._ledger.rows(
                "SELECT path FROM instances WHERE study_instance_uid = ? AND path IS NOT NULL UNION"
                " SELECT path FROM objects WHERE study_instance_uid = ? AND path IS NOT NULL UNION"
                " SELECT path FROM shown WHERE study_instance_uid = ?",
                study_instance_uid,
                study_instance_uid,
                study_instance_uid,
            )
            _discard(connection, rows)
            connection.execute("DELETE FROM objects WHERE study_instance_uid = ?", (study_instance_uid,))
            connection.execute("DELETE FROM studies WHERE study_instance_uid = ?", (study_instance_uid,))
            for table in ("polled", "unwanted", "put_off"):
                connection.execute(f"DELETE FROM {table} WHERE study_instance_uid = ?", (study_instance_uid,))  # noqa: S608
        return [self._ledger.folder / row["path"] for row in rows]

    def expired(
        self,
        days: float,
        table: str | None = None,
        study_instance_uid: str | None = None,
        kept: tuple[float, float] | None = None,
    ) -> list[str]:
        """Return studies that are finished for so long, with nothing left to deliver, or to commit where asked.

        With ``table``, ``instances`` or ``objects``: only those that still have files of it. With
        ``study_instance_uid``: at most this one. With ``kept``: none with an image that was observed from then to
        before then.
        """
        has_files = f" AND EXISTS ({_files_in(table)} AND study_instance_uid = s.study_instance_uid)" if table else ""
        only = " AND study_instance_uid = ?" if study_instance_uid else ""
        if kept:
            only += (
                " AND NOT EXISTS (SELECT 1 FROM observations b WHERE b.study_instance_uid = s.study_instance_uid"
                " AND b.observed_at >= ? AND b.observed_at < ?)"
            )
        rows = self._ledger.rows(
            "SELECT study_instance_uid FROM studies s WHERE changed_at < ?"  # noqa: S608 - constants
            f" AND state NOT IN ({', '.join('?' * len(KEPT))}){has_files}{only}"
            " AND NOT EXISTS (SELECT 1 FROM objects o JOIN deliveries d USING (sop_instance_uid)"
            f" WHERE o.study_instance_uid = s.study_instance_uid AND {_OPEN_DELIVERY})",
            time.time() - days * 86400,
            *KEPT,
            *([study_instance_uid] if study_instance_uid else []),
            *(kept or ()),
        )
        return [row["study_instance_uid"] for row in rows]

    def drop_files(self, study_instance_uid: str, table: str) -> list[Path]:
        """Forget the paths in ``instances`` or ``objects`` of a study; return the files."""
        with self._ledger.transaction() as connection:
            rows = self._ledger.rows(f"{_files_in(table)} AND study_instance_uid = ?", study_instance_uid)
            if table == "objects":  # the pictures go with them
                rows += self._ledger.rows("SELECT path FROM shown WHERE study_instance_uid = ?", study_instance_uid)
                connection.execute("DELETE FROM shown WHERE study_instance_uid = ?", (study_instance_uid,))
            _discard(connection, rows)
            connection.execute(
                f"UPDATE {table} SET path = NULL WHERE study_instance_uid = ?",  # noqa: S608 - checked
                (study_instance_uid,),
            )
        return [self._ledger.folder / row["path"] for row in rows]

    def supersede(self, sop_instance_uid: str) -> None:
        """Discard the file of an instance, because one with other content takes its place."""
        with self._ledger.transaction() as connection:
            _discard(
                connection, self._ledger.rows(f"{_files_in('instances')} AND sop_instance_uid = ?", sop_instance_uid)
            )

    def discarded(self) -> list[Path]:
        """Return the files that may be deleted: each was superseded, forgotten, or kept for long enough."""
        with self._ledger.transaction() as connection:
            connection.execute(  # what came again is wanted again
                "DELETE FROM discarded WHERE path IN (SELECT path FROM instances UNION SELECT path FROM objects"
                " UNION SELECT path FROM shown)"
            )
            return [self._ledger.folder / row["path"] for row in self._ledger.rows("SELECT path FROM discarded")]

    def deleted(self, paths: Iterable[Path]) -> None:
        """Forget discarded files that are no more."""
        with self._ledger.transaction() as connection:
            stored = [(self._ledger.stored(path),) for path in paths]
            connection.executemany("DELETE FROM discarded WHERE path = ?", stored)

    def _waits_for(self, uid: str) -> list[Row]:
        """Return, for each destination of which a study waits, what for, since when, what it said, and its pause."""
        rows = self._ledger.rows(
            "SELECT d.destination, d.state, count(*) AS objects, max(d.attempts) AS attempts, d.status, d.detail,"
            " min(d.next_attempt_at) AS next_attempt_at, x.since AS out_since, x.cause AS out_cause,"
            " p.since AS paused_since FROM objects o"
            " JOIN deliveries d USING (sop_instance_uid) LEFT JOIN outages x"
            " ON x.kind = 'destination' AND x.name = d.destination"
            " LEFT JOIN paused p USING (destination) WHERE o.study_instance_uid = ?"
            " AND (d.state = 'waiting' OR (d.state = 'delivered' AND d.verify)) GROUP BY d.destination, d.state",
            uid,
        )
        return [dict(row) for row in rows]

    def _of_study(self, table: str, uid: str) -> list[Row]:
        rows = self._ledger.rows(f"SELECT * FROM {table} WHERE study_instance_uid = ? ORDER BY rowid", uid)  # noqa: S608
        return [dict(row) for row in rows]

    def _rows(self, table: str) -> list[Row]:
        return [dict(row) for row in self._ledger.rows(f"SELECT * FROM {table}")]  # noqa: S608


def _discard(connection: sqlite3.Connection, rows: Iterable[sqlite3.Row]) -> None:
    connection.executemany("INSERT OR IGNORE INTO discarded VALUES (?)", [(row["path"],) for row in rows])


def _files_in(table: str) -> str:
    if table not in ("instances", "objects"):
        raise ValueError(f"table: expected instances or objects, got {table!r}")
    return f"SELECT path FROM {table} WHERE path IS NOT NULL"  # noqa: S608 - checked
