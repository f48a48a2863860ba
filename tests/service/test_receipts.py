"""What becomes of a receipt: every row of the table of answers in ``docs/operations.md``."""

import re
import time

import pytest
from pydicom import Dataset

from cxr_dicom.records import DeliveryStatus, Receipt
from cxr_dicom.service.receipts import on_commitment, record
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.system import retry
from tests import ROOT
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

    def hear(status, *, is_verifying=False, meanwhile=0.0, **more):
        due = (ledger.deliveries.due_for_verification if is_verifying else ledger.deliveries.due)("pacs")
        clock[0] += meanwhile
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
    attempts = 0
    while (pause := hear(DeliveryStatus.FAILED, detail="down")) is not None:
        assert state(hear.ledger) == "ENCODED"
        attempts += 1
        clock[0] += pause
    assert clock[0] - NOW == pytest.approx(retry.GIVE_UP_AFTER, abs=retry.LONGEST_PAUSE)
    assert state(hear.ledger) == "DEAD"
    assert f"{attempts + 1} attempts failed in 24 hours" in hear.ledger.stories.show(STUDY)["reason"]


@pytest.mark.parametrize("is_verifying", [False, True])
def test_the_time_in_which_nobody_asked_does_not_count(hear, clock, is_verifying):
    if is_verifying:
        hear(DeliveryStatus.ACCEPTED)
    hear(DeliveryStatus.FAILED, is_verifying=is_verifying)
    for _ in range(20):
        clock[0] += 30 * 3600  # off, or a clock that is stepped
        assert hear(DeliveryStatus.FAILED, is_verifying=is_verifying) is not None
    assert state(hear.ledger) == ("SENT" if is_verifying else "ENCODED")


@pytest.mark.parametrize("is_verifying", [False, True])
def test_a_clock_that_is_stepped_while_the_destination_is_asked_does_not_count(hear, clock, is_verifying):
    if is_verifying:
        hear(DeliveryStatus.ACCEPTED)
    clock[0] += hear(DeliveryStatus.FAILED, is_verifying=is_verifying)
    for _ in range(20):
        pause = hear(DeliveryStatus.FAILED, is_verifying=is_verifying, meanwhile=30 * 3600)
        assert pause is not None
        clock[0] += pause
    assert state(hear.ledger) == ("SENT" if is_verifying else "ENCODED")


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
    while state(hear.ledger) != "DEAD":
        hear(DeliveryStatus.ACCEPTED)
        clock[0] += 1
        clock[0] += hear(DeliveryStatus.REFUSED, is_verifying=True) or 0
    assert clock[0] - NOW == pytest.approx(retry.GIVE_UP_AFTER, abs=retry.LONGEST_PAUSE)


@pytest.mark.parametrize(("transaction", "is_ours"), [("1.2.840.1", True), ("1.2.840.2", False), ("", False)])
def test_a_report_counts_only_for_a_transaction_that_we_opened(hear, tmp_path, transaction, is_ours):
    hear(DeliveryStatus.ACCEPTED)
    hear.ledger.deliveries.open_commitment("1.2.840.1", "pacs")
    information, item = Dataset(), Dataset()
    item.ReferencedSOPInstanceUID = "9.1"
    information.ReferencedSOPSequence = [item]
    assert on_commitment(hear.ledger, AuditTrail(tmp_path), transaction, information) is is_ours
    assert state(hear.ledger) == ("COMMITTED" if is_ours else "SENT")


ANSWERS = {
    "not now": DeliveryStatus.FAILED,
    "not this SOP class": DeliveryStatus.UNSUPPORTED,
    "no": DeliveryStatus.REFUSED,
    "yes, but": DeliveryStatus.WARNING,
    "yes": DeliveryStatus.ACCEPTED,
}


def test_the_docs_say_what_becomes_of_a_dimse_status():
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = text.split("| answer | examples |", 1)[1].split("\n\n", 1)[0]
    rows = [[cell.strip() for cell in row.split("|")[1:3]] for row in table.splitlines()[2:]]
    assert [answer for answer, _ in rows] == ["unreachable", *ANSWERS]
    for answer, examples in rows[1:]:
        shown = re.findall(r"\b0x[0-9A-F]{1,4}x*\b", examples)
        assert shown
        for status in shown:
            for digit in "0F" if "xx" in status[2:] else "0":
                code = int(status[:2] + status[2:].replace("x", digit), 16)
                assert retry.answer_of_dimse(code) is ANSWERS[answer], f"{answer}: {status}"


def test_each_row_of_what_a_peer_may_answer_names_tests_that_exist():
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_\w+)`", text))
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(named) > 10
    assert not {name for name in named if not any(f"def {name}(" in source for source in sources)}
