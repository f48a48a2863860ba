"""What was finished today: by hour, also for a ledger of before these were counted, and without what was forgotten."""

import sqlite3

import pytest

from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.ledger.schema import MIGRATIONS

MIDNIGHT = 1_700_000_100 // 900 * 900  # of a zone that begins its days with any quarter of an hour
FINISHED = (-1, 0, 899, 3599, 3600, 3600, 86_399)  # seconds after it


def finish(connection):
    """Add a study with one image and one result for each time."""
    for number, seconds in enumerate(FINISHED):
        uid, at = f"1.{number}", MIDNIGHT + seconds
        columns = "study_instance_uid, state, received_at, changed_at"
        connection.execute(f"INSERT INTO studies ({columns}) VALUES (?, 'SENT', ?, ?)", (uid, at - number, at))
        columns = "sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid, sha256, received_at"
        connection.execute(
            f"INSERT INTO instances ({columns}) VALUES (?, ?, '', '', '', ?)", (f"2.{number}", uid, at - 7)
        )
        columns = "study_instance_uid, job_key, outcome, models, seconds, finished_at"
        connection.execute(f"INSERT INTO jobs ({columns}) VALUES (?, '', 'processed', '[]', '{{}}', ?)", (uid, at))


@pytest.fixture(params=["as they come", "before they were counted"])
def ledger(request, tmp_path):
    if request.param != "as they come":
        number = next(n for n, each in enumerate(MIGRATIONS) if "results_by_time" in each)
        connection = sqlite3.connect(tmp_path / "ledger.sqlite")
        for migration in MIGRATIONS[:number]:
            connection.executescript(migration)
        finish(connection)
        connection.execute(f"PRAGMA user_version = {number}")
        connection.commit()
        connection.close()
    ledger = Ledger(tmp_path)
    if request.param == "as they come":
        with ledger.transaction() as connection:
            finish(connection)
    yield ledger
    ledger.close()


def test_results_are_counted_by_hour_since_midnight(ledger):
    assert ledger.overview.today(MIDNIGHT) == {"hours": {0: 3, 1: 2, 23: 1}, "median": 7.0, "slowest": 7.0}


def test_what_is_forgotten_does_not_count(ledger):
    with ledger.transaction() as connection:
        connection.execute("DELETE FROM studies WHERE study_instance_uid IN ('1.4', '1.6')")
    assert ledger.overview.today(MIDNIGHT)["hours"] == {0: 3, 1: 1}


def test_a_day_without_results_is_empty(ledger):
    assert ledger.overview.today(MIDNIGHT + 86_400) == {"hours": {}, "median": None, "slowest": None}
