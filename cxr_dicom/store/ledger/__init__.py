"""The service's memory: studies, jobs, objects and receipts in one SQLite file.

The SQL of the package lives in this folder. Write-ahead logging lets `jobs` read while the service
writes; every change is one transaction that is on disk when it returns.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cxr_dicom.errors import CxrDicomError
from cxr_dicom.store.ledger.deliveries import Deliveries, DueDelivery
from cxr_dicom.store.ledger.observations import Observation, Observations
from cxr_dicom.store.ledger.overview import Overview
from cxr_dicom.store.ledger.places import Places
from cxr_dicom.store.ledger.polls import Polls
from cxr_dicom.store.ledger.results import Dispatch, Results
from cxr_dicom.store.ledger.schema import MIGRATIONS
from cxr_dicom.store.ledger.story import Stories
from cxr_dicom.store.ledger.studies import Arrival, Claim, ClaimLostError, Studies

__all__ = [
    "Arrival",
    "Claim",
    "ClaimLostError",
    "DamagedLedgerError",
    "Dispatch",
    "DueDelivery",
    "Ledger",
    "LedgerError",
    "Observation",
    "OlderLedgerError",
]

FILE_NAME = "ledger.sqlite"
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_LOCK_SECONDS = 20  # how long a writer waits for another one


class LedgerError(CxrDicomError):
    """The ledger cannot be opened, is of a newer version, or stays locked."""


class OlderLedgerError(LedgerError):
    """The ledger is of an older version, and only the service that owns it may change that."""


class DamagedLedgerError(LedgerError):
    """The file is no ledger, or not a whole one."""


class Ledger:
    """The open ledger of one spool folder; safe to share between threads.

    Parameters
    ----------
    folder
        The spool folder; paths in the ledger are relative to it.
    create
        Make the file when it is missing, and bring one of an older version up; otherwise the first is a
        `LedgerError`, and the second an `OlderLedgerError`.
    lock_seconds
        How long to wait for another process that writes.

    Attributes
    ----------
    studies, results, deliveries, places, polls, observations, stories, overview
        What can be done with each, one class per noun.
    """

    def __init__(self, folder: Path, *, create: bool = True, lock_seconds: float = _LOCK_SECONDS) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME
        if not create and not self.path.is_file():
            raise LedgerError(f"{self.path}: there is no ledger; `cxr-dicom serve` makes one")
        self._lock_seconds = lock_seconds
        self._connections: dict[threading.Thread, sqlite3.Connection] = {}
        self._guard = threading.Lock()
        self.studies = Studies(self)
        self.deliveries = Deliveries(self)
        self.places = Places(self)
        self.polls = Polls(self)
        self.observations = Observations(self)
        self.results = Results(self)
        self.stories = Stories(self)
        self.overview = Overview(self)
        self._migrate(may_change=create)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give a connection; all that is written in the block is kept, or nothing is.

        Blocks of one thread may be nested and are then one transaction.

        Raises
        ------
        LedgerError
            If another process holds the lock too long, the disk is full, or the file is damaged.
        """
        connection = self._connection()
        if connection.in_transaction:
            yield connection
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.DatabaseError as error:
            raise self._named(error) from error

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Return the rows of a query.

        Raises
        ------
        LedgerError
            As in `transaction`.
        """
        try:
            return self._connection().execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise self._named(error) from error

    def verify(self) -> None:
        """Read all of the file.

        Raises
        ------
        DamagedLedgerError
            If a part of it is not what SQLite wrote.
        """
        (row,) = self.rows("PRAGMA quick_check(1)")
        if row[0] != "ok":
            raise self._damaged(row[0].splitlines()[-1])

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter; counters outlive restarts."""
        with self.transaction() as connection:
            connection.execute(
                "INSERT INTO counters VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                (name, json.dumps(labels, sort_keys=True), amount),
            )

    def stored(self, path: Path) -> str:
        """Return ``path`` as it is written in the ledger."""
        return path.relative_to(self.folder).as_posix()

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._guard:
            for connection in self._connections.values():
                connection.close()
            self._connections.clear()

    def _connection(self) -> sqlite3.Connection:
        """Return the connection of this thread."""
        thread = threading.current_thread()
        if thread not in self._connections:
            connection = self._connect()
            with self._guard:
                self._connections[thread] = connection
                # an association is a thread
                for gone in [owner for owner in self._connections if not owner.is_alive()]:
                    self._connections.pop(gone).close()
        return self._connections[thread]

    def _connect(self) -> sqlite3.Connection:
        try:
            self.path.touch(mode=0o600)
            self.path.chmod(0o600)  # a copy that was put back may have another; SQLite gives its other files the same
            connection = sqlite3.connect(
                self.path, timeout=self._lock_seconds, isolation_level=None, check_same_thread=False
            )
            connection.row_factory = sqlite3.Row
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.DatabaseError as error:
            raise self._named(error) from error
        except (sqlite3.Error, OSError) as error:
            raise LedgerError(f"{self.path}: {error}") from error
        return connection

    def _named(self, error: sqlite3.DatabaseError) -> Exception:
        """Say what is wrong outside; an error of our own SQL stays what it is."""
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            return self._damaged(str(error))
        return LedgerError(f"ledger: {error}") if isinstance(error, sqlite3.OperationalError) else error

    def _damaged(self, found: str) -> DamagedLedgerError:
        return DamagedLedgerError(
            f"{self.path}: damaged ({found}); stop the service, then put back a copy or run `cxr-dicom jobs rebuild`"
        )

    def _migrate(self, *, may_change: bool) -> None:
        with self.transaction() as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > len(MIGRATIONS):
                raise LedgerError(f"{self.path}: expected version {len(MIGRATIONS)} or older, found {version}")
            if version < len(MIGRATIONS) and not may_change:
                raise OlderLedgerError(
                    f"{self.path}: expected version {len(MIGRATIONS)}, found {version}; `cxr-dicom serve` brings it up,"
                    " and after that an older cxr-dicom does not open it"
                )
            for number in range(version, len(MIGRATIONS)):
                for statement in MIGRATIONS[number].split(";\n"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number + 1:d}")


def owner() -> str:
    """Name the claims of this process; unlike a bare process id it is not met again after a restart."""
    return f"{os.getpid()}-{os.urandom(4).hex()}"
