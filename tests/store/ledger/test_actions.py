"""What a person may do, in which state, and that the audit trail says who did it."""

import json
import threading

import pytest

from cxr_dicom.records import DeliveryStatus, Outcome, Reason
from cxr_dicom.store.ledger import ClaimLostError, Dispatch, Ledger
from cxr_dicom.store.ledger.actions import ActionRefusedError, Actions, Person, UnknownStudyError
from tests.store.ledger.helpers import STUDY, actions, claimed, instance, result, say, sent, state


def trail(ledger):
    path = ledger.folder / "audit.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [{name: value for name, value in line.items() if name != "time"} for line in lines]


def refused(ledger, study, *destinations):
    """A study whose objects, one for each destination, were refused."""
    sop = f"{study}.1.1"
    ledger.studies.add(instance(ledger, sop, study), "aa")
    claim = claimed(ledger)
    dispatches = [Dispatch(destination=name, verify=False) for name in destinations]
    ledger.studies.finish(claim, result(ledger, claim, f"{study}.9"), [], dispatches)
    for name in destinations:
        say(ledger, DeliveryStatus.REFUSED, f"{study}.9", name)


def ignored(ledger, study):
    ledger.studies.add(instance(ledger, f"{study}.1.1", study), "aa")
    claim = claimed(ledger)
    ledger.studies.finish(claim, result(ledger, claim, outcome=Outcome.SKIPPED, reason=Reason.NOT_CHEST), [], [])


def test_every_action_is_a_line_of_the_trail_with_the_name_of_the_person(ledger):
    who = {"by": "anna", "via": "command"}
    ledger.studies.add(instance(ledger), "aa")
    actions(ledger).complete(STUDY)
    claim = claimed(ledger)
    ledger.studies.finish(claim, result(ledger, claim, "9.1"), [], [Dispatch(destination="pacs", verify=False)])
    actions(ledger).retry(STUDY)
    actions(ledger).withdraw("pacs")
    actions(ledger).forget(STUDY)
    assert trail(ledger) == [
        {"action": "study_completed", "study_instance_uid": STUDY, **who},
        {"action": "study_retried", "study_instance_uid": STUDY, **who},
        {"action": "destination_withdrawn", "destination": "pacs", "objects": 1, **who},
        {"action": "study_forgotten", "study_instance_uid": STUDY, "state": "ENCODED", **who},
    ]


def test_what_is_refused_changes_nothing_and_says_why(ledger):
    sent(ledger, "pacs")
    say(ledger, DeliveryStatus.ACCEPTED)
    with pytest.raises(ActionRefusedError, match="it is SENT, with nothing to try again"):
        actions(ledger).retry(STUDY)
    with pytest.raises(ActionRefusedError, match="expected RECEIVING, found SENT"):
        actions(ledger).complete(STUDY)
    with pytest.raises(ActionRefusedError, match="nothing waits for it"):
        actions(ledger).withdraw("pacs")
    for act in (actions(ledger).retry, actions(ledger).complete, actions(ledger).forget):
        with pytest.raises(UnknownStudyError, match=r"9\.9\.9: not in the ledger"):
            act("9.9.9")
    assert trail(ledger) == []
    assert state(ledger) == "SENT"


def test_a_study_at_work_can_be_forgotten_and_its_result_is_not_kept(ledger):
    ledger.studies.add(instance(ledger), "aa")
    claim = claimed(ledger)
    actions(ledger).forget(STUDY)
    assert not claim.study.instances[0].path.exists()
    with pytest.raises(ClaimLostError):
        ledger.studies.finish(claim, result(ledger, claim, "9.1"), [], [])
    assert ledger.stories.show(STUDY) is None


def test_the_rule_and_the_deed_are_one_transaction(tmp_path, ledger):
    """Two persons complete one study: one of them is told that it is so already."""
    ledger.studies.add(instance(ledger), "aa")
    answers = []

    def act():
        other = Ledger(tmp_path)
        try:
            Actions(other, Person(name="x", via="page")).complete(STUDY)
            answers.append("done")
        except ActionRefusedError as error:
            answers.append(str(error))
        other.close()

    threads = [threading.Thread(target=act) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers)[-1] == "done"
    assert sorted(answers)[:-1] == [f"{STUDY}: expected RECEIVING, found COMPLETE"] * 7
    assert len(trail(ledger)) == 1


def test_a_study_that_pauses_runs_now(ledger):
    ledger.studies.add(instance(ledger), "aa")
    claim = claimed(ledger)
    ledger.studies.postpone(claim, result(ledger, claim), 4e9)
    ledger.studies.add(instance(ledger, "1.2.3.1.1"), "aa")
    actions(ledger).retry(STUDY)
    assert ledger.stories.show(STUDY)["next_attempt_at"] is None
    with pytest.raises(ActionRefusedError, match="it is COMPLETE"):
        actions(ledger).retry(STUDY)


def test_what_waits_to_be_verified_is_asked_now(ledger):
    sent(ledger, "pacs", verify=True)
    say(ledger, DeliveryStatus.ACCEPTED)
    say(ledger, DeliveryStatus.FAILED, retry_at=4e9, is_verifying=True)
    actions(ledger).retry(STUDY)
    (found,) = ledger.stories.show(STUDY)["objects"]
    assert found["deliveries"][0]["next_attempt_at"] is None
    assert state(ledger) == "SENT"


