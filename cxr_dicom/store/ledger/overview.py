"""What the pages show of the ledger: numbers that stay quick however many studies there are, and one page of a list."""

from __future__ import annotations

import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_dicom.records import Presence, StudyState
from cxr_dicom.store.ledger.story import Row

if TYPE_CHECKING:
    from cxr_dicom.store.ledger import Ledger

_BATCH = 500  # studies that are read at a time
MAX_COUNTED = 100  # of what was refused
_LATEST = 200  # results of today whose times are looked at
_SUMMARY = (
    "SELECT study_instance_uid, state, urgent, reason, received_at, changed_at,"
    " (SELECT count(*) FROM instances i WHERE i.study_instance_uid = s.study_instance_uid) AS instances,"
    " (SELECT count(*) FROM objects o WHERE o.study_instance_uid = s.study_instance_uid) AS objects,"
    " EXISTS (SELECT 1 FROM paused) AND EXISTS (SELECT 1 FROM objects o JOIN deliveries d USING (sop_instance_uid)"
    " JOIN paused USING (destination) WHERE o.study_instance_uid = s.study_instance_uid"
    " AND (d.state = 'waiting' OR d.state = 'delivered' AND d.verify)) AS paused FROM studies s"
)


class Overview:
    """See the module."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def changes(self) -> Changes:
        """Return what tells whether anything changed."""
        return Changes(self._ledger.path)

    # --- now -------------------------------------------------------------------------------------

    def oldest(self, state: StudyState) -> float | None:
        """When the study that is longest in the queue came, of those in a state."""
        (row,) = self._ledger.rows("SELECT min(received_at) t FROM studies WHERE state = ?", state)
        oldest: float | None = row["t"]
        return oldest

    def latest(self, states: Sequence[StudyState], *, limit: int = 20) -> list[Row]:
        """Return the studies in some states that changed last."""
        rows = [
            row
            for state in states
            for row in self._ledger.rows(f"{_SUMMARY} WHERE state = ? ORDER BY changed_at DESC LIMIT ?", state, limit)
        ]
        return [dict(row) for row in sorted(rows, key=lambda row: -row["changed_at"])[:limit]]

    def refused(self) -> dict[str, int]:
        """Count what each destination refused for good; of more than `MAX_COUNTED` so many."""
        found, name = {}, ""
        while name := self._next_refusing(name):
            (row,) = self._ledger.rows(
                "SELECT count(*) n FROM (SELECT 1 FROM deliveries WHERE state = 'refused' AND destination = ? LIMIT ?)",
                name,
                MAX_COUNTED,
            )
            found[name] = row["n"]
        return found

    def _next_refusing(self, name: str) -> str:
        """Return the next destination that refused something, without reading all that it refused."""
        (row,) = self._ledger.rows(
            "SELECT min(destination) name FROM deliveries WHERE state = 'refused' AND destination > ?", name
        )
        return row["name"] or ""

    def today(self, since: float) -> Row:
        """Say what was finished since a time: ``hours``, results by hour; ``median`` and ``slowest``, in seconds.

        Parameters
        ----------
        since
            A whole quarter of an hour, such as a midnight.
        """
        rows = self._ledger.rows(
            "SELECT (quarter * 900 - ?) / 3600 hour, sum(results) n FROM results_by_time WHERE quarter * 900 >= ?"
            " GROUP BY hour HAVING n > 0",
            int(since),
            int(since),
        )
        taken = self._ledger.rows(
            "SELECT j.finished_at - max(i.received_at) seconds FROM"
            " (SELECT * FROM jobs WHERE finished_at >= ? ORDER BY finished_at DESC LIMIT ?) j"
            " JOIN instances i USING (study_instance_uid) WHERE i.received_at <= j.finished_at GROUP BY j.id",
            since,
            _LATEST,
        )
        seconds = sorted(row["seconds"] for row in taken)
        return {
            "hours": {row["hour"]: row["n"] for row in rows},
            "median": seconds[len(seconds) // 2] if seconds else None,
            "slowest": seconds[-1] if seconds else None,
        }

    # --- lists -----------------------------------------------------------------------------------

    def page(self, state: str = "", before: tuple[float, str] | None = None, *, limit: int) -> list[Row]:
        """Return studies, the latest change first, from those that changed before another one."""
        conditions: dict[str, tuple[object, ...]] = {}
        if state:
            conditions["state = ?"] = (state,)
        if before:
            conditions["(changed_at, study_instance_uid) < (?, ?)"] = before
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        rows = self._ledger.rows(
            f"{_SUMMARY}{where} ORDER BY changed_at DESC, study_instance_uid DESC LIMIT ?",
            *(value for values in conditions.values() for value in values),
            limit,
        )
        return [dict(row) for row in rows]

    def named(self, uid: str, state: str = "", after: str = "", *, limit: int) -> list[Row]:
        """Return the study that a UID of a study, an image or an object leads to, or those that begin so, by UID."""
        for table in ("instances", "objects"):
            if rows := self._ledger.rows(
                f"SELECT study_instance_uid FROM {table} WHERE sop_instance_uid = ?",  # noqa: S608 - constants
                uid,
            ):
                uid, after = rows[0]["study_instance_uid"], ""
        rows = self._ledger.rows(
            f"{_SUMMARY} WHERE study_instance_uid >= ? AND study_instance_uid < ? AND study_instance_uid > ?"
            " AND (? = '' OR state = ?) ORDER BY study_instance_uid LIMIT ?",
            uid,
            uid + "\x7f",
            after,
            state,
            state,
            limit,
        )
        return [dict(row) for row in rows]

    def studies(self) -> Iterator[str]:
        """Yield all studies, the latest change first; some are read at a time, for few callers want all."""
        last = (math.inf, "")
        while rows := self._ledger.rows(
            "SELECT study_instance_uid, changed_at FROM studies WHERE (changed_at, study_instance_uid) < (?, ?)"
            " ORDER BY changed_at DESC, study_instance_uid DESC LIMIT ?",
            *last,
            _BATCH,
        ):
            yield from (row["study_instance_uid"] for row in rows)
            last = rows[-1]["changed_at"], rows[-1]["study_instance_uid"]

    def files(self, study_instance_uid: str) -> list[Row]:
        """Return series, UID and path of what lies in the spool: images, then objects without BINARY twins."""
        rows = self._ledger.rows(
            "SELECT series_instance_uid, sop_instance_uid, path FROM instances"
            " WHERE study_instance_uid = ? AND path IS NOT NULL UNION ALL"
            " SELECT series_instance_uid, sop_instance_uid, path FROM objects"
            " WHERE study_instance_uid = ? AND path IS NOT NULL AND twin_of IS NULL",
            study_instance_uid,
            study_instance_uid,
        )
        return [dict(row) for row in rows]

    def calls(self, study_instance_uids: Sequence[str]) -> Mapping[str, list[str]]:
        """Return the findings that were called present in each study."""
        marks = ", ".join("?" * len(study_instance_uids))
        rows = self._ledger.rows(
            f"SELECT study_instance_uid, scores FROM observations WHERE study_instance_uid IN ({marks})",  # noqa: S608
            *study_instance_uids,
        )
        found: dict[str, list[str]] = {}
        for row in rows:
            called = [name for name, (_, call) in json.loads(row["scores"]).items() if call == Presence.PRESENT]
            found.setdefault(row["study_instance_uid"], []).extend(called)
        return {uid: list(dict.fromkeys(called)) for uid, called in found.items()}

    def keep(self, study_instance_uid: str, path: Path) -> None:
        """Remember where the rows and pictures of a study lie."""
        with self._ledger.transaction() as connection:
            values = (study_instance_uid, self._ledger.stored(path))
            connection.execute("INSERT OR REPLACE INTO shown VALUES (?, ?)", values)

    def shown(self, study_instance_uid: str) -> Path | None:
        """Where the rows and pictures of a study lie; None where none were kept, or no more."""
        rows = self._ledger.rows("SELECT path FROM shown WHERE study_instance_uid = ?", study_instance_uid)
        return self._ledger.folder / rows[0]["path"] if rows else None

    # --- pauses ----------------------------------------------------------------------------------

    def paused(self) -> dict[str, float]:
        """Return since when a person paused destinations."""
        return {row["destination"]: row["since"] for row in self._ledger.rows("SELECT * FROM paused")}

    def pause(self, destination: str) -> bool:
        """Send nothing to a destination until `resume`; tell whether that is new."""
        with self._ledger.transaction() as connection:
            values = (destination, time.time())
            return connection.execute("INSERT OR IGNORE INTO paused VALUES (?, ?)", values).rowcount > 0

    def resume(self, destination: str) -> bool:
        """Send to a destination again; tell whether it was paused."""
        with self._ledger.transaction() as connection:
            return connection.execute("DELETE FROM paused WHERE destination = ?", (destination,)).rowcount > 0


class Changes:
    """Tells whether any other connection changed the ledger; for one thread, and closed by whoever opened it."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, check_same_thread=False)

    def number(self) -> int:
        """Return SQLite's change counter, which reads no table."""
        (number,) = self._connection.execute("PRAGMA data_version").fetchone()
        return int(number)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
