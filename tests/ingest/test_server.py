"""What the sender hears, and what is kept of it, when something goes wrong that nobody thought of."""

import json
import logging
import threading
import time

import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE, build_role
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification

from cxr_dicom import scp
from cxr_dicom.ingest.intake import Intake
from cxr_dicom.ingest.upper_layer import UpperLayer
from tests.raw_peer import ABORT, ACCEPTED, DATA, Peer, pdu, request
from tests.raw_peer import store as sent
from tests.service_helpers import associated, certificate, listening, send, wait_for


def told(caplog, action):
    return [record for record in caplog.records if record.getMessage() == action]


def test_an_echo_is_answered_with_success(here):
    with associated(here.port, Verification) as association:
        assert association.send_c_echo().Status == 0x0000


def test_the_time_to_ask_for_an_association_begins_with_the_connection(tmp_path):
    with listening(tmp_path, listener={"negotiation_seconds": 1, "idle_seconds": 60}) as here:
        with Peer(here.port) as peer:
            assert peer.is_closed(30)
        (line,) = wait_for(lambda: here.audit().splitlines())
    assert json.loads(line)["reason"] == "asked for no association in listener.negotiation_seconds = 1"


def test_the_log_says_where_the_listener_listens_and_whom_it_serves(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="cxr_dicom")
    with listening(tmp_path) as here:
        (alone,) = told(caplog, "listener_loopback_only")
        (started,) = told(caplog, "listener_started")
    assert alone.fields["status"] == "listener.calling_addresses is empty"
    assert (started.fields["address"], started.fields["port"]) == ("127.0.0.1", here.port)


def test_a_listener_that_stops_waits_for_nothing_but_what_is_at_work(here, monkeypatch):
    monkeypatch.setattr(scp, "_ANSWER_SECONDS", 3600.0)
    with Peer(here.port) as peer:
        assert peer.is_associated()
        for seconds in (0.1, 3600):
            stopping = threading.Thread(target=here.listener.stop, args=(seconds,), daemon=True)
            stopping.start()
            stopping.join(30)
            assert not stopping.is_alive()
        assert peer.answer()[0] == ABORT
    (line,) = wait_for(lambda: here.audit().splitlines())
    said = json.loads(line)
    assert (said["action"], said["reason"]) == ("association_broken", "the service stopped")


def test_a_listener_that_stops_aborts_what_stays_in_the_middle_of_a_pdu(here, monkeypatch):
    monkeypatch.setattr(scp, "_ANSWER_SECONDS", 0.1)
    with Peer(here.port) as peer:
        assert peer.is_associated()
        peer.send(pdu(DATA, b"\0" * 10, length=1000))
        here.listener.stop(0.1)
        assert peer.answer()[0] == ABORT


def test_an_image_that_is_taken_while_the_listener_stops_is_answered_before_the_abort(here, image, monkeypatch):
    store, is_at_work = Intake.store, threading.Event()

    def slow(*arguments, **options):
        is_at_work.set()
        time.sleep(0.5)
        return store(*arguments, **options)

    monkeypatch.setattr(Intake, "store", slow)
    with Peer(here.port) as peer:
        assert peer.is_associated()
        peer.send(sent(image))
        assert is_at_work.wait(30)
        here.listener.stop(0.0)
        assert peer.status() == 0
        assert peer.answer()[0] == ABORT
    assert len(here.files()) == 1


def test_ledger_and_trail_keep_who_sent_an_image_and_from_where(here, image):
    assert send(here.port, image, calling="ROOM_2") == [0]
    (row,) = here.ledger.rows("SELECT sender FROM instances")
    assert tuple(row) == ("ROOM_2",)
    (line,) = map(json.loads, here.audit().splitlines())
    assert (line["sender"], line["address"]) == ("ROOM_2", "127.0.0.1")


def test_a_refusal_carries_its_code_to_the_sender(here, image):
    image.StudyInstanceUID = "1/2"
    with associated(here.port, (image.SOPClassUID, image.file_meta.TransferSyntaxUID)) as association:
        answer = association.send_c_store(image)
    assert (answer.Status, answer.ErrorComment) == (0xC000, "INVALID_UID")


def test_an_error_of_ours_is_told_to_the_sender_and_the_log_and_the_next_image_is_taken(
    here, image, monkeypatch, caplog
):
    def breaks(*_, **__):
        monkeypatch.undo()
        raise ValueError("Doe^Jane")

    monkeypatch.setattr(Intake, "store", breaks)
    with associated(here.port, (image.SOPClassUID, image.file_meta.TransferSyntaxUID)) as association:
        answer = association.send_c_store(image)
        assert (answer.Status, answer.ErrorComment) == (0xA700, "INTERNAL_ERROR")
        assert association.send_c_store(image).Status == 0
    (record,) = told(caplog, "store_failed")
    assert record.fields["error"].startswith("ValueError at test_server.py:")
    assert "Doe" not in caplog.text


