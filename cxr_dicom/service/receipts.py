"""What becomes of a receipt: ledger and audit trail keep it, and a decision follows."""

from __future__ import annotations

import time

from pydicom import Dataset

from cxr_dicom.deliver.destinations import dicom
from cxr_dicom.records import DeliveryStatus, EncodedObject, Receipt
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import DueDelivery, Ledger
from cxr_dicom.system import retry


def record(
    ledger: Ledger,
    audit: AuditTrail,
    receipt: Receipt,
    due: DueDelivery,
    *,
    is_verifying: bool,
    twin: EncodedObject | None = None,
    give_up_after: float = retry.GIVE_UP_AFTER,
) -> None:
    """Write a receipt to ledger and audit trail, and decide what happens next.

    Parameters
    ----------
    is_verifying
        Whether the object was asked for, not sent.
    twin
        What is sent instead of an object that was refused.
    give_up_after
        Seconds of refusals; outages do not count.
    """
    is_lost = receipt.delivery_status is DeliveryStatus.REFUSED and is_verifying
    if twin is not None:
        ledger.deliveries.replace(receipt, twin)
    elif is_lost or receipt.delivery_status is DeliveryStatus.FAILED:
        decision = _decide(receipt, due, give_up_after)
        if isinstance(decision, retry.GiveUp):
            ledger.deliveries.give_up(receipt, decision.reason, is_verifying=is_verifying)
        elif is_lost:
            ledger.deliveries.send_again(receipt, retry_at=decision.time)
        else:
            ledger.deliveries.record(receipt, retry_at=decision.time, is_verifying=is_verifying)
    else:
        ledger.deliveries.record(receipt, is_verifying=is_verifying)
    audit.note(
        f"object_{receipt.delivery_status}",
        study_instance_uid=due.study_instance_uid,
        sop_instance_uid=receipt.sop_instance_uid,
        destination=receipt.destination,
        status=receipt.status,
    )


def _decide(receipt: Receipt, due: DueDelivery, give_up_after: float) -> retry.RetryAt | retry.GiveUp:
    now, since = time.time(), due.first_attempt_at
    return retry.decide(
        attempts=due.attempts + 1,
        first_attempt_at=now if since is None else retry.without_absence(since, due_at=due.found_at, now=now),
        now=now,
        retry_after=receipt.retry_after,
        give_up_after=give_up_after,
        is_outage=receipt.status == retry.OUTAGE,
    )


def on_commitment(
    ledger: Ledger,
    audit: AuditTrail,
    transaction_uid: str,
    information: Dataset,
    *,
    give_up_after: float = retry.GIVE_UP_AFTER,
) -> bool:
    """Record a report that came to the listener; tell whether the transaction is ours."""
    name = ledger.deliveries.commitment_destination(transaction_uid)
    if name is None:
        return False
    for receipt in dicom.read_report(name, information):
        due = ledger.deliveries.awaiting_verification(receipt.sop_instance_uid, name)
        if due:
            record(ledger, audit, receipt, due, is_verifying=True, give_up_after=give_up_after)
    return True
