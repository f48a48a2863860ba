"""Instances that arrive, and studies that workers claim and finish."""

import threading
import time
from dataclasses import replace

import pytest

from cxr_dicom.records import DeliveryStatus, ObjectKind, Outcome, Reason, WrittenObject
from cxr_dicom.store.group_commit import GroupCommit
from cxr_dicom.store.ledger import Arrival, ClaimLostError
from cxr_dicom.store.ledger.actions import ActionRefusedError, ImagesDeletedError
from cxr_dicom.store.ledger.studies import _Arriving
from tests.store.ledger.helpers import STUDY, actions, claimed, instance, result, say, sent, state


def test_the_same_instance_again_changes_nothing(ledger):
    assert ledger.studies.add(instance(ledger), "aa") is Arrival.NEW
    claimed(ledger)
    assert ledger.studies.add(instance(ledger), "aa") is Arrival.KNOWN
    assert state(ledger) == "RUNNING"


def test_a_worker_gets_the_digest_that_an_instance_came_with(ledger):
    ledger.studies.add(instance(ledger), "aa")
    assert [each.sha256 for each in claimed(ledger).study.instances] == ["aa"]


def test_the_same_uid_with_other_content_opens_the_study_again(ledger):
    sent(ledger)
    assert state(ledger) == "ENCODED"
    assert ledger.studies.add(instance(ledger), "bb") is Arrival.NEW
    assert state(ledger) == "RECEIVING"


@pytest.mark.parametrize("content", ["aa", "bb"])
def test_an_instance_stays_in_its_study(ledger, content):
    sent(ledger)
    before = ledger.stories.show(STUDY)
    assert ledger.studies.add(instance(ledger, study="1.2.4"), content) is Arrival.OF_ANOTHER_STUDY
    assert ledger.stories.show(STUDY) == before
    assert ledger.stories.show("1.2.4") is None


