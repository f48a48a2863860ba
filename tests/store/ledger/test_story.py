"""What people read of the ledger, and what retention takes from it."""

import sqlite3

import pytest

from cxr_dicom.records import DeliveryStatus
from cxr_dicom.store.ledger import Dispatch
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
    "dispatches",
    [[], [Dispatch(destination="pacs", verify=True, objects=frozenset())]],
    ids=["no destination", "rules that match nothing"],
)
def test_what_goes_nowhere_expires_too_and_says_so(ledger, dispatches):
    ledger.studies.add(instance(ledger), "aa")
    claim = claimed(ledger)
    ledger.studies.finish(claim, result(ledger, claim, "9.1"), [], dispatches)
    (row,) = ledger.stories.summaries()
    assert (row["state"], row["reason"]) == ("ENCODED", "nothing to deliver")
    assert ledger.stories.expired(days=-1) == [STUDY]
    assert ledger.stories.expired(days=1) == []


def test_what_is_withdrawn_holds_up_no_deletion(ledger):
    sent(ledger, "pacs")
    assert (state(ledger), ledger.stories.expired(days=-1)) == ("ENCODED", [])
    assert ledger.deliveries.open() == {"pacs": 1}
    assert ledger.deliveries.withdraw("other") == 0
    assert ledger.deliveries.withdraw("pacs") == 1
    assert ledger.deliveries.open() == {}
    assert (state(ledger), ledger.stories.expired(days=-1)) == ("ENCODED", [STUDY])


def test_what_waits_gives_no_reason(ledger):
    sent(ledger)
    ledger.studies.add(instance(ledger, "1.2.3.1.2"), "cc")
    claim = claimed(ledger)
    ledger.studies.finish(claim, result(ledger, claim, "9.1"), [], [Dispatch(destination="pacs", verify=False)])
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


def test_studies_are_listed_by_state_the_newest_change_first_with_their_numbers(ledger, monkeypatch):
    for now, study in ((1000.0, "1.2.3"), (2000.0, "1.2.4"), (3000.0, "1.2.5")):
        monkeypatch.setattr("time.time", lambda now=now: now)
        ledger.studies.add(instance(ledger, f"{study}.1.1", study), study)
    monkeypatch.setattr("time.time", lambda: 4000.0)
    ledger.studies.add(instance(ledger, "1.2.3.1.2"), "more")
    ledger.studies.complete("1.2.3")
    row = {"reason": "", "urgent": 0, "objects": 0, "next_attempt_at": None, "waits_for": []}
    newest = {"study_instance_uid": "1.2.3", "state": "COMPLETE", "received_at": 1000.0, "changed_at": 4000.0}
    others = [
        {"study_instance_uid": study, "state": "RECEIVING", "received_at": at, "changed_at": at, "instances": 1, **row}
        for study, at in (("1.2.5", 3000.0), ("1.2.4", 2000.0))
    ]
    assert ledger.stories.summaries() == [{**newest, "instances": 2, **row}, *others]
    assert ledger.stories.summaries("RECEIVING") == others
    assert ledger.stories.summaries("DEAD") == []
    assert ledger.stories.summaries(limit=2) == [{**newest, "instances": 2, **row}, others[0]]


def test_forgetting_gives_the_files_of_a_study_and_leaves_the_others(ledger):
    sent(ledger, "pacs")
    ledger.studies.add(instance(ledger, "1.2.4.1.1", "1.2.4"), "other")
    assert set(ledger.stories.forget(STUDY)) == {ledger.folder / "1.2.3.1.1.dcm", ledger.folder / "9.1.dcm"}
    assert ledger.stories.show(STUDY) is None
    assert ledger.stories.paths() == {ledger.folder / "1.2.4.1.1.dcm"}
    assert ledger.stories.forget(STUDY) == []


def test_files_that_are_dropped_are_those_of_the_table_and_the_study(ledger):
    sent(ledger, "pacs")
    ledger.studies.add(instance(ledger, "1.2.4.1.1", "1.2.4"), "other")
    assert ledger.stories.drop_files(STUDY, "instances") == [ledger.folder / "1.2.3.1.1.dcm"]
    assert ledger.stories.drop_files(STUDY, "objects") == [ledger.folder / "9.1.dcm"]
    assert ledger.stories.paths() == {ledger.folder / "1.2.4.1.1.dcm"}
    with pytest.raises(ValueError, match="table: expected instances or objects, got 'studies'"):
        ledger.stories.drop_files(STUDY, "studies")


def test_studies_expire_after_exactly_so_many_days_and_one_may_be_asked_for(ledger, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1000.0)
    sent(ledger)
    monkeypatch.setattr("time.time", lambda: 1000.0 + 2 * 86400)
    assert ledger.stories.expired(days=2) == []
    monkeypatch.setattr("time.time", lambda: 1001.0 + 2 * 86400)
    assert ledger.stories.expired(days=2) == [STUDY]
    assert ledger.stories.expired(2, "objects", STUDY) == ledger.stories.expired(2, None, STUDY) == [STUDY]
    assert ledger.stories.expired(2, None, "1.2.4") == []


def test_what_is_watched_is_counted(ledger, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1000.0)
    sent(ledger, "pacs", "other", objects=("9.1", "9.2"))
    say(ledger, DeliveryStatus.ACCEPTED)
    for study in ("1.2.4", "1.2.5"):
        monkeypatch.setattr("time.time", lambda study=study: {"1.2.4": 1100.0, "1.2.5": 1200.0}[study])
        ledger.studies.add(instance(ledger, f"{study}.1.1", study), study)
        ledger.studies.complete(study)
    monkeypatch.setattr("time.time", lambda: 1234.56)
    figures = {(name, *labels.items()): value for name, labels, value in ledger.stories.figures()}
    assert figures["received_total",] == 3
    assert figures["images_total", ("outcome", "processed"), ("reason", "")] == 1
    assert figures["deliveries_total", ("answer", "accepted"), ("destination", "pacs")] == 1
    waiting = [(each.destination, each.objects, round(each.oldest_seconds, 2)) for each in ledger.stories.waiting()]
    assert waiting == [("other", 2, 234.56), ("pacs", 1, 234.56)]
    studies = {labels[0][1]: value for (name, *labels), value in figures.items() if name == "studies"}
    assert {state: value for state, value in studies.items() if value} == {"ENCODED": 1, "COMPLETE": 2}
    assert (len(studies), min(studies.values())) == (9, 0)
    assert figures["oldest_waiting_seconds",] == 134.6


def test_nothing_waits_in_an_empty_ledger(ledger):
    assert ("oldest_waiting_seconds", {}, 0.0) in ledger.stories.figures()
    assert ledger.stories.show(STUDY) is None


def test_a_story_has_all_that_is_known_of_a_study(ledger):
    sent(ledger, "pacs", "other")
    story = ledger.stories.show(STUDY)
    assert [each["sop_instance_uid"] for each in story["instances"]] == ["1.2.3.1.1"]
    (job,) = story["jobs"]
    assert (job["job_key"], job["outcome"], job["models"], job["seconds"]) == ("key", "processed", [], {})
    (made,) = story["objects"]
    assert made["sources"] == ["1.2.3.1.1"]
    assert sorted(each["destination"] for each in made["deliveries"]) == ["other", "pacs"]
