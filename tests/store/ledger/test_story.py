"""What people read of the ledger, and what retention takes from it."""

import sqlite3

import pytest

from cxr_dicom.records import DeliveryStatus
from cxr_dicom.store.ledger import Route
from tests.store.ledger.helpers import STUDY, claimed, instance, result, say, sent, state


@pytest.mark.parametrize("state", [None, "COMPLETE"])
def test_the_latest_changes_are_found_without_reading_all_studies(ledger, state):
    with ledger.transaction() as connection:
        asked = []
        connection.set_trace_callback(asked.append)
        ledger.stories.summaries(state, limit=3)
        connection.set_trace_callback(None)
        plan = " ".join(row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {asked[0]}"))
    assert "studies_by_" in plan
    assert "TEMP B-TREE" not in plan


def test_forgetting_leaves_no_row(ledger):
    sent(ledger, "pacs")
    assert ledger.stories.forget(STUDY)
    connection = sqlite3.connect(ledger.path)
    for table in ("studies", "instances", "jobs", "objects", "deliveries"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


def test_retention_spares_what_is_not_delivered_and_committed(ledger):
    sent(ledger, "pacs", verify=True)
    assert ledger.stories.expired(days=-1) == []
    say(ledger, DeliveryStatus.ACCEPTED)
    assert ledger.stories.expired(days=-1) == []
    say(ledger, DeliveryStatus.COMMITTED)
    assert ledger.stories.expired(days=-1) == [STUDY]
    assert ledger.stories.expired(days=1) == []


@pytest.mark.parametrize(
    "routes",
    [[], [Route(destination="pacs", verify=True, kinds=frozenset({"parametric_map"}))]],
    ids=["no destination", "rules that match nothing"],
)
def test_what_goes_nowhere_expires_too_and_says_so(ledger, routes):
    ledger.studies.add(instance(ledger), "aa")
    claim = claimed(ledger)
    ledger.studies.finish(claim, result(ledger, claim, "9.1"), [], routes)
    (row,) = ledger.stories.summaries()
    assert (row["state"], row["reason"]) == ("ENCODED", "nothing to deliver")
    assert ledger.stories.expired(days=-1) == [STUDY]
    assert ledger.stories.expired(days=1) == []


def test_a_destination_that_left_the_settings_holds_up_no_deletion(ledger):
    sent(ledger, "pacs")
    assert (state(ledger), ledger.stories.expired(days=-1)) == ("ENCODED", [])
    ledger.deliveries.forget_destinations([])
    assert (state(ledger), ledger.stories.expired(days=-1)) == ("ENCODED", [STUDY])


def test_what_waits_gives_no_reason(ledger):
    sent(ledger)
    ledger.studies.add(instance(ledger, "1.2.3.1.2"), "cc")
    claim = claimed(ledger)
    ledger.studies.finish(claim, result(ledger, claim, "9.1"), [], [Route(destination="pacs", verify=False)])
    (row,) = ledger.stories.summaries()
    assert (row["state"], row["reason"]) == ("ENCODED", "")


@pytest.mark.parametrize("answer", [DeliveryStatus.FAILED, DeliveryStatus.REFUSED])
def test_what_was_not_taken_does_not_expire(ledger, answer):
    sent(ledger, "pacs", "research")
    say(ledger, DeliveryStatus.ACCEPTED)
    say(ledger, answer, destination="research", retry_at=0.0)
    assert ledger.stories.expired(days=-1) == []


@pytest.mark.parametrize("table", ["instances", "objects"])
def test_what_has_no_files_left_is_not_looked_at_again(ledger, table):
    sent(ledger)
    other = {"instances": "objects", "objects": "instances"}[table]
    assert ledger.stories.expired(-1, table) == [STUDY]
    assert ledger.stories.drop_files(STUDY, table)
    assert ledger.stories.expired(-1, table) == []
    assert ledger.stories.expired(-1, other) == ledger.stories.expired(-1) == [STUDY]
