import ctypes
import json
import logging
import os
import signal
import threading
import urllib.error
import urllib.request

import numpy as np
import pytest
from pydicom.uid import ComputedRadiographyImageStorage

from cxr_dicom.service.retention import housekeep
from cxr_dicom.store.ledger import LedgerError
from cxr_dicom.store.spool import SpoolError
from cxr_dicom.synthetic import radiograph
from tests.service_helpers import (
    FastPipeline,
    SlowPipeline,
    archive,
    derived_uid,
    free_port,
    send,
    serving,
    state_of,
    wait_for,
    wait_for_state,
)


class DeadlyPipeline(FastPipeline):
    """Dies with its process, as a codec that runs wild does."""

    def process(self, study, folder):
        os.kill(os.getpid(), signal.SIGKILL)


class HangingPipeline(FastPipeline):
    """Stays in foreign code that holds Python's lock, as a decoder with thousands of scans does."""

    def process(self, study, folder):
        ctypes.PyDLL(None).sleep(120)


class GreedyPipeline(FastPipeline):
    """Wants more memory than a worker may have, as a bomb does."""

    def process(self, study, folder):
        np.empty(6 << 30, np.uint8)
        return super().process(study, folder)


class FailingPipeline(FastPipeline):
    def process(self, study, folder):
        raise RuntimeError("Doe^Jane")


class ImpossiblePipeline(FastPipeline):
    def __init__(self, settings):
        from cxr_dicom.errors import WeightsError

        raise WeightsError("no weights here")


def to(port, **more):
    return {"kind": "dicom", "name": "pacs", "address": "127.0.0.1", "port": port, "ae_title": "ARCHIVE", **more}


def test_from_c_store_to_the_archive(tmp_path):
    image = radiograph(64, 48)
    lateral = radiograph(64, 48, seed=1, ViewPosition="LL", PatientOrientation=["A", "F"])
    with archive() as (port, received), serving(tmp_path, destinations=[to(port)]) as service:
        assert send(service.settings.listener.port, image, lateral) == [0, 0]
        wait_for_state(service, image.StudyInstanceUID, "SENT")
        assert list(received) == [derived_uid(image.SOPInstanceUID)]
        story = service.ledger.stories.show(image.StudyInstanceUID)
        assert {row["reason"] for row in story["instances"]} == {None, "NOT_FRONTAL"}
        (path,) = (tmp_path / "objects").glob("*/*")
        sent = received[derived_uid(image.SOPInstanceUID)][0]
        assert path.read_bytes().endswith(sent)  # byte for byte
        trail = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
        assert [line["action"] for line in trail] == [
            "instance_received",
            "instance_received",
            "object_made",
            "study_processed",
            "object_accepted",
        ]


def test_nothing_eligible_is_ignored(tmp_path):
    image = radiograph(64, 48, ViewPosition="LL", PatientOrientation=["A", "F"])
    with serving(tmp_path) as service:
        send(service.settings.listener.port, image)
        wait_for_state(service, image.StudyInstanceUID, "IGNORED")


def test_a_growing_study_runs_again_and_sends_only_what_is_new(tmp_path):
    first, second = radiograph(64, 48), radiograph(64, 48, seed=1)
    with archive() as (port, received), serving(tmp_path, destinations=[to(port)]) as service:
        send(service.settings.listener.port, first)
        wait_for_state(service, first.StudyInstanceUID, "SENT")
        send(service.settings.listener.port, second)
        wait_for(lambda: len(received) == 2)
        wait_for_state(service, first.StudyInstanceUID, "SENT")
        assert [len(copies) for copies in received.values()] == [1, 1]


def test_a_study_that_kills_its_worker_is_held_and_others_go_on(tmp_path, monkeypatch):
    monkeypatch.setattr("cxr_dicom.service.service._WORKER_PAUSE_SECONDS", 0.1)
    image = radiograph(64, 48)
    with serving(tmp_path, build=DeadlyPipeline, service={"max_interruptions": 2}) as service:
        send(service.settings.listener.port, image)
        wait_for_state(service, image.StudyInstanceUID, "HELD", seconds=60)
        wait_for(lambda: not list((tmp_path / "part").iterdir()))  # what the dead were writing