def test_instances_that_arrive_at_once_share_a_transaction_and_none_is_lost(ledger):
    count, commits = 40, []

    def counted(arriving):
        commits.append(arriving)
        return ledger.studies._add_all(arriving)

    ledger.studies.arriving = GroupCommit(counted)
    gate = threading.Barrier(count)

    def arrive(number):
        gate.wait()
        ledger.studies.add(instance(ledger, f"1.2.3.1.{number}"), "sha")

    threads = [threading.Thread(target=arrive, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.stories.show(STUDY)["instances"]) == count
    assert 1 <= len(commits) < count


def test_an_instance_that_fails_is_not_told_as_recorded_to_anybody(ledger, monkeypatch):
    """Three wait while the first one is recorded; one of them fails, and with it the transaction of all three."""
    begun, gate, heard = threading.Event(), threading.Event(), []
    stored = ledger.stored

    def slowly_or_not_at_all(path):
        begun.set()
        gate.wait()
        if path.name.startswith("1.2.3.1.3"):
            raise ValueError
        return stored(path)

    monkeypatch.setattr(ledger, "stored", slowly_or_not_at_all)

    def add(number):
        try:
            ledger.studies.add(instance(ledger, f"1.2.3.1.{number}"), "sha")
        except ValueError:
            heard.append(number)

    first, *others = [threading.Thread(target=add, args=(number,)) for number in range(1, 5)]
    first.start()
    begun.wait()
    for thread in others:
        thread.start()
    deadline = time.monotonic() + 20
    while len(ledger.studies.arriving._waiting) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    gate.set()
    for thread in (first, *others):
        thread.join()
    assert sorted(heard) == [2, 3, 4]
    assert [number for number in range(1, 5) if ledger.studies.knows(f"1.2.3.1.{number}")] == [1]


def test_what_arrives_together_is_counted_once_each_and_only_if_it_is_new(ledger):
    one, other = (_Arriving(instance(ledger, uid), "sha", False) for uid in ("1.2.3.1.1", "1.2.3.1.2"))
    assert ledger.studies._add_all([one, other, one]) == [Arrival.NEW, Arrival.NEW, Arrival.KNOWN]
    (row,) = ledger.rows("SELECT value FROM counters WHERE name = 'received'")
    assert row["value"] == 2


def test_one_study_is_claimed_once(ledger):
    ledger.studies.add(instance(ledger), "aa")
    ledger.studies.complete(STUDY)
    claims = []
    threads = [
        threading.Thread(target=lambda n=n: claims.append(ledger.studies.claim(str(n), max_interruptions=9)))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(claim is not None for claim in claims) == 1


def test_the_urgent_are_claimed_first_and_each_kind_in_the_order_of_its_arrival(ledger):
    for number, is_urgent in enumerate((False, True, False, True)):
        uid = f"1.2.{number}"
        ledger.studies.add(instance(ledger, f"{uid}.1", uid), "aa", is_urgent=is_urgent)
        ledger.studies.complete(uid)
    ledger.studies.hurry("1.2.2")
    claims = [ledger.studies.claim(str(number), max_interruptions=9) for number in range(4)]
    assert [claim.study.study_instance_uid for claim in claims] == ["1.2.1", "1.2.2", "1.2.3", "1.2.0"]


def test_a_study_stays_urgent_when_other_images_come(ledger):
    ledger.studies.add(instance(ledger), "aa", is_urgent=True)
    ledger.studies.add(instance(ledger, "1.2.3.1.2"), "bb")
    assert ledger.stories.show(STUDY)["urgent"] == 1


def test_a_claim_reads_the_first_study_of_an_index(ledger):
    ledger.studies.add(instance(ledger), "aa")
    queries = []
    connection = ledger._connection()
    connection.set_trace_callback(queries.append)
    claimed(ledger)
    connection.set_trace_callback(None)
    (query,) = [query for query in queries if "ORDER BY urgent" in query]
    (step,) = [row["detail"] for row in ledger.rows(f"EXPLAIN QUERY PLAN {query}")]
    assert "studies_to_claim" in step


def test_images_that_arrive_during_a_run_make_it_run_again(ledger):
    ledger.studies.add(instance(ledger), "aa")
    claim = claimed(ledger)
    ledger.studies.add(instance(ledger, "1.2.3.1.2"), "bb")
    assert state(ledger) == "RUNNING"
    ledger.studies.finish(claim, result(ledger, claim, "9.1"), [], [])
    assert state(ledger) == "RECEIVING"
    assert len(claimed(ledger).study.instances) == 2


def test_a_result_of_a_lost_claim_is_not_kept(ledger):
    ledger.studies.add(instance(ledger), "aa")
    old = claimed(ledger, "dead")
    ledger.studies.take_back("dead")
    claimed(ledger, "alive")
    with pytest.raises(ClaimLostError):
        ledger.studies.finish(old, result(ledger, old, "9.1"), [], [])
    assert ledger.stories.show(STUDY)["objects"] == []


def test_a_study_that_kills_its_workers_is_held(ledger):
    ledger.studies.add(instance(ledger), "aa")
    for _ in range(3):
        assert claimed(ledger, interruptions=3)
        assert ledger.studies.take_back() == [STUDY]
    assert claimed(ledger, interruptions=3) is None
    assert state(ledger) == "HELD"
    actions(ledger).retry(STUDY)
    assert claimed(ledger, interruptions=3)


def test_a_release_is_no_interruption(ledger):
    ledger.studies.add(instance(ledger), "aa")
    for _ in range(5):
        assert claimed(ledger, interruptions=2)
        ledger.studies.take_back("w", is_interruption=False)
    assert state(ledger) == "COMPLETE"


def test_nothing_eligible_is_ignored_and_says_why(ledger):
    ledger.studies.add(instance(ledger), "aa")
    claim = claimed(ledger)
    ledger.studies.finish(claim, result(ledger, claim, outcome=Outcome.SKIPPED, reason=Reason.NOT_CHEST), [], [])
    story = ledger.stories.show(STUDY)
    assert story["state"] == "IGNORED"
    assert story["instances"][0]["reason"] == "NOT_CHEST"


def test_a_study_whose_images_were_deleted_is_not_tried_again(ledger):
    ledger.studies.add(instance(ledger), "aa")
    claim = claimed(ledger)
    ledger.studies.finish(claim, result(ledger, claim, outcome=Outcome.SKIPPED, reason=Reason.NOT_CHEST), [], [])
    ledger.stories.drop_files(STUDY, "instances")
    with pytest.raises(ImagesDeletedError, match="jobs forget"):
        actions(ledger).retry(STUDY)
    assert state(ledger) == "IGNORED"


def test_a_retry_that_does_nothing_forces_no_later_run(ledger):
    sent(ledger)
    with pytest.raises(ActionRefusedError, match="nothing to try again"):
        actions(ledger).retry(STUDY)
    ledger.studies.add(instance(ledger, "1.2.3.1.2"), "cc")
    assert claimed(ledger).job_key == "key"


def test_a_key_is_remembered_until_a_run_is_forced(ledger):
    sent(ledger)
    ledger.studies.add(instance(ledger, "1.2.3.1.2"), "cc")
    claim = claimed(ledger)
    assert claim.job_key == "key"
    ledger.studies.keep_unchanged(claim)
    assert state(ledger) == "ENCODED"


def test_an_instance_is_known_when_it_was_received(ledger):
    assert not ledger.studies.knows("1.2.3.1.1")
    ledger.studies.add(instance(ledger), "aa")
    assert ledger.studies.knows("1.2.3.1.1")
    assert not ledger.studies.knows("1.2.3.1.2")


def test_a_study_that_is_postponed_waits_for_its_time_and_counts_its_attempts(ledger, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1000.0)
    ledger.studies.add(instance(ledger), "aa")
    for attempts in range(3):
        claim = claimed(ledger)
        assert claim.attempts == attempts
        failed = result(ledger, claim, outcome=Outcome.FAILED, reason=Reason.INTERNAL_ERROR)
        ledger.studies.postpone(claim, failed, 1010.0)
        assert claimed(ledger) is None
        story = ledger.stories.show(STUDY)
        assert (story["state"], story["attempts"], story["next_attempt_at"]) == ("COMPLETE", attempts + 1, 1010.0)
        assert story["instances"][0]["reason"] == "INTERNAL_ERROR"
        monkeypatch.setattr("time.time", lambda: 1010.0)
        assert claimed(ledger, "another").attempts == attempts + 1
        ledger.studies.take_back("another", is_interruption=False)
        monkeypatch.setattr("time.time", lambda: 1000.0)
        with ledger.transaction() as connection:
            connection.execute("UPDATE studies SET next_attempt_at = NULL")


def test_a_claim_has_the_whole_study_and_what_was_made_of_it_before(ledger):
    sent(ledger, objects=("9.1", "9.2"))
    ledger.studies.add(instance(ledger, "1.2.3.1.2"), "bb")
    claim = claimed(ledger, "w")
    assert (claim.owner, claim.job_key, claim.attempts, claim.study.study_instance_uid) == ("w", "key", 0, STUDY)
    first, second = claim.study.instances
    assert first == replace(instance(ledger), sha256="aa")
    assert second == replace(instance(ledger, "1.2.3.1.2"), sha256="bb")
    made = {
        "kind": ObjectKind.SEGMENTATION,
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4",
        "series_instance_uid": "9",
    }
    assert claim.study.earlier == tuple(
        WrittenObject(sop_instance_uid=uid, source_sop_instance_uids=("1.2.3.1.1",), **made) for uid in ("9.1", "9.2")
    )


def test_the_oldest_study_is_claimed_first(ledger, monkeypatch):
    for now, study in ((2000.0, "1.2.4"), (1000.0, "1.2.5"), (3000.0, "1.2.6")):
        monkeypatch.setattr("time.time", lambda now=now: now)
        ledger.studies.add(instance(ledger, f"{study}.1.1", study), study)
    assert ledger.studies.uids("RECEIVING") == ["1.2.5", "1.2.4", "1.2.6"]
    assert [claimed(ledger).study.study_instance_uid for _ in range(3)] == ["1.2.5", "1.2.4", "1.2.6"]


def test_a_study_that_waits_on_has_not_changed(ledger, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1000.0)
    sent(ledger, "pacs")
    monkeypatch.setattr("time.time", lambda: 2000.0)
    say(ledger, DeliveryStatus.FAILED, retry_at=3000.0)
    assert ledger.stories.show(STUDY)["changed_at"] == 1000.0
    say(ledger, DeliveryStatus.ACCEPTED)
    assert ledger.stories.show(STUDY)["changed_at"] == 2000.0
