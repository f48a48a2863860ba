import contextlib
import sqlite3
import threading
import time
from pathlib import Path

import pytest

from cxr_dicom import retry
from cxr_dicom.ledger import Arrival, ClaimLostError, ImagesDeletedError, Ledger, LedgerError, Route, owner
from cxr_dicom.ledger._together import Together
from cxr_dicom.records import (
    Answer,
    EncodedObject,
    InstanceResult,
    ObjectKind,
    Outcome,
    Reason,
    Receipt,
    StoredInstance,
    StudyResult,
)

STUDY = "1.2.3"


@pytest.fixture
def ledger(tmp_path):
    ledger = Ledger(tmp_path)
    yield ledger
    ledger.close()


def instance(ledger, sop="1.2.3.1.1", study=STUDY):
    path = ledger.folder / f"{sop}.dcm"
    path.touch()
    return StoredInstance(
        path=path,
        study_instance_uid=study,
        series_instance_uid=f"{study}.1",
        sop_instance_uid=sop,
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
        sender="MODALITY",
    )


def result(ledger, claim, *objects, outcome=Outcome.PROCESSED, reason=None, key="key"):
    made = tuple(
        EncodedObject(
            path=ledger.folder / f"{uid}.dcm",
            kind=ObjectKind.SEGMENTATION,
            sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
            sop_instance_uid=uid,
            series_instance_uid="9",
            source_sop_instance_uids=("1.2.3.1.1",),
            model="m",
        )
        for uid in objects
    )
    instances = tuple(
        InstanceResult(path=i.path, outcome=outcome, instance=i, reason=reason, objects=made)
        for i in claim.study.instances
    )
    return StudyResult(study_instance_uid=claim.study.study_instance_uid, job_key=key, instances=instances)


def claimed(ledger, name="w", interruptions=9):
    for uid in ledger.studies.uids("RECEIVING"):
        ledger.studies.complete(uid)
    return ledger.studies.claim(name, max_interruptions=interruptions)


def state(ledger, study=STUDY):
    return ledger.stories.show(study)["state"]


def sent(ledger, *destinations, verify=False, objects=("9.1",)):
    ledger.studies.add(instance(ledger), "aa")
    claim = claimed(ledger)
    routes = [Route(destination=name, verify=verify) for name in destinations]
    ledger.studies.finish(claim, result(ledger, claim, *objects), [], routes)


def say(ledger, answer, uid="9.1", destination="pacs", **more):
    ledger.deliveries.record(
        Receipt(sop_instance_uid=uid, destination=destination, answer=answer, status="0x0000"), **more
    )


def test_the_same_instance_again_changes_nothing(ledger):
    assert ledger.studies.add(instance(ledger), "aa") is Arrival.NEW
    claimed(ledger)
    assert ledger.studies.add(instance(ledger), "aa") is Arrival.KNOWN
    assert state(ledger) == "RUNNING"


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
    original = ledger.transaction

    @contextlib.contextmanager
    def counted():
        with original() as connection:
            commits.append(connection)
            yield connection

    ledger.together = Together(counted)
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


def test_a_change_that_fails_is_not_told_as_done_to_anybody(ledger):
    gate, heard = threading.Event(), []

    def make(change):
        try:
            ledger.together.make(change)
        except ValueError:
            heard.append(change)

    def wait():
        gate.wait()

    def fail():
        raise ValueError

    def add():
        ledger.studies._add(instance(ledger), "sha")

    first = threading.Thread(target=make, args=(wait,))
    first.start()
    others = [threading.Thread(target=make, args=(change,)) for change in (add, fail)]
    for thread in others:
        thread.start()
    deadline = time.monotonic() + 20
    while len(ledger.together._waiting) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    gate.set()
    for thread in (first, *others):
        thread.join()
    assert set(heard) == {add, fail}
    assert not ledger.studies.knows("1.2.3.1.1")


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
    assert ledger.studies.retry(STUDY)
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
        ledger.studies.retry(STUDY)
    assert state(ledger) == "IGNORED"


def test_a_retry_that_does_nothing_forces_no_later_run(ledger):
    sent(ledger)
    assert not ledger.studies.retry(STUDY)
    ledger.studies.add(instance(ledger, "1.2.3.1.2"), "cc")
    assert claimed(ledger).job_key == "key"


def test_a_key_is_remembered_until_a_run_is_forced(ledger):
    sent(ledger)
    ledger.studies.add(instance(ledger, "1.2.3.1.2"), "cc")
    claim = claimed(ledger)
    assert claim.job_key == "key"
    ledger.studies.keep_unchanged(claim)
    assert state(ledger) == "ENCODED"


def test_states_follow_the_receipts(ledger):
    sent(ledger, "pacs", "research", objects=("9.1", "9.2"))
    for uid in ("9.1", "9.2"):
        say(ledger, Answer.ACCEPTED, uid)
        say(ledger, Answer.WARNING, uid, "research")
        assert state(ledger) == ("ENCODED" if uid == "9.1" else "SENT")


