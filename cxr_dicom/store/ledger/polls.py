"""What the poller has seen: how far each archive was read, and how large its studies were then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cxr_dicom.store.ledger import Ledger


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
