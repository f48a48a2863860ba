"""What becomes of a receipt: every row of the table of answers in ``docs/operations.md``."""

import time

import pytest

from cxr_dicom.records import DeliveryStatus, Receipt
from cxr_dicom.service.receipts import record
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.system import retry
from tests.store.ledger.helpers import STUDY, sent, state

NOW = 1_000_000.0


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still, and pauses that chance does not shorten."""
    now = [NOW]
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    return now


@pytest.fixture
def hear(tmp_path, clock):
    """Give what an archive says of one object; return seconds until the next attempt, None when there is none."""
    ledger = Ledger(tmp_path)
    audit = AuditTrail(tmp_path)
    sent(ledger, "pacs", verify=True)

    def hear(status, *, is_verifying=False, **more):
        due = (ledger.deliveries.due_for_verification if is_verifying else ledger.deliveries.due)("pacs")
        said = Receipt(sop_instance_uid="9.1", destination="pacs", delivery_status=status, status="word", **more)
        record(ledger, audit, said, due[0], is_verifying=is_verifying)
        (delivery,) = ledger.stories.show(STUDY)["objects"][0]["deliveries"]
        return delivery["next_attempt_at"] and delivery["next_attempt_at"] - clock[0]

    hear.ledger = ledger
    yield hear
    ledger.close()


@pytest.mark.parametrize("is_verifying", [False, True])
def test_not_now_is_tried_again_after_pauses_that_double(hear, clock, is_verifying):
    if is_verifying:
        hear(DeliveryStatus.ACCEPTED)
    for pause in (1, 2, 4, 8, 16):
        assert hear(DeliveryStatus.FAILED, is_verifying=is_verifying) == pause
        assert not hear.ledger.deliveries.due("pacs")
        assert not hear.ledger.deliveries.due_for_verification("pacs")
        clock[0] += pause
    assert state(hear.ledger) == ("SENT" if is_verifying else "ENCODED")


def test_not_now_is_given_up_a_day_after_the_first_attempt(hear, clock):
    hear(DeliveryStatus.FAILED)
    clock[0] = NOW + retry.GIVE_UP_AFTER - 1
    assert hear(DeliveryStatus.FAILED) == 2
    assert state(hear.ledger) == "ENCODED"
    clock[0] = NOW + retry.GIVE_UP_AFTER + 1
    assert hear(DeliveryStatus.FAILED, detail="down") is None
    assert state(hear.ledger) == "DEAD"
    assert "3 attempts failed in 24 hours" in hear.ledger.stories.show(STUDY)["reason"]


def test_a_pause_that_is_asked_for_is_made(hear):
    assert hear(DeliveryStatus.FAILED, retry_after=120.0) == 120


@pytest.mark.parametrize("status", [DeliveryStatus.REFUSED, DeliveryStatus.UNSUPPORTED])
def test_no_is_final(hear, status):
    assert hear(status) is None
    assert state(hear.ledger) == "DEAD"
    assert not hear.ledger.deliveries.due("pacs")


@pytest.mark.parametrize("status", [DeliveryStatus.ACCEPTED, DeliveryStatus.WARNING])
def test_yes_is_delivered_and_its_commitment_is_asked_for(hear, status):
    assert hear(status) is None
    assert state(hear.ledger) == "SENT"
    assert hear.ledger.deliveries.due_for_verification("pacs")
    hear(DeliveryStatus.COMMITTED, is_verifying=True)
    assert state(hear.ledger) == "COMMITTED"


def test_what_is_not_there_is_sent_again(hear, clock):
    hear(DeliveryStatus.ACCEPTED)
    assert hear(DeliveryStatus.REFUSED, is_verifying=True) == 1
    assert state(hear.ledger) == "ENCODED"
    clock[0] += 1
    assert hear.ledger.deliveries.due("pacs")


def test_what_is_never_there_is_given_up_a_day_after_it_was_first_missed(hear, clock):
    for _ in range(2):
        hear(DeliveryStatus.ACCEPTED)
        clock[0] += 1  # the receipt and the report never come at the same moment
        hear(DeliveryStatus.REFUSED, is_verifying=True)
        clock[0] += 60
    clock[0] = NOW + retry.GIVE_UP_AFTER + 1
    hear(DeliveryStatus.ACCEPTED)
    clock[0] += 1
    hear(DeliveryStatus.REFUSED, is_verifying=True)
    assert state(hear.ledger) == "DEAD"
