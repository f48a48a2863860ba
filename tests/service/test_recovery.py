"""Starts after bad days: a ledger that is missing, older than its files, or damaged."""

import json
import shutil
import sqlite3
import time
import urllib.error
import urllib.request
from contextlib import closing, contextmanager

import pytest
from click.testing import CliRunner

from cxr_dicom.cli import cli
from cxr_dicom.service import recovery
from cxr_dicom.service.service import Service
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import FILE_NAME, DamagedLedgerError, Ledger
from cxr_dicom.store.spool import Spool
from cxr_dicom.synthetic import radiograph
from tests.service_helpers import (
    FastPipeline,
    archive,
    derived_uid,
    free_port,
    listening,
    send,
    serving,
    settings,
    wait_for,
    wait_for_state,
)


def images(number, first=0):
    return [radiograph(32, 32, seed=seed, study=str(seed)) for seed in range(first, first + number)]


def to(port):
    return [{"kind": "dicom", "name": "pacs", "address": "127.0.0.1", "port": port, "ae_title": "ARCHIVE"}]


def receive(folder, sent):
    """Take images in, acknowledged, without a worker."""
    with listening(folder) as here:
        assert send(here.port, *sent) == [0] * len(sent)
    return {path: path.read_bytes() for path in here.files()}


@contextmanager
def started(folder):
    """Do what a start does before anything else; yields (ledger, what was found)."""
    spool, ledger = Spool(settings(folder)), Ledger(folder)
    try:
        yield ledger, recovery.recover(spool, ledger, AuditTrail(folder))
    finally:
        ledger.close()


def lose_ledger(folder):
    for path in folder.glob(f"{FILE_NAME}*"):
        path.unlink()