def test_a_study_that_holds_its_worker_is_held_after_its_last_time(tmp_path, monkeypatch):
    monkeypatch.setattr("cxr_dicom.service.service._WORKER_PAUSE_SECONDS", 0.1)
    image = radiograph(64, 48)
    limits = {"max_interruptions": 1, "study_seconds": 1}
    with serving(tmp_path, build=HangingPipeline, service=limits) as service:
        send(service.settings.listener.port, image)
        wait_for(lambda: state_of(service, image.StudyInstanceUID) == "HELD", seconds=60)
        assert "service.study_seconds, 1 times" in service.ledger.stories.show(image.StudyInstanceUID)["reason"]


def test_a_study_that_needs_more_memory_than_a_worker_may_have_fails_and_counts(tmp_path):
    image = radiograph(64, 48)
    with serving(tmp_path, build=GreedyPipeline, service={"worker_memory_mb": 4096}) as service:
        send(service.settings.listener.port, image)
        story = wait_for(
            lambda: (found := service.ledger.stories.show(image.StudyInstanceUID)) and found["attempts"] and found
        )
        assert story["instances"][0]["detail"].startswith("MemoryError")


def test_a_worker_whose_study_was_forgotten_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("cxr_dicom.service.service._FORGOTTEN_SECONDS", 0.5)
    image = radiograph(64, 48)
    with serving(tmp_path, build=HangingPipeline) as service:
        first = service._workers[0]
        send(service.settings.listener.port, image)
        wait_for_state(service, image.StudyInstanceUID, "RUNNING")
        for path in service.ledger.stories.forget(image.StudyInstanceUID):
            path.unlink()
        wait_for(lambda: not first.is_alive)
        assert service.ledger.stories.show(image.StudyInstanceUID) is None


def test_a_study_that_fails_waits_for_its_next_attempt_and_its_text_is_not_told(tmp_path):
    image = radiograph(64, 48)
    with serving(tmp_path, build=FailingPipeline) as service:
        send(service.settings.listener.port, image)
        story = wait_for(
            lambda: (found := service.ledger.stories.show(image.StudyInstanceUID)) and found["attempts"] and found
        )
        assert story["state"] in ("COMPLETE", "RUNNING")
        assert "RuntimeError" in json.dumps(story)
        assert "Doe" not in json.dumps(story) + (tmp_path / "audit.jsonl").read_text()


def test_trouble_of_the_system_does_not_end_the_service(tmp_path, monkeypatch):
    tried = []

    def tick():
        tried.append(True)
        raise OSError("Cannot allocate memory")

    with serving(tmp_path) as service:
        monkeypatch.setattr(service, "tick", tick)
        wait_for(lambda: len(tried) > 1)


def test_models_that_cannot_be_loaded_are_told_at_the_start(tmp_path):
    with pytest.raises(Exception, match="no weights here"), serving(tmp_path, build=ImpossiblePipeline):
        pass


def test_a_stop_finishes_the_study_at_work(tmp_path):
    image = radiograph(64, 48)
    with serving(tmp_path, build=SlowPipeline) as service:
        send(service.settings.listener.port, image)
        wait_for_state(service, image.StudyInstanceUID, "RUNNING")
    with serving(tmp_path, listener={"enabled": False}) as service:
        assert state_of(service, image.StudyInstanceUID) == "ENCODED"


def test_a_stop_that_takes_too_long_releases_it(tmp_path):
    image = radiograph(64, 48)
    with serving(tmp_path, build=SlowPipeline, service={"stop_seconds": 0.01}) as service:
        send(service.settings.listener.port, image)
        wait_for_state(service, image.StudyInstanceUID, "RUNNING")
    with serving(tmp_path, listener={"enabled": False}) as service:
        wait_for_state(service, image.StudyInstanceUID, "ENCODED")


def test_a_stop_on_a_full_disk_is_one(tmp_path, monkeypatch, caplog):
    with serving(tmp_path, listener={"enabled": False}) as service:

        def full(*_, **__):
            raise LedgerError("database or disk is full")

        monkeypatch.setattr(service.ledger.studies, "take_back", full)
        service.stop()
    assert "stop_failed" in caplog.messages


