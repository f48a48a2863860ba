"""Objects on their way: what is due, and what the answers of destinations do."""

import pytest

from cxr_dicom.records import DeliveryStatus, Receipt
from cxr_dicom.store.ledger import Dispatch
from cxr_dicom.store.ledger.actions import ActionRefusedError
from cxr_dicom.system import retry
from tests.store.ledger.helpers import STUDY, actions, claimed, instance, result, say, sent, state


def test_states_follow_the_receipts(ledger):
    sent(ledger, "pacs", "research", objects=("9.1", "9.2"))
    for uid in ("9.1", "9.2"):
        say(ledger, DeliveryStatus.ACCEPTED, uid)
        say(ledger, DeliveryStatus.WARNING, uid, "research")
        assert state(ledger) == ("ENCODED" if uid == "9.1" else "SENT")


def test_objects_of_an_urgent_study_are_sent_first(ledger):
    for number, is_urgent in enumerate((False, True, False)):
        study = f"1.2.{number}"
        ledger.studies.add(instance(ledger, f"{study}.1", study), "aa", is_urgent=is_urgent)
        claim = claimed(ledger)
        dispatches = [Dispatch(destination="pacs", verify=False)]
        ledger.studies.finish(claim, result(ledger, claim, f"9.{number}"), [], dispatches)
    assert uids(ledger.deliveries.due("pacs")) == ["9.1", "9.0", "9.2"]
    assert uids(ledger.deliveries.due("pacs", limit=1)) == ["9.1"]
    ledger.studies.hurry("1.2.2")
    assert uids(ledger.deliveries.due("pacs")) == ["9.1", "9.2", "9.0"]


def test_a_destination_may_get_some_objects_only(ledger):
    ledger.studies.add(instance(ledger), "aa")
    claim = claimed(ledger)
    dispatches = [
        Dispatch(destination="pacs", verify=False, objects=frozenset({"9.1", "of another study"})),
        Dispatch(destination="other", verify=False, objects=frozenset()),
    ]
    ledger.studies.finish(claim, result(ledger, claim, "9.1"), [], dispatches)
    assert len(ledger.deliveries.due("pacs")) == 1
    assert ledger.deliveries.due("other") == []


def test_a_destination_that_is_added_later_gets_older_studies_only_when_they_run_again(ledger):
    sent(ledger, "pacs")
    say(ledger, DeliveryStatus.ACCEPTED)
    with pytest.raises(ActionRefusedError, match="nothing to try again"):
        actions(ledger).retry(STUDY)
    assert ledger.deliveries.due("later") == []
    ledger.studies.add(instance(ledger, "1.2.3.1.2"), "bb")
    claim = claimed(ledger)
    dispatches = [Dispatch(destination=name, verify=False) for name in ("pacs", "later")]
    ledger.studies.finish(claim, result(ledger, claim, "9.1", "9.2", key="another"), [], dispatches)
    assert uids(ledger.deliveries.due("pacs")) == ["9.2"]
    assert uids(ledger.deliveries.due("later")) == ["9.1", "9.2"]


def test_committed_where_asked(ledger):
    sent(ledger, "pacs", verify=True)
    say(ledger, DeliveryStatus.ACCEPTED)
    assert state(ledger) == "SENT"
    assert [due.object.sop_instance_uid for due in ledger.deliveries.due_for_verification("pacs")] == ["9.1"]
    say(ledger, DeliveryStatus.COMMITTED)
    assert state(ledger) == "COMMITTED"


@pytest.mark.parametrize("answer", [DeliveryStatus.FAILED, DeliveryStatus.REFUSED])
def test_trouble_with_a_request_that_was_overtaken_changes_nothing(ledger, answer):
    sent(ledger, "pacs", verify=True)
    say(ledger, DeliveryStatus.ACCEPTED)
    say(ledger, DeliveryStatus.COMMITTED)
    say(ledger, answer, retry_at=1.0, is_verifying=True)
    ledger.deliveries.give_up(
        Receipt(sop_instance_uid="9.1", destination="pacs", delivery_status=answer, status="x"), "late"
    )
    assert state(ledger) == "COMMITTED"


def test_a_refusal_of_what_a_newer_result_withdrew_changes_nothing(ledger):
    sent(ledger, "pacs")
    ledger.studies.add(instance(ledger, "1.2.3.1.2"), "cc")
    claim = claimed(ledger)
    ledger.studies.finish(claim, result(ledger, claim, "9.2"), [], [Dispatch(destination="pacs", verify=False)])
    say(ledger, DeliveryStatus.REFUSED)
    say(ledger, DeliveryStatus.ACCEPTED, "9.2")
    assert state(ledger) == "SENT"


def test_a_refusal_is_final_for_its_destination_only(ledger):
    sent(ledger, "pacs", "research")
    say(ledger, DeliveryStatus.REFUSED)
    assert state(ledger) == "ENCODED"
    say(ledger, DeliveryStatus.ACCEPTED, destination="research")
    assert state(ledger) == "DEAD"
    assert ledger.stories.show(STUDY)["reason"].startswith("pacs: 0x0000")
    actions(ledger).retry(STUDY)
    assert len(ledger.deliveries.due("pacs")) == 1
    assert ledger.deliveries.due("research") == []


def test_a_failure_waits_for_its_time(ledger, monkeypatch):
    sent(ledger, "pacs")
    monkeypatch.setattr("time.time", lambda: 1000.0)
    say(ledger, DeliveryStatus.FAILED, retry_at=1010.0)
    assert ledger.deliveries.due("pacs") == []
    monkeypatch.setattr("time.time", lambda: 1011.0)
    (due,) = ledger.deliveries.due("pacs")
    assert (due.attempts, due.first_attempt_at) == (1, 1000.0)