def test_a_route_may_take_some_kinds_only(ledger):
    ledger.studies.add(instance(ledger), "aa")
    claim = claimed(ledger)
    routes = [
        Route(destination="pacs", verify=False, kinds=frozenset({"segmentation"})),
        Route(destination="other", verify=False, kinds=frozenset({"parametric_map"})),
    ]
    ledger.studies.finish(claim, result(ledger, claim, "9.1"), [], routes)
    assert len(ledger.deliveries.due("pacs")) == 1
    assert ledger.deliveries.due("other") == []


def test_a_destination_that_is_added_later_gets_older_studies_only_when_they_run_again(ledger):
    sent(ledger, "pacs")
    say(ledger, Answer.ACCEPTED)
    assert not ledger.studies.retry(STUDY)
    assert ledger.deliveries.due("later") == []
    ledger.studies.add(instance(ledger, "1.2.3.1.2"), "bb")
    claim = claimed(ledger)
    routes = [Route(destination=name, verify=False) for name in ("pacs", "later")]
    ledger.studies.finish(claim, result(ledger, claim, "9.1", "9.2", key="another"), [], routes)
    assert uids(ledger.deliveries.due("pacs")) == ["9.2"]
    assert uids(ledger.deliveries.due("later")) == ["9.1", "9.2"]


def test_committed_where_asked(ledger):
    sent(ledger, "pacs", verify=True)
    say(ledger, Answer.ACCEPTED)
    assert state(ledger) == "SENT"
    assert [due.object.sop_instance_uid for due in ledger.deliveries.due_for_verification("pacs")] == ["9.1"]
    say(ledger, Answer.COMMITTED)
    assert state(ledger) == "COMMITTED"


@pytest.mark.parametrize("answer", [Answer.FAILED, Answer.REFUSED])
def test_trouble_with_a_request_that_was_overtaken_changes_nothing(ledger, answer):
    sent(ledger, "pacs", verify=True)
    say(ledger, Answer.ACCEPTED)
    say(ledger, Answer.COMMITTED)
    say(ledger, answer, retry_at=1.0, is_verifying=True)
    ledger.deliveries.give_up(Receipt(sop_instance_uid="9.1", destination="pacs", answer=answer, status="x"), "late")
    assert state(ledger) == "COMMITTED"


def test_a_refusal_of_what_a_newer_result_withdrew_changes_nothing(ledger):
    sent(ledger, "pacs")
    ledger.studies.add(instance(ledger, "1.2.3.1.2"), "cc")
    claim = claimed(ledger)
    ledger.studies.finish(claim, result(ledger, claim, "9.2"), [], [Route(destination="pacs", verify=False)])
    say(ledger, Answer.REFUSED)
    say(ledger, Answer.ACCEPTED, "9.2")
    assert state(ledger) == "SENT"


def test_a_refusal_is_final_for_its_destination_only(ledger):
    sent(ledger, "pacs", "research")
    say(ledger, Answer.REFUSED)
    assert state(ledger) == "ENCODED"
    say(ledger, Answer.ACCEPTED, destination="research")
    assert state(ledger) == "DEAD"
    assert ledger.stories.show(STUDY)["reason"].startswith("pacs: 0x0000")
    assert ledger.studies.retry(STUDY)
    assert len(ledger.deliveries.due("pacs")) == 1
    assert ledger.deliveries.due("research") == []


def test_a_failure_waits_for_its_time(ledger, monkeypatch):
    sent(ledger, "pacs")
    monkeypatch.setattr("time.time", lambda: 1000.0)
    say(ledger, Answer.FAILED, retry_at=1010.0)
    assert ledger.deliveries.due("pacs") == []
    monkeypatch.setattr("time.time", lambda: 1011.0)
    (due,) = ledger.deliveries.due("pacs")
    assert (due.attempts, due.first_attempt_at) == (1, 1000.0)


def test_a_clock_stepped_back_frees_what_waits(ledger, monkeypatch):
    sent(ledger, "pacs")
    monkeypatch.setattr("time.time", lambda: 1e9)
    say(ledger, Answer.FAILED, retry_at=1e9 + retry.LONGEST_PAUSE)
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
    assert len(plans) == 3
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
        claim, result(ledger, claim, "9.2", "9.3", key="new"), [], [Route(destination="pacs", verify=False)]
    )
    assert [due.object.sop_instance_uid for due in ledger.deliveries.due("pacs")] == ["9.2", "9.3"]


def test_forgetting_leaves_no_row(ledger):
    sent(ledger, "pacs")
    assert ledger.stories.forget(STUDY)
    connection = sqlite3.connect(ledger.path)
    for table in ("studies", "instances", "jobs", "objects", "deliveries"):
        assert connection.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table


def test_retention_spares_what_is_not_delivered_and_committed(ledger):
    sent(ledger, "pacs", verify=True)
    assert ledger.stories.expired(days=-1) == []
    say(ledger, Answer.ACCEPTED)
    assert ledger.stories.expired(days=-1) == []
    say(ledger, Answer.COMMITTED)
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


@pytest.mark.parametrize("answer", [Answer.FAILED, Answer.REFUSED])
def test_what_was_not_taken_does_not_expire(ledger, answer):
    sent(ledger, "pacs", "research")
    say(ledger, Answer.ACCEPTED)
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