def test_two_services_on_one_spool_are_refused(tmp_path):
    words = f"in use by another service, process {os.getpid()}"
    with serving(tmp_path), pytest.raises(SpoolError, match=words), serving(tmp_path):
        pass


def test_metrics_and_health(tmp_path):
    port = free_port()
    image = radiograph(64, 48)
    with serving(tmp_path, service={"metrics_port": port}) as service:
        send(service.settings.listener.port, image)
        wait_for_state(service, image.StudyInstanceUID, "ENCODED")
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        assert "cxr_dicom_received_total 1" in text
        assert 'cxr_dicom_images_total{outcome="processed",reason=""} 1' in text
        assert 'cxr_dicom_studies{state="ENCODED"} 1' in text
        assert 'cxr_dicom_stage_seconds_total{stage="select"}' in text
        health = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/health"))
        assert health == {"status": "ok", "problems": {}}
        service._spool._min_free = 1 << 60
        health = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/health"))
        assert health["status"] == "degraded"
        assert "MB free" in health["problems"]["spool"]
        service._threads[0].is_alive = lambda: False
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health")
        assert refused.value.code == 503
        assert json.load(refused.value)["problems"][service._threads[0].name] == "stopped"


def test_retention_deletes_files_then_rows(tmp_path):
    image = radiograph(64, 48)
    retention = {"sources_days": 0, "objects_days": 0, "rows_days": 1}
    with archive() as (port, _), serving(tmp_path, destinations=[to(port)], retention=retention) as service:
        send(service.settings.listener.port, image)
        wait_for_state(service, image.StudyInstanceUID, "SENT")
        housekeep(service.settings, service._spool, service.ledger)
        assert list(tmp_path.glob("*/*/*.dcm")) == []
        assert state_of(service, image.StudyInstanceUID) == "SENT"
        assert send(service.settings.listener.port, image) == [0]  # known, and not processed again
        assert state_of(service, image.StudyInstanceUID) == "SENT"


def test_what_retention_deleted_is_not_deleted_again(tmp_path):
    image = radiograph(64, 48)
    retention = {"sources_days": 0, "objects_days": 0, "rows_days": 1}
    with serving(tmp_path, retention=retention) as service:
        send(service.settings.listener.port, image)
        wait_for_state(service, image.StudyInstanceUID, "ENCODED")
        changes = []
        for _ in range(2):
            with service.ledger.transaction() as connection:
                before = connection.total_changes
                housekeep(service.settings, service._spool, service.ledger)
                changes.append(connection.total_changes - before)
        assert changes == [6, 0]  # two files: discarded, forgotten, and no more discarded
        assert list(tmp_path.glob("*/*/*.dcm")) == []


@pytest.mark.parametrize("question", [1, 2], ids=["after all are listed", "just before it is deleted"])
def test_an_image_that_comes_while_its_study_expires_is_kept(tmp_path, monkeypatch, question):
    first, second = radiograph(64, 48), radiograph(64, 48, seed=1)
    retention = {"sources_days": 0, "objects_days": 0, "rows_days": 0}
    with archive() as (port, _), serving(tmp_path, destinations=[to(port)], retention=retention) as service:
        listener = service.settings.listener.port
        send(listener, first)
        wait_for_state(service, first.StudyInstanceUID, "SENT")
        sender = threading.Thread(target=lambda: send(listener, second))
        expired, asked_before = service.ledger.stories.expired, []

        def expired_and_then_an_image(*asked, **about):
            found = expired(*asked, **about)
            asked_before.append(about)
            if len(asked_before) == question:
                sender.start()
                sender.join(0.5)
            return found

        monkeypatch.setattr(service.ledger.stories, "expired", expired_and_then_an_image)
        housekeep(service.settings, service._spool, service.ledger)
        sender.join()
        assert service.ledger.studies.knows(second.SOPInstanceUID)
        wait_for_state(service, first.StudyInstanceUID, "SENT")
        assert {row["outcome"] for row in service.ledger.stories.show(first.StudyInstanceUID)["instances"]} == {
            "processed"
        }


