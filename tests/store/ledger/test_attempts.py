"""How often an object was tried, since when, and what its destination said last."""

from dataclasses import replace

import pytest

from cxr_dicom.records import DeliveryStatus, ImageAnalysis, ModelInfo, Receipt
from cxr_dicom.store.ledger import Dispatch
from tests.store.ledger.helpers import STUDY, claimed, instance, result, say, sent, state


@pytest.fixture
def clock(monkeypatch):
    def at(now):
        monkeypatch.setattr("time.time", lambda: now)

    at(1000.0)
    return at


def told(answer, detail=""):
    return Receipt(sop_instance_uid="9.1", destination="pacs", delivery_status=answer, status="0xA700", detail=detail)


def row(ledger, *names):
    rows = ledger.stories.show(STUDY)["objects"][0]["deliveries"]
    (found,) = (each for each in rows if each["destination"] == "pacs")
    return tuple(found[name] for name in names)


def test_failures_are_counted_from_the_first_and_forgotten_when_it_is_taken(ledger, clock):
    sent(ledger, "pacs")
    for attempt, now in enumerate((1005.0, 1010.0), start=1):
        clock(now)
        ledger.deliveries.record(told(DeliveryStatus.FAILED, "busy"), retry_at=now + 5)
        assert row(ledger, "attempts", "first_attempt_at", "next_attempt_at") == (attempt, 1005.0, now + 5)
        assert row(ledger, "state", "status", "detail", "changed_at") == ("waiting", "0xA700", "busy", 1000.0)
    clock(1015.0)
    ledger.deliveries.record(told(DeliveryStatus.WARNING, "coerced"))
    assert row(ledger, "attempts", "first_attempt_at", "next_attempt_at") == (0, None, None)
    assert row(ledger, "state", "status", "detail", "changed_at") == ("delivered", "0xA700", "coerced", 1015.0)


def test_trouble_with_what_is_taken_and_lost_again_and_again_is_one_trouble(ledger, clock):
    sent(ledger, "pacs", verify=True)
    for attempt, now in enumerate((1010.0, 1030.0, 1050.0), start=1):
        clock(now - 5)
        say(ledger, DeliveryStatus.ACCEPTED)
        assert row(ledger, "state", "attempts") == ("delivered", attempt - 1)
        clock(now)
        ledger.deliveries.send_again(told(DeliveryStatus.REFUSED), retry_at=now)
        assert row(ledger, "state", "attempts", "first_attempt_at") == ("waiting", attempt, 1010.0)
    say(ledger, DeliveryStatus.ACCEPTED)
    say(ledger, DeliveryStatus.COMMITTED)
    assert row(ledger, "state", "attempts", "first_attempt_at") == ("committed", 0, None)


def test_giving_up_says_why_and_what_was_said_last(ledger, clock):
    sent(ledger, "pacs")
    ledger.deliveries.give_up(told(DeliveryStatus.FAILED, "busy"), "9 attempts failed in 24 hours")
    assert row(ledger, "state", "status") == ("refused", "0xA700")
    assert row(ledger, "detail") == ("9 attempts failed in 24 hours; last: busy",)
    assert ledger.stories.show(STUDY)["reason"] == "pacs: 0xA700 9 attempts failed in 24 hours; last: busy"


def test_giving_up_what_was_not_asked_about_changes_nothing(ledger, clock):
    ledger.deliveries.give_up(told(DeliveryStatus.FAILED), "forgotten meanwhile")
    sent(ledger, "pacs", verify=True)
    ledger.deliveries.give_up(told(DeliveryStatus.FAILED), "late", is_verifying=True)
    assert row(ledger, "state") == ("waiting",)
    say(ledger, DeliveryStatus.ACCEPTED)
    ledger.deliveries.give_up(told(DeliveryStatus.FAILED), "late")
    assert row(ledger, "state") == ("delivered",)


def test_a_retry_begins_anew_and_keeps_what_was_said(ledger, clock):
    sent(ledger, "pacs", "other")
    ledger.deliveries.record(told(DeliveryStatus.FAILED, "busy"), retry_at=2000.0)
    say(ledger, DeliveryStatus.ACCEPTED, destination="other")
    assert ledger.deliveries.due("pacs") == []
    assert ledger.deliveries.retry(STUDY) == 1
    assert row(ledger, "state", "status", "detail") == ("waiting", "0xA700", "busy")
    (due,) = ledger.deliveries.due("pacs")
    assert (due.attempts, due.first_attempt_at) == (0, None)
    ledger.stories.drop_files(STUDY, "objects")
    assert ledger.deliveries.retry(STUDY) == 0


def test_what_is_withdrawn_from_a_destination_is_counted_and_the_others_go_on(ledger, clock):
    sent(ledger, "pacs", "other", objects=("9.1", "9.2"))
    assert ledger.deliveries.withdraw("pacs") == 2
    assert row(ledger, "state", "detail") == ("withdrawn", "withdrawn by `jobs withdraw`")
    assert ledger.deliveries.due("pacs") == []
    assert len(ledger.deliveries.due("other")) == 2
    assert ledger.deliveries.withdraw("pacs") == 0


def test_a_job_says_with_which_models_how_long_and_how_it_ended(ledger, clock):
    ledger.studies.add(instance(ledger), "aa")
    claim = claimed(ledger)
    info = ModelInfo(
        name="m", version="2", title="", predicts=(), input_size=None, manufacturer="", licence="", citation=""
    )
    made = result(ledger, claim, "9.1")
    made.seconds.update(select=0.12345, encode=2.0)
    analysis = ImageAnalysis(image=None, pixel_sha256="", predictions=(), seconds={"encode": 0.5, "m": 3.0})
    made = replace(made, instances=(replace(made.instances[0], analysis=analysis),))
    ledger.studies.finish(claim, made, [info], [Dispatch(destination="pacs", verify=False)])
    (job,) = ledger.stories.show(STUDY)["jobs"]
    assert job["models"] == [{"name": "m", "version": "2", "weights_sha256": info.weights_sha256}]
    assert job["seconds"] == {"select": 0.123, "encode": 2.5, "m": 3.0}
    assert job["finished_at"] == 1000.0
    assert ("stage_seconds_total", {"stage": "encode"}, 2.5) in ledger.stories.figures()
    assert state(ledger) == "ENCODED"
