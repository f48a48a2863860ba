"""Peers that are asked whether they keep what they took: what they say, when they say it, and what follows."""

import threading
from contextlib import contextmanager
from functools import partial

import pytest
from pydicom.uid import SecondaryCaptureImageStorage
from pynetdicom import AE, evt
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from cxr_dicom.deliver import build_destination
from cxr_dicom.records import DeliveryStatus, Receipt
from cxr_dicom.service.courier import Courier
from cxr_dicom.service.receipts import record
from cxr_dicom.service.worker import Worker
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.synthetic import radiograph
from cxr_dicom.system import retry
from tests.service_helpers import FastPipeline, archive, free_port, listening, send, serving, wait_for, wait_for_state


def to(port):
    about = {"kind": "dicom", "name": "pacs", "address": "127.0.0.1", "port": port, "ae_title": "ARCHIVE"}
    return {**about, "verify": "commitment"}


def lost(report):
    """Say that no object is there."""
    report.FailedSOPSequence = report.ReferencedSOPSequence
    del report.ReferencedSOPSequence
    for item in report.FailedSOPSequence:
        item.FailureReason = 0x0112


@contextmanager
def losing_archive(spoil=lost, answers=None):
    """An archive that takes each object, and says on the association that asks, after its answer, that it has none.

    Or what ``spoil`` makes of a report that all are there; ``answers`` gets what it is told of the report.
    """
    received, reports = [], []

    def store(event):
        received.append(str(event.request.AffectedSOPInstanceUID))
        return 0x0000

    def commit(event):
        reports.append(event.action_information)
        spoil(reports[-1])
        return 0x0000, None

    def answered(event):
        if reports and isinstance(event.pdu, P_DATA_TF):
            threading.Thread(target=tell, args=(event.assoc, reports.pop())).start()

    def tell(association, report):
        about = (report, 2, StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
        told, _ = association.send_n_event_report(*about)
        if answers is not None:
            answers.append(told.get("Status"))

    entity = AE("ARCHIVE")
    entity.add_supported_context(SecondaryCaptureImageStorage)
    entity.add_supported_context(StorageCommitmentPushModel)
    handlers = [(evt.EVT_C_STORE, store), (evt.EVT_N_ACTION, commit), (evt.EVT_PDU_SENT, answered)]
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        yield server.server_address[1], received
    finally:
        server.shutdown()


@pytest.fixture
def courier(tmp_path):
    """Return a courier for the archive at a port, with one object to send."""
    image = radiograph(32, 32)

    def make(port):
        made = here.settings.model_validate(here.settings.model_dump() | {"destinations": [to(port)]})
        assert send(here.port, image) == [0]
        here.ledger.studies.complete(image.StudyInstanceUID)
        assert Worker(made, FastPipeline(made), "w").step()
        opened = partial(here.ledger.deliveries.open_commitment, destination="pacs")
        return Courier(build_destination(made.destinations[0], opened), here.ledger, audit, here.spool)

    with listening(tmp_path / "spool", listener={"port": free_port()}) as here:
        audit = AuditTrail(here.spool.folder)
        make.ledger, make.audit, make.study = here.ledger, audit, image.StudyInstanceUID
        yield make


def delivery(ledger, study):
    (made,) = ledger.stories.show(study)["objects"]
    (row,) = made["deliveries"]
    return row


def test_what_a_peer_loses_is_sent_again_after_a_pause(courier, monkeypatch):
    monkeypatch.setattr(retry, "FIRST_PAUSE", 600.0)
    with losing_archive() as (port, received):
        made = courier(port)
        for _ in range(4):
            made.carry()
        assert len(received) == 1
    row = delivery(courier.ledger, courier.study)
    assert (row["state"], row["status"], row["attempts"]) == ("waiting", "0x0112", 1)
    assert row["next_attempt_at"] > row["first_attempt_at"] + 250


def other_transaction(report):
    report.TransactionUID = "1.2.3"


def both(report):
    kept = report.ReferencedSOPSequence
    lost(report)
    report.ReferencedSOPSequence = kept


def of_others(report):
    for item in report.ReferencedSOPSequence:
        item.ReferencedSOPInstanceUID = "1.2.3"


def no_reason(report):
    lost(report)
    for item in report.FailedSOPSequence:
        item.FailureReason = None


def two_reasons(report):
    lost(report)
    for item in report.FailedSOPSequence:
        item.FailureReason = [0x0112, 0x0110]


def no_sequence(report):
    del report.ReferencedSOPSequence
    report.add_new("FailedSOPSequence", "LO", "all of them")


def without_an_end(report):
    report.add_new(0x00091010, "OB", bytes(3 << 20))


def padded(report):
    for item in report.ReferencedSOPSequence:
        item.ReferencedSOPInstanceUID += "\0"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("spoil", "status", "told"),
    [
        (other_transaction, "REQUESTED", 0x0115),
        (both, "0x0112", 0x0000),
        (of_others, "REQUESTED", 0x0000),
        (no_reason, "0x0110", 0x0000),
        (two_reasons, "0x0110", 0x0000),
        (no_sequence, "REQUESTED", 0x0000),
        (without_an_end, "REQUESTED", None),
        (padded, "COMMITTED", 0x0000),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_a_report_that_lies_or_makes_no_sense_commits_nothing_and_holds_up_nobody(courier, spoil, status, told):
    answers = []
    with losing_archive(spoil, answers) as (port, _):
        made = courier(port)
        made.carry()
        made.carry()
        row = delivery(courier.ledger, courier.study)
        assert (row["status"], row["state"] == "committed") == (status, status == "COMMITTED")
        wait_for(lambda: answers, seconds=30)
    assert answers == [told]


@pytest.mark.parametrize("down_before", [False, True])
def test_what_a_peer_loses_again_and_again_is_given_up_after_a_day(courier, monkeypatch, down_before):
    clock = [1e9]
    monkeypatch.setattr("time.time", lambda: clock[0])
    courier(1)
    ledger, sent_at = courier.ledger, []

    def say(due, answer, *, is_verifying):
        receipt = Receipt(
            sop_instance_uid=due.object.sop_instance_uid, destination="pacs", delivery_status=answer, status="x"
        )
        record(ledger, courier.audit, receipt, due, is_verifying=is_verifying)

    clock[0] += 1
    if down_before:
        (due,) = ledger.deliveries.due("pacs")
        say(due, DeliveryStatus.FAILED, is_verifying=False)
        clock[0] += retry.GIVE_UP_AFTER - 1
    while (row := delivery(ledger, courier.study))["state"] != "refused":
        clock[0] = max(clock[0], row["next_attempt_at"] or 0) + 0.1
        for due in ledger.deliveries.due("pacs"):
            sent_at.append(clock[0])
            say(due, DeliveryStatus.ACCEPTED, is_verifying=False)
        for due in ledger.deliveries.due_for_verification("pacs"):
            say(due, DeliveryStatus.REFUSED, is_verifying=True)
        assert len(sent_at) < 300
    assert 0 <= sent_at[-1] - sent_at[0] - retry.GIVE_UP_AFTER <= retry.LONGEST_PAUSE + 1
    assert ledger.stories.show(courier.study)["state"] == "DEAD"
    assert "in 24 hours" in delivery(ledger, courier.study)["detail"]


def test_a_report_that_comes_before_the_request_is_told_stands(tmp_path):
    image, port = radiograph(64, 48), free_port()
    with (
        archive(report_to=(("127.0.0.1", port), "CXRDICOM")) as (archive_port, _),
        serving(tmp_path, listener={"port": port}, destinations=[to(archive_port)]) as service,
    ):
        send(port, image)
        wait_for_state(service, image.StudyInstanceUID, "COMMITTED")
    ledger = Ledger(tmp_path)  # the courier, which waited for a report on its own association, is at its end
    row = delivery(ledger, image.StudyInstanceUID)
    ledger.close()
    assert (row["state"], row["status"], row["attempts"], row["next_attempt_at"]) == ("committed", "COMMITTED", 0, None)