def test_a_worker_that_dies_at_rest_is_told_and_replaced(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("cxr_dicom.service.service._WORKER_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(logging.getLogger("cxr_dicom"), "propagate", True)
    caplog.set_level(logging.WARNING, logger="cxr_dicom")
    with serving(tmp_path) as service:
        before = service._workers[0]
        os.kill(before._process.pid, signal.SIGKILL)
        wait_for(lambda: service._workers[0] is not before)
    assert [record.action for record in caplog.records if record.levelname == "WARNING"][-1] == "worker_died"


@pytest.mark.parametrize(
    ("rules", "passes"),
    [
        ({"modalities": ["DX"]}, False),  # the fast pipeline analyses nothing: no modality is known
        ({"senders": ["MODALITY"]}, True),
        ({"senders": ["OTHER"]}, False),
        ({"findings": ["cardiomegaly"]}, False),
    ],
)
def test_rules_choose_destinations(tmp_path, rules, passes):
    image = radiograph(64, 48)
    folder = {"kind": "folder", "name": "out", "path": tmp_path / "out", "rules": rules}
    with serving(tmp_path / "spool", destinations=[folder]) as service:
        send(service.settings.listener.port, image)
        wait_for_state(service, image.StudyInstanceUID, "SENT" if passes else "ENCODED")
    assert (tmp_path / "out").exists() is passes


def test_a_dead_destination_holds_up_no_other(tmp_path):
    image = radiograph(64, 48)
    out = {"kind": "folder", "name": "out", "path": tmp_path / "out"}
    with serving(tmp_path / "spool", destinations=[to(free_port()), out]) as service:
        send(service.settings.listener.port, image)
        wait_for(lambda: list((tmp_path / "out").glob("*/*.dcm")))
        assert state_of(service, image.StudyInstanceUID) == "ENCODED"
        with archive(port=service.settings.destinations[0].port):
            wait_for_state(service, image.StudyInstanceUID, "SENT")


def test_a_slow_destination_holds_up_no_other_and_loses_nothing(tmp_path):
    images = [radiograph(64, 48, seed=seed) for seed in range(3)]
    asked, may_answer = [], threading.Event()

    def answer(number):
        asked.append(number)
        may_answer.wait(20)
        return 0x0000

    out = {"kind": "folder", "name": "out", "path": tmp_path / "out"}
    with (
        archive(status=answer) as (port, received),
        serving(tmp_path / "spool", destinations=[to(port), out]) as service,
    ):
        study = images[0].StudyInstanceUID
        send(service.settings.listener.port, *images)
        wait_for(lambda: asked and len(list((tmp_path / "out").glob("*/*.dcm"))) == 3)
        assert (received, state_of(service, study)) == ({}, "ENCODED")
        may_answer.set()
        wait_for_state(service, study, "SENT")
        assert sorted(received) == sorted(derived_uid(image.SOPInstanceUID) for image in images)
        assert [len(copies) for copies in received.values()] == [1, 1, 1]


def test_cr_is_taken_too(tmp_path):
    image = radiograph(64, 48, modality="CR")
    assert image.SOPClassUID == ComputedRadiographyImageStorage
    with serving(tmp_path) as service:
        assert send(service.settings.listener.port, image) == [0]


def test_no_thread_is_left_behind(tmp_path):
    before = threading.active_count()
    with archive() as (port, _), serving(tmp_path, destinations=[to(port)]):
        pass
    wait_for(lambda: threading.active_count() <= before)


def test_committed_by_a_report_on_an_association_of_its_own(tmp_path):
    image = radiograph(64, 48)
    port = free_port()
    with (
        archive(report_to=(("127.0.0.1", port), "CXRDICOM")) as (archive_port, received),
        serving(tmp_path, listener={"port": port}, destinations=[to(archive_port, verify="commitment")]) as service,
    ):
        send(port, image)
        wait_for_state(service, image.StudyInstanceUID, "COMMITTED")
        assert len(received) == 1
