"""The ledger's file: versions, locks, threads."""

import contextlib
import sqlite3
import threading
from pathlib import Path

import pytest

from cxr_dicom.store.ledger import Arrival, Ledger, LedgerError, owner
from cxr_dicom.store.ledger.schema import MIGRATIONS
from tests.store.ledger.helpers import claimed, instance


def test_a_locked_ledger_is_a_named_error(tmp_path):
    Ledger(tmp_path).close()
    other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    ledger = Ledger(tmp_path, lock_seconds=0.05)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="locked"):
        ledger.studies.add(instance(ledger), "aa")
    other.execute("ROLLBACK")
    assert ledger.studies.add(instance(ledger), "aa") is Arrival.NEW


def test_a_copy_that_was_put_back_is_for_the_owner_only(tmp_path):
    Ledger(tmp_path).close()
    (tmp_path / "ledger.sqlite").chmod(0o644)  # as `sqlite3 .backup` makes one
    ledger = Ledger(tmp_path)
    ledger.studies.add(instance(ledger), "aa")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("ledger.sqlite*")} == {0o600}


def test_a_newer_ledger_is_refused(tmp_path):
    Ledger(tmp_path).close()
    sqlite3.connect(tmp_path / "ledger.sqlite").execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerError, match="found 99"):
        Ledger(tmp_path)


def test_a_ledger_that_knew_no_routes_is_brought_up(tmp_path):
    number = next(n for n, each in enumerate(MIGRATIONS) if "called_ae_title" in each)
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    for migration in MIGRATIONS[:number]:
        connection.executescript(migration)
    columns = "study_instance_uid, state, received_at, changed_at"
    connection.execute(f"INSERT INTO studies ({columns}) VALUES ('1', 'COMPLETE', 1, 1)")
    connection.execute(
        "INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid, path, sha256,"
        " sender, received_at) VALUES ('1.1', '1', '1.0', '1.2', 'sources/1/x', 'aa', 'ROOM', 1)"
    )
    connection.execute(f"PRAGMA user_version = {number}")
    connection.commit()
    connection.close()
    ledger = Ledger(tmp_path)
    (kept,) = ledger.stories.show("1")["instances"]
    assert (kept["sender"], kept["called_ae_title"], kept["route"]) == ("ROOM", None, None)
    (waits,) = claimed(ledger).study.instances
    assert (waits.sender, waits.called_ae_title) == ("ROOM", None)


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
