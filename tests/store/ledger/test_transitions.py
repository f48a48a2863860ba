"""The states of a study: each way in the table is gone once, no other can be, and the docs say the same."""

import itertools
import re

import pytest

from cxr_dicom.records import DeliveryStatus, Outcome, Reason, Receipt, StudyState
from cxr_dicom.store.ledger import Dispatch
from cxr_dicom.store.ledger.transitions import TRANSITIONS, expect_legal, is_legal
from tests import ROOT
from tests.store.ledger.helpers import STUDY, actions, claimed, instance, result, say, sent, state

LATE = "1.2.3.1.2"


def arrive(ledger, uid="1.2.3.1.1"):
    ledger.studies.add(instance(ledger, uid), f"digest of {uid}")


def running(ledger):
    arrive(ledger)
    return claimed(ledger)


def finish(ledger, *objects, claim=None, verify=False, **more):
    claim = claim or running(ledger)
    ledger.studies.finish(
        claim, result(ledger, claim, *objects, **more), [], [Dispatch(destination="pacs", verify=verify)]
    )


def refused(ledger):
    sent(ledger, "pacs")
    say(ledger, DeliveryStatus.REFUSED)


def failed(ledger):
    finish(ledger, outcome=Outcome.FAILED, reason=Reason.MODEL_FAILED)


def ignored(ledger):
    finish(ledger, outcome=Outcome.SKIPPED, reason=Reason.NOT_CHEST)


def held(ledger):
    running(ledger)
    ledger.studies.take_back()
    assert ledger.studies.claim("w", max_interruptions=1) is None


def delivered(ledger, *, verify=False):
    sent(ledger, "pacs", verify=verify)
    say(ledger, DeliveryStatus.ACCEPTED)


def committed(ledger):
    delivered(ledger, verify=True)
    say(ledger, DeliveryStatus.COMMITTED, is_verifying=True)


def receipt(status):
    return Receipt(sop_instance_uid="9.1", destination="pacs", delivery_status=status, status="x")


def dirty(ledger):
    claim = running(ledger)
    arrive(ledger, LATE)
    return claim


def overtaken(ledger):
    """A newer result is committed while the old one is under way."""
    sent(ledger, "pacs", verify=True)
    arrive(ledger, LATE)
    finish(ledger, "9.2", claim=claimed(ledger), verify=True, key="other")
    say(ledger, DeliveryStatus.ACCEPTED, "9.2")
    say(ledger, DeliveryStatus.COMMITTED, "9.2", is_verifying=True)


def two_destinations(ledger):
    claim = running(ledger)
    dispatches = [Dispatch(destination="pacs", verify=True), Dispatch(destination="other", verify=False)]
    ledger.studies.finish(claim, result(ledger, claim, "9.1"), [], dispatches)
    say(ledger, DeliveryStatus.ACCEPTED)
    say(ledger, DeliveryStatus.COMMITTED, is_verifying=True)


def postpone(ledger, claim):
    ledger.studies.postpone(claim, result(ledger, claim, outcome=Outcome.FAILED, reason=Reason.INTERNAL_ERROR), 0)


