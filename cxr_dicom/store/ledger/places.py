"""Places that do not answer: destinations and archives, since when, and why."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cxr_dicom.store.ledger import Ledger


class Place(StrEnum):
    """What kind of place."""

    DESTINATION = "destination"
    ARCHIVE = "archive"


@dataclass(frozen=True, kw_only=True, slots=True)
class Outage:
    """A place that did not answer when it was last asked."""

    kind: Place
    name: str
    since: float  # seconds since 1970: the first time that it did not
    cause: str  # of the last time


class Places:
    """See the module."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def failed(self, kind: Place, name: str, cause: str) -> None:
        """Record that a place did not answer."""
        with self._ledger.transaction() as connection:
            connection.execute(
                "INSERT INTO outages VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET cause = excluded.cause",
                (kind, name, time.time(), cause),
            )

    def answered(self, kind: Place, name: str) -> None:
        """Record that a place answered; costs nothing where it is known to."""
        if any(outage.kind is kind and outage.name == name for outage in self.out()):
            with self._ledger.transaction() as connection:
                connection.execute("DELETE FROM outages WHERE kind = ? AND name = ?", (kind, name))

    def out(self) -> list[Outage]:
        """Return the places that do not answer, the longest outage first."""
        rows = self._ledger.rows("SELECT * FROM outages ORDER BY since, kind, name")
        return [
            Outage(kind=Place(row["kind"]), name=row["name"], since=row["since"], cause=row["cause"]) for row in rows
        ]