def test_all_that_is_stuck_is_tried_again_and_nothing_else(ledger):
    refused(ledger, "1.1", "pacs")
    refused(ledger, "1.2", "other")
    ignored(ledger, "1.3")
    ledger.studies.add(instance(ledger, "1.4.1.1", "1.4"), "aa")  # still receiving
    assert actions(ledger).retry_all().studies == ("1.1", "1.2")
    assert [state(ledger, uid) for uid in ("1.1", "1.2", "1.3", "1.4")] == [
        "ENCODED",
        "ENCODED",
        "IGNORED",
        "RECEIVING",
    ]
    assert actions(ledger).retry_all(states=["IGNORED"]).studies == ("1.3",)


def test_all_of_one_destination_and_only_that(ledger):
    refused(ledger, "1.1", "pacs", "other")
    refused(ledger, "1.2", "other")
    assert actions(ledger).retry_all(destination="pacs").studies == ("1.1",)
    assert len(ledger.deliveries.due("pacs")) == 1
    assert ledger.deliveries.due("other") == []
    assert ledger.deliveries.asked_at("other") is None
    assert {line.get("destination") for line in trail(ledger)} == {"pacs"}


def test_all_since_a_time(ledger, monkeypatch):
    for uid, now in (("1.1", 1000.0), ("1.2", 2000.0)):
        monkeypatch.setattr("time.time", lambda now=now: now)
        refused(ledger, uid, "pacs")
    assert actions(ledger).retry_all(since=1500.0).studies == ("1.2",)
    assert actions(ledger).retry_all(since=2500.0).studies == ()
    assert state(ledger, "1.1") == "DEAD"


def test_those_that_cannot_be_tried_again_are_told_and_stop_nothing(ledger):
    for uid in ("1.1", "1.2"):
        ignored(ledger, uid)
    ledger.stories.drop_files("1.1", "instances")
    found = actions(ledger).retry_all(states=["IGNORED"])
    assert found.studies == ("1.2",)
    assert str(found.refused[0]).startswith("1.1: its images were deleted")
    assert state(ledger, "1.1") == "IGNORED"


def test_a_study_is_processed_again_with_the_models_that_a_person_names(ledger):
    sent(ledger, "pacs")
    say(ledger, DeliveryStatus.ACCEPTED)
    actions(ledger).reprocess(STUDY, ["a", "b"])
    (line,) = trail(ledger)
    assert line["action"] == "study_reprocessed"
    assert (line["study_instance_uid"], line["model"], line["by"]) == (STUDY, "a,b", "anna")
    claim = claimed(ledger)
    assert (claim.models, claim.job_key) == (("a", "b"), None), "it runs though nothing else changed"
    with pytest.raises(ActionRefusedError, match="it is RUNNING; wait for its result"):
        actions(ledger).reprocess(STUDY)
    ledger.studies.finish(claim, result(ledger, claim, "9.2"), [], [Dispatch(destination="pacs", verify=False)])
    ledger.studies.add(instance(ledger, "1.2.3.1.2"), "bb")
    with pytest.raises(ActionRefusedError, match="it is RECEIVING; complete it first"):
        actions(ledger).reprocess(STUDY)
    assert claimed(ledger).models == ("a", "b"), "so do further images"


def test_a_study_whose_images_are_gone_in_part_is_not_processed_again(ledger):
    sent(ledger)
    ledger.stories.drop_files(STUDY, "instances")
    with pytest.raises(ActionRefusedError, match="its images were deleted"):
        actions(ledger).reprocess(STUDY)
    ledger.studies.add(instance(ledger, "1.2.3.1.2"), "bb")
    claim = claimed(ledger)
    ledger.studies.finish(claim, result(ledger, claim, "9.3"), [], [])
    with pytest.raises(ActionRefusedError, match="images of it were deleted"):
        actions(ledger).reprocess(STUDY, ["a"])
    assert (state(ledger), ledger.stories.show(STUDY)["models"], trail(ledger)) == ("ENCODED", [], [])


def test_what_was_taken_is_sent_once_more_to_whom_a_person_says(ledger):
    refused(ledger, "1.1", "pacs", "other")
    for name in ("pacs", "other"):
        actions(ledger).retry("1.1", name)
        say(ledger, DeliveryStatus.ACCEPTED, "1.1.9", name)
    assert (state(ledger, "1.1"), ledger.deliveries.due("pacs")) == ("SENT", [])
    actions(ledger).resend("1.1", "pacs")
    assert (len(ledger.deliveries.due("pacs")), ledger.deliveries.due("other")) == (1, [])
    assert state(ledger, "1.1") == "ENCODED"
    say(ledger, DeliveryStatus.ACCEPTED, "1.1.9", "pacs")
    assert state(ledger, "1.1") == "SENT"
    line = trail(ledger)[-1]
    assert [line[name] for name in ("action", "study_instance_uid", "destination", "by")] == [
        *("study_resent", "1.1", "pacs", "anna")
    ]
    with pytest.raises(ActionRefusedError, match="expected objects that went to elsewhere"):
        actions(ledger).resend("1.1", "elsewhere")
    ledger.stories.drop_files("1.1", "objects")
    with pytest.raises(ActionRefusedError, match="found none"):
        actions(ledger).resend("1.1")
    ledger.studies.add(instance(ledger, "1.1.1.2", "1.1"), "bb")
    with pytest.raises(ActionRefusedError, match="it is RECEIVING"):
        actions(ledger).resend("1.1")