S = StudyState
WAYS = [  # from, to, how the study comes there, and what then happens; the latter is given what the former returns
    (S.RECEIVING, S.COMPLETE, arrive, lambda ledger, _: ledger.studies.complete(STUDY)),
    (
        S.COMPLETE,
        S.RUNNING,
        lambda ledger: (arrive(ledger), ledger.studies.complete(STUDY)),
        lambda ledger, _: claimed(ledger),
    ),
    (
        S.COMPLETE,
        S.RECEIVING,
        lambda ledger: (arrive(ledger), ledger.studies.complete(STUDY)),
        lambda ledger, _: arrive(ledger, LATE),
    ),
    (
        S.COMPLETE,
        S.HELD,
        lambda ledger: (running(ledger), ledger.studies.take_back()),
        lambda ledger, _: ledger.studies.claim("w", max_interruptions=1),
    ),
    (S.RUNNING, S.ENCODED, running, lambda ledger, claim: finish(ledger, "9.1", claim=claim)),
    (
        S.RUNNING,
        S.IGNORED,
        running,
        lambda ledger, claim: finish(ledger, claim=claim, outcome=Outcome.SKIPPED, reason=Reason.NOT_CHEST),
    ),
    (
        S.RUNNING,
        S.DEAD,
        running,
        lambda ledger, claim: finish(ledger, claim=claim, outcome=Outcome.FAILED, reason=Reason.MODEL_FAILED),
    ),
    (S.RUNNING, S.COMPLETE, running, postpone),
    (S.RUNNING, S.COMPLETE, running, lambda ledger, _: ledger.studies.take_back("w")),
    (S.RUNNING, S.RECEIVING, dirty, lambda ledger, claim: finish(ledger, "9.1", claim=claim)),
    (
        S.ENCODED,
        S.SENT,
        lambda ledger: sent(ledger, "pacs"),
        lambda ledger, _: say(ledger, DeliveryStatus.ACCEPTED),
    ),
    (
        S.ENCODED,
        S.COMMITTED,
        two_destinations,
        lambda ledger, _: say(ledger, DeliveryStatus.ACCEPTED, destination="other"),
    ),
    (S.ENCODED, S.DEAD, lambda ledger: sent(ledger, "pacs"), lambda ledger, _: say(ledger, DeliveryStatus.REFUSED)),
    (S.ENCODED, S.RECEIVING, sent, lambda ledger, _: arrive(ledger, LATE)),
    (
        S.SENT,
        S.COMMITTED,
        lambda ledger: delivered(ledger, verify=True),
        lambda ledger, _: say(ledger, DeliveryStatus.COMMITTED, is_verifying=True),
    ),
    (
        S.SENT,
        S.ENCODED,
        lambda ledger: delivered(ledger, verify=True),
        lambda ledger, _: ledger.deliveries.send_again(receipt(DeliveryStatus.REFUSED), retry_at=0),
    ),
    (
        S.SENT,
        S.ENCODED,
        lambda ledger: delivered(ledger, verify=True),
        lambda ledger, _: ledger.deliveries.withdraw("pacs"),
    ),
    (
        S.SENT,
        S.DEAD,
        lambda ledger: delivered(ledger, verify=True),
        lambda ledger, _: ledger.deliveries.give_up(receipt(DeliveryStatus.REFUSED), "a day", is_verifying=True),
    ),
    (S.SENT, S.RECEIVING, delivered, lambda ledger, _: arrive(ledger, LATE)),
    (S.COMMITTED, S.SENT, overtaken, lambda ledger, _: say(ledger, DeliveryStatus.ACCEPTED)),
    (S.COMMITTED, S.RECEIVING, committed, lambda ledger, _: arrive(ledger, LATE)),
    (S.IGNORED, S.COMPLETE, ignored, lambda ledger, _: actions(ledger).retry(STUDY)),
    (S.IGNORED, S.RECEIVING, ignored, lambda ledger, _: arrive(ledger, LATE)),
    (S.HELD, S.COMPLETE, held, lambda ledger, _: actions(ledger).retry(STUDY)),
    (S.DEAD, S.COMPLETE, failed, lambda ledger, _: actions(ledger).retry(STUDY)),
    (S.DEAD, S.ENCODED, refused, lambda ledger, _: actions(ledger).retry(STUDY)),
    (S.DEAD, S.RECEIVING, failed, lambda ledger, _: arrive(ledger, LATE)),
    (S.COMMITTED, S.ENCODED, committed, lambda ledger, _: actions(ledger).resend(STUDY)),
    (S.SENT, S.ENCODED, delivered, lambda ledger, _: actions(ledger).resend(STUDY, "pacs")),
    *(
        (origin, S.COMPLETE, come, lambda ledger, _: actions(ledger).reprocess(STUDY, ["m"]))
        for origin, come in (
            *((S.ENCODED, sent), (S.SENT, delivered), (S.COMMITTED, committed)),
            *((S.IGNORED, ignored), (S.HELD, held), (S.DEAD, refused)),
        )
    ),
]


@pytest.mark.parametrize(("origin", "target", "come", "happen"), WAYS, ids=lambda value: str(value)[:12])
def test_each_way_is_gone(ledger, origin, target, come, happen):
    found = come(ledger)
    assert state(ledger) == origin
    happen(ledger, found)
    assert state(ledger) == target


def test_each_way_of_the_table_has_a_test():
    assert {(origin, target) for origin, target, *_ in WAYS} == {
        (origin, target) for origin, targets in TRANSITIONS.items() for target in targets
    }


@pytest.mark.parametrize(
    ("origin", "target"), [pair for pair in itertools.permutations(StudyState, 2) if not is_legal(*pair)]
)
def test_no_other_way_can_be_gone(ledger, origin, target):
    sent(ledger)
    with pytest.raises(ValueError, match=f"expected {origin} to become one of .*, got {target}"):
        ledger.studies.move(STUDY, [origin], target)
    with pytest.raises(ValueError, match=str(target)):
        expect_legal([origin], target)


def test_a_study_that_is_held_stays_held_when_an_image_comes(ledger):
    held(ledger)
    arrive(ledger, LATE)
    assert state(ledger) == "HELD"


def test_the_docs_say_the_same():
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([A-Z]+) \| [^|]* \| ([^|]*) \|$", text, re.MULTILINE)
    found = {name: set(re.findall(r"\b[A-Z]{4,}\b", ways)) for name, ways in rows}
    assert found == {str(origin): {str(target) for target in targets} for origin, targets in TRANSITIONS.items()}
