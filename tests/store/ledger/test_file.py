"""The ledger's file: versions, locks, threads."""

import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest

from cxr_dicom.store.ledger import Arrival, Ledger, LedgerError, owner
from tests.store.ledger.helpers import instance


def test_a_locked_ledger_is_a_named_error(tmp_path):
    Ledger(tmp_path).close()
    other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    ledger = Ledger(tmp_path, lock_seconds=0.05)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="locked"):
        ledger.studies.add(instance(ledger), "aa")
    other.execute("ROLLBACK")
    assert ledger.studies.add(instance(ledger), "aa") is Arrival.NEW


def test_a_newer_ledger_is_refused(tmp_path):
    Ledger(tmp_path).close()
    sqlite3.connect(tmp_path / "ledger.sqlite").execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match="found 99"):
        Ledger(tmp_path)


def test_counters_outlive_a_restart(tmp_path):
    for _ in range(2):
        ledger = Ledger(tmp_path)
        ledger.count("received", sender="A")
        ledger.close()
    assert ("received_total", {"sender": "A"}, 2.0) in Ledger(tmp_path).stories.figures()


def test_the_file_is_private(ledger):
    assert ledger.path.stat().st_mode & 0o777 == 0o600


def test_a_thread_leaves_no_open_file_behind(ledger):
    def names():
        return [name for name in _open_files() if str(ledger.folder) in name]

    ledger.count("x")
    before = len(names())
    for _ in range(20):
        thread = threading.Thread(target=ledger.count, args=("x",))
        thread.start()
        thread.join()
    assert len(names()) <= before + 3


def test_owners_differ():
    assert owner() != owner()


def _open_files():
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the listing itself
            yield str(path.readlink())