def test_a_clock_stepped_back_frees_what_waits(ledger, monkeypatch):
    sent(ledger, "pacs")
    monkeypatch.setattr("time.time", lambda: 1e9)
    say(ledger, DeliveryStatus.FAILED, retry_at=1e9 + retry.LONGEST_PAUSE)
    monkeypatch.setattr("time.time", lambda: 1000.0)
    assert len(ledger.deliveries.due("pacs")) == 1


TIMES = (None, 0.0, 999.0, 1000.0, 1000.5, 1000.0 + retry.LONGEST_ASKED_PAUSE, 1001.0 + retry.LONGEST_ASKED_PAUSE)


@pytest.fixture
def backlog(ledger, monkeypatch):
    """At the time 1000: for each state and time of the next attempt many objects for `pacs`, some for others."""
    monkeypatch.setattr("time.time", lambda: 1000.0)
    sent(ledger, "pacs")
    with ledger.transaction() as connection:
        connection.execute("DELETE FROM deliveries")
        for number in range(4000):
            waits, next_attempt_at = number % 2, TIMES[number % len(TIMES)]
            uid = f"9.9.{number}"
            connection.execute(
                "INSERT INTO objects SELECT ?, study_instance_uid, series_instance_uid, sop_class_uid, job_id, kind,"
                " model, sources, path, NULL FROM objects WHERE sop_instance_uid = '9.1'",
                (uid,),
            )
            connection.execute(
                "INSERT INTO deliveries (sop_instance_uid, destination, state, verify, next_attempt_at, changed_at)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (
                    uid,
                    "pacs" if number % 5 else "other",
                    "waiting" if waits else "delivered",
                    number % 3 > 0,
                    next_attempt_at,
                    5000.0 - number,
                ),
            )
    return ledger


def expected(ledger, condition):
    rows = ledger.rows(f"SELECT * FROM deliveries WHERE destination = 'pacs' AND {condition} ORDER BY changed_at")
    return [row["sop_instance_uid"] for row in rows if retry.is_due(row["next_attempt_at"], 1000.0)]


def uids(due):
    return [each.object.sop_instance_uid for each in due]


def test_all_that_is_due_is_found_and_nothing_else(backlog):
    to_send, to_verify = expected(backlog, "state = 'waiting'"), expected(backlog, "state = 'delivered' AND verify")
    assert min(len(to_send), len(to_verify)) > 500
    assert uids(backlog.deliveries.due("pacs", limit=4000)) == to_send
    assert uids(backlog.deliveries.due_for_verification("pacs", limit=4000)) == to_verify
    assert set(uids(backlog.deliveries.due("pacs", limit=7))) <= set(to_send)
    assert backlog.deliveries.due("nowhere") == []


def test_a_backlog_is_worked_off_completely_and_each_object_once(backlog):
    to_send, taken = expected(backlog, "state = 'waiting'"), []
    while due := backlog.deliveries.due("pacs"):
        taken += uids(due)
        with backlog.transaction() as connection:
            done = [(each.object.sop_instance_uid,) for each in due]
            connection.executemany("DELETE FROM deliveries WHERE sop_instance_uid = ?", done)
    assert sorted(taken) == sorted(to_send)


@pytest.mark.parametrize("ask", ["due", "due_for_verification"])
def test_what_is_due_is_found_without_reading_all_that_waits(backlog, ask):
    with backlog.transaction() as connection:
        asked = []
        connection.set_trace_callback(asked.append)
        getattr(backlog.deliveries, ask)("pacs")
        connection.set_trace_callback(None)
        plans = [" ".join(row["detail"] for row in connection.execute(f"EXPLAIN QUERY PLAN {each}")) for each in asked]
    assert len(plans) == 6  # three for the urgent, three for the others
    for plan in plans:
        assert "USING INDEX deliveries_to_" in plan
        assert "TEMP B-TREE" not in plan


def steps(ledger, ask):
    """Hundreds of instructions that the machine of SQLite runs for a question."""
    counted = []
    with ledger.transaction() as connection:
        connection.set_progress_handler(lambda: counted.append(1), 100)
        ask("pacs", limit=1)
        connection.set_progress_handler(None, 0)
    return len(counted)


@pytest.mark.parametrize("ask", ["due", "due_for_verification"])
def test_what_waits_for_its_time_costs_nothing(backlog, ask):
    with backlog.transaction() as connection:
        connection.execute("UPDATE deliveries SET next_attempt_at = 1500")
    assert steps(backlog, getattr(backlog.deliveries, ask)) <= 10
    assert getattr(backlog.deliveries, ask)("pacs") == []


def test_a_report_of_commitment_finds_its_delivery_at_once(backlog):
    uid = expected(backlog, "state = 'delivered' AND verify")[-1]
    assert uids([backlog.deliveries.awaiting_verification(uid, "pacs")]) == [uid]
    assert backlog.deliveries.awaiting_verification(uid, "other") is None
    waiting = expected(backlog, "state = 'waiting'")[0]
    assert backlog.deliveries.awaiting_verification(waiting, "pacs") is None
    assert steps(backlog, lambda destination, limit: backlog.deliveries.awaiting_verification(uid, destination)) <= 10


def test_a_newer_result_withdraws_what_was_not_yet_sent(ledger):
    sent(ledger, "pacs", objects=("9.1", "9.2"))
    ledger.studies.add(instance(ledger, "1.2.3.1.2"), "cc")
    claim = claimed(ledger)
    ledger.studies.finish(
        claim, result(ledger, claim, "9.2", "9.3", key="new"), [], [Dispatch(destination="pacs", verify=False)]
    )
    assert [due.object.sop_instance_uid for due in ledger.deliveries.due("pacs")] == ["9.2", "9.3"]