def damage(folder):
    """Overwrite the middle of the ledger's file, as a bad disk does."""
    path = folder / FILE_NAME
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + bytes(range(256)) * ((len(whole) - 4096) // 256))


def test_without_a_ledger_every_acknowledged_image_is_taken_in_again(tmp_path):
    sent = images(4)
    files = receive(tmp_path, sent)
    lose_ledger(tmp_path)
    with started(tmp_path) as (ledger, found):
        assert (found.taken_in, found.set_aside) == (4, 0)
        assert {path: path.read_bytes() for path in files} == files
        assert ledger.stories.paths() == set(files)
        assert {row["state"] for row in ledger.stories.summaries()} == {"RECEIVING"}
        (row,) = ledger.stories.show(sent[0].StudyInstanceUID)["instances"]
        way = (row["sender"], row["called_ae_title"])
        assert way == ("MODALITY", "CXRDICOM")  # from the audit trail: rules and routes ask for it


def test_objects_that_were_sent_before_the_ledger_was_lost_keep_their_bytes(tmp_path):
    (image,) = images(1)
    with archive() as (port, received), serving(tmp_path, destinations=to(port)) as service:
        send(service.settings.listener.port, image)
        wait_for_state(service, image.StudyInstanceUID, "SENT", seconds=60)
    (made,) = tmp_path.glob("objects/*/*")
    before = (made.stat().st_ino, made.read_bytes())
    lose_ledger(tmp_path)
    with archive() as (port, received), serving(tmp_path, destinations=to(port)) as service:
        wait_for_state(service, image.StudyInstanceUID, "SENT", seconds=60)
        assert list(received) == [derived_uid(image.SOPInstanceUID)]
    assert (made.stat().st_ino, made.read_bytes()) == before


def test_backup_and_restore_as_documented_lose_nothing(tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    early, late = images(2), images(3, first=2)
    with listening(here) as running:
        assert send(running.port, *early) == [0, 0]
        there.mkdir(mode=0o700)
        with closing(sqlite3.connect(here / FILE_NAME)) as from_, closing(sqlite3.connect(there / FILE_NAME)) as copy:
            from_.backup(copy)  # first the ledger
        assert send(running.port, *late) == [0, 0, 0]
        for name in ("sources", "objects"):
            shutil.copytree(here / name, there / name)  # then the files
        shutil.copy(here / "audit.jsonl", there)
    with archive() as (port, received), serving(there, destinations=to(port)) as service:
        wait_for(lambda: received.keys() == {derived_uid(each.SOPInstanceUID) for each in (*early, *late)}, 60)
        for each in (*early, *late):
            wait_for_state(service, each.StudyInstanceUID, "SENT", seconds=60)
        assert service.problems() == {}
    assert len(list(there.glob("sources/*/*"))) == 5


def test_what_cannot_be_taken_in_is_set_aside_told_and_never_deleted(tmp_path):
    port = free_port()
    (image,) = images(1)
    (good,) = receive(tmp_path, [image])
    torn = good.with_name(f"1.2.{good.name}")
    torn.write_bytes(good.read_bytes()[:-9])  # a name that does not fit
    made = tmp_path / "objects" / "1.2" / "y.dcm"
    made.parent.mkdir()
    made.write_bytes(b"an object of a study that is no more")
    (tmp_path / "part" / "torn").write_bytes(b"never acknowledged")
    with serving(tmp_path, service={"metrics_port": port}) as service:
        wait_for_state(service, image.StudyInstanceUID, "ENCODED", seconds=60)
        told = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/health"))
        assert told["status"] == "degraded"
        assert told["problems"]["unknown"].endswith("unknown: 2")
    unknown = tmp_path / "unknown"
    assert (unknown / made.relative_to(tmp_path)).read_bytes() == b"an object of a study that is no more"
    assert (unknown / torn.relative_to(tmp_path)).is_file()
    assert list((tmp_path / "part").iterdir()) == []


def test_a_superseded_file_is_deleted_and_one_that_came_after_the_ledger_takes_its_place(tmp_path):
    old, new = images(1)[0], images(1)[0]
    new.ImageComments = "sent again"
    with listening(tmp_path) as here:
        send(here.port, old)
        first = here.files()
        copy = tmp_path / "copy"
        shutil.copy(first[0], copy)
        with (
            closing(sqlite3.connect(tmp_path / "backup")) as backup,
            closing(sqlite3.connect(tmp_path / FILE_NAME)) as ledger,
        ):
            ledger.backup(backup)
        time.sleep(0.01)
        send(here.port, new)
        assert len(here.files()) == 2
        recovery.delete_discarded(here.spool, here.ledger, older_than_seconds=60)
        assert len(here.files()) == 2  # a worker may still read it
        recovery.delete_discarded(here.spool, here.ledger)
        (second,) = here.files()
        assert here.ledger.stories.paths() == {second} != set(first)
    lose_ledger(tmp_path)
    (tmp_path / "backup").rename(tmp_path / FILE_NAME)
    copy.rename(first[0])
    with started(tmp_path) as (ledger, _):
        assert ledger.stories.paths() == {second}


def test_what_waits_for_a_destination_that_left_the_settings_is_held_and_told(tmp_path):
    sent, port, config = images(2), free_port(), tmp_path / "c.toml"
    config.write_text(f'[spool]\nfolder = "{tmp_path / "spool"}"\n')
    with serving(tmp_path / "spool", destinations=to(port)) as service:
        send(service.settings.listener.port, *sent)
        for each in sent:
            wait_for_state(service, each.StudyInstanceUID, "ENCODED", seconds=60)
    made = settings(tmp_path / "spool")  # by a typing error without [[destinations]]
    service = Service(made, Spool(made), build=FastPipeline)
    problems = service.problems()
    service.stop()
    assert problems["destination pacs"].text.startswith("not in the settings; objects that wait for it: 2")
    with archive(port=port) as (_, received), serving(tmp_path / "spool", destinations=to(port)) as service:
        wait_for(lambda: len(received) == 2, 60)
        for each in sent:
            wait_for_state(service, each.StudyInstanceUID, "SENT", seconds=60)
        assert service.problems() == {}
    refused = CliRunner().invoke(cli, ["jobs", "withdraw", "--destination", "pacs", "--yes", "--config", str(config)])
    assert (refused.exit_code, "nothing waits for it" in refused.output) == (2, True)


def test_what_a_person_forgot_does_not_come_back_after_a_crash(tmp_path):
    (image,) = images(1)
    (path,) = receive(tmp_path, [image])
    ledger = Ledger(tmp_path)
    ledger.stories.forget(image.StudyInstanceUID)  # and a crash, before the file is deleted
    ledger.close()
    with started(tmp_path) as (ledger, found):
        assert ledger.stories.summaries() == []
        assert (found.taken_in, found.set_aside) == (0, 0)
    assert not path.exists()


@pytest.mark.parametrize("spoil", [damage, lambda folder: (folder / FILE_NAME).write_bytes(b"no ledger" * 999)])
def test_a_damaged_ledger_is_one_line_and_can_be_made_anew(tmp_path, spoil):
    spool, config = tmp_path / "spool", tmp_path / "c.toml"
    config.write_text(f'[spool]\nfolder = "{spool}"\nmin_free_mb = 0\n[listener]\nenabled = false\n')
    sent = images(3)
    files = receive(spool, sent)
    spoil(spool)

    def run(*words):
        return CliRunner().invoke(cli, [*words, "--config", str(config)], env={"COLUMNS": "400"})

    checked = run("check", "--no-models")
    assert checked.exit_code == 3
    (line,) = [line for line in checked.output.splitlines() if " ledger: " in line]
    assert line.startswith("wrong")
    assert "damaged" in line
    assert "jobs rebuild" in line
    listed = run("jobs", "list")
    assert (listed.exit_code, listed.exception.__class__) == (2, SystemExit)
    assert len(listed.output.strip().splitlines()) == 1
    made = settings(spool)
    with pytest.raises(DamagedLedgerError):
        Service(made, Spool(made))
    rebuilt = run("jobs", "rebuild", "--yes")
    assert rebuilt.exit_code == 0, rebuilt.output
    assert "3 images taken in, 0 files set aside" in rebuilt.output
    assert {path: path.read_bytes() for path in files} == files
    assert list(spool.glob(f"{FILE_NAME}.*.old"))
    assert len(json.loads(run("jobs", "list", "--json").output)) == 3


def test_a_ledger_in_use_is_not_rebuilt(tmp_path):
    config = tmp_path / "c.toml"
    config.write_text(f'[spool]\nfolder = "{tmp_path}"\n')
    spool = Spool(settings(tmp_path))
    spool.lock()
    try:
        refused = CliRunner().invoke(cli, ["jobs", "rebuild", "--yes", "--config", str(config)])
    finally:
        spool.unlock()
    assert refused.exit_code == 2
    assert "in use by another service" in refused.output