def test_who_broke_off_is_named_once_he_said_his_name(here):
    with Peer(here.port) as peer:
        peer.send(request(calling=b"ROOM_2"))
        assert peer.answer()[0] == ACCEPTED
        peer.send(pdu(9))
        assert peer.is_closed()
    with Peer(here.port) as peer:
        peer.send(pdu(9))
    lines = wait_for(lambda: len(found := [json.loads(line) for line in here.audit().splitlines()]) == 2 and found)
    assert [(line["action"], line.get("sender")) for line in lines] == [
        ("association_broken", "ROOM_2"),
        ("association_broken", None),
    ]


def test_an_error_in_a_report_of_storage_commitment_is_told(tmp_path, caplog):
    def breaks(*_):
        raise ValueError("Doe^Jane")

    information = Dataset()
    information.TransactionUID = "1.2.3"
    entity = AE("PACS")
    entity.add_requested_context(StorageCommitmentPushModel)
    role = build_role(StorageCommitmentPushModel, scp_role=True)
    with listening(tmp_path) as here:
        here.listener._on_commitment = breaks
        association = entity.associate("127.0.0.1", here.port, ae_title="CXRDICOM", ext_neg=[role])
        status, _ = association.send_n_event_report(
            information, 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1"
        )
        association.release()
    assert status.Status == 0x0110
    (record,) = told(caplog, "commitment_report_failed")
    assert record.fields["error"].startswith("ValueError at test_server.py:")
    assert "Doe" not in caplog.text


def test_a_connection_that_is_turned_away_is_told_with_its_address(tmp_path):
    with listening(tmp_path, listener={"calling_addresses": ["192.0.2.1"]}) as here, Peer(here.port) as peer:
        assert peer.is_closed()
        (line,) = here.audit().splitlines()
    assert (json.loads(line)["action"], json.loads(line)["address"]) == ("connection_refused", "127.0.0.1")


def test_a_failed_tls_handshake_is_told_with_the_address_and_leaves_nothing(tmp_path, monkeypatch):
    unforeseen = []
    monkeypatch.setattr(threading, "excepthook", unforeseen.append)
    server, key = certificate(tmp_path, "server")
    tls = {"certificate": server, "key": key}
    with listening(tmp_path / "spool", listener={"tls": tls}) as here:
        with Peer(here.port) as peer:
            peer.send(b"no TLS at all")
            assert peer.is_closed()
        wait_for(lambda: here.listener.connections == 0)
        (line,) = wait_for(lambda: here.audit().splitlines())
    said = json.loads(line)
    assert (said["action"], said["address"], said["reason"]) == ("connection_refused", "127.0.0.1", "TLS: SSLError")
    assert unforeseen == []


@pytest.mark.parametrize(("where", "at"), [(Association, "_run_reactor"), (UpperLayer, "start")])
def test_an_error_in_the_thread_of_an_association_is_one_line_and_gives_its_room_back(here, monkeypatch, where, at):
    def breaks(*_):
        raise RuntimeError("can't start new thread for Doe^Jane")

    monkeypatch.setattr(where, at, breaks)
    with Peer(here.port) as peer:
        peer.send(request())
        assert peer.is_closed()
    (line,) = wait_for(lambda: here.audit().splitlines())
    said = json.loads(line)
    assert said["action"] == "association_broken"
    assert said["reason"].startswith("broke the protocol (RuntimeError at test_server.py:")
    wait_for(lambda: here.listener.connections == 0)


def test_a_connection_for_which_there_is_no_thread_is_closed_and_gives_its_room_back(here, monkeypatch):
    start = threading.Thread.start

    def starts_none(thread):
        if getattr(thread, "_target", None) and thread._target.__name__ == "process_request_thread":
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", starts_none)
        for _ in range(here.listener._server.admission.most_connections + 1):
            with Peer(here.port) as peer:
                assert peer.is_closed()
    wait_for(lambda: here.listener.connections == 0)
    lines = [json.loads(line) for line in here.audit().splitlines()]
    assert len(lines) < here.listener._server.admission.most_connections  # the disk is not filled with them
    assert (lines[0]["action"], lines[0]["address"], lines[0]["reason"]) == (
        "connection_refused",
        "127.0.0.1",
        "RuntimeError",
    )
    with associated(here.port, Verification) as association:
        assert association.is_established
