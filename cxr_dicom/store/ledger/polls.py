"""What the poller has seen: how far each archive was read, how large its studies were then, what it could not give."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cxr_dicom.store.ledger import Ledger


@dataclass(frozen=True, kw_only=True, slots=True)
class PutOff:
    """A study that an archive could not give."""

    attempts: int
    next_attempt_at: float  # seconds since 1970
    reason: str


class Polls:
    """See the module."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def watermark(self, archive: str) -> str | None:
        """Return the newest Study Date (YYYYMMDD) of the last finished round; None before the first."""
        rows = self._ledger.rows("SELECT study_date FROM watermarks WHERE archive = ?", archive)
        return rows[0]["study_date"] if rows else None

    def set_watermark(self, archive: str, study_date: str) -> None:
        """Record a finished round."""
        with self._ledger.transaction() as connection:
            connection.execute(
                "INSERT INTO watermarks VALUES (?, ?) ON CONFLICT DO UPDATE SET study_date = excluded.study_date",
                (archive, study_date),
            )

    def instances(self, archive: str, study_instance_uid: str) -> int | None:
        """Return how many instances a study had when all of them were fetched; None: never."""
        rows = self._ledger.rows(
            "SELECT instances FROM polled WHERE archive = ? AND study_instance_uid = ?", archive, study_instance_uid
        )
        return rows[0]["instances"] if rows else None

    def set_instances(self, archive: str, study_instance_uid: str, instances: int) -> None:
        """Record that a study of so many instances was fetched."""
        with self._ledger.transaction() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO polled VALUES (?, ?, ?, ?)",
                (archive, study_instance_uid, instances, time.time()),
            )

    def is_unwanted(self, archive: str, sop_instance_uid: str) -> bool:
        """Whether we refused an image of an archive for good."""
        query = "SELECT 1 FROM unwanted WHERE archive = ? AND sop_instance_uid = ?"
        return bool(self._ledger.rows(query, archive, sop_instance_uid))

    def set_unwanted(self, archive: str, sop_instance_uid: str, study_instance_uid: str) -> None:
        """Record that we refused an image for good."""
        with self._ledger.transaction() as connection:
            row = (archive, sop_instance_uid, study_instance_uid)
            connection.execute("INSERT OR REPLACE INTO unwanted VALUES (?, ?, ?)", row)

    def put_off(self, archive: str) -> dict[str, PutOff]:
        """Return the studies that an archive could not give, by UID."""
        rows = self._ledger.rows("SELECT * FROM put_off WHERE archive = ? ORDER BY next_attempt_at", archive)
        return {
            row["study_instance_uid"]: PutOff(
                attempts=row["attempts"], next_attempt_at=row["next_attempt_at"], reason=row["reason"]
            )
            for row in rows
        }

    def set_put_off(self, archive: str, study_instance_uid: str, put_off: PutOff | None) -> None:
        """Record that an archive could not give a study, or, with None, that it did."""
        with self._ledger.transaction() as connection:
            study = (archive, study_instance_uid)
            connection.execute("DELETE FROM put_off WHERE archive = ? AND study_instance_uid = ?", study)
            if put_off:
                row = (*study, put_off.attempts, put_off.next_attempt_at, put_off.reason)
                connection.execute("INSERT INTO put_off VALUES (?, ?, ?, ?, ?)", row)
