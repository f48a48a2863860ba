"""Commands of the service, as a person types them."""

import getpass
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from click.testing import CliRunner

from cxr_dicom.cli import cli
from cxr_dicom.config import load
from cxr_dicom.service.retention import housekeep
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.ledger.schema import MIGRATIONS
from cxr_dicom.synthetic import radiograph
from tests import ROOT
from tests.service_helpers import archive, derived_uid, free_port, listening, send, serving, wait_for, wait_for_state


@pytest.fixture
def config(tmp_path):
    """Write a settings file and return a function that runs a command with it."""

    def write(**tables):
        path = tmp_path / "c.toml"
        lines = [f'[spool]\nfolder = "{tmp_path / "spool"}"\nmin_free_mb = 0']
        for table, keys in tables.items():
            lines.append(f"[{table}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items()))
        path.write_text("\n".join(lines))
        return path

    return write


def run(*arguments):
    return CliRunner().invoke(cli, [str(each) for each in arguments], env={"COLUMNS": "400"})


def test_init_writes_settings_that_can_be_read_and_does_not_overwrite(tmp_path):
    path = tmp_path / "new.toml"
    assert run("init", path).exit_code == 0
    assert load(path).listener.port == 11112
    again = run("init", path)
    assert again.exit_code == 2
    assert "is there already" in again.output


def test_every_example_in_the_template_is_a_setting(tmp_path):
    path = tmp_path / "all.toml"
    run("init", path)
    examples = [
        line[2:] for line in path.read_text().splitlines() if line.startswith("# ") and ("=" in line or "[" in line)
    ]
    examples = [line for line in examples if not line.startswith(("Settings of", "`cxr"))]
    path.write_text("\n".join(['[spool]\nfolder = "spool"', *examples]).replace("# min_free_mb", "min_free_mb"))
    text = path.read_text()
    head, listener = text.split("ae_title = ", 1)
    path.write_text(f"{head}[listener]\nae_title = {listener}")
    settings = load(path)
    assert [each.kind for each in settings.destinations] == ["dicom", "dicomweb"]
    assert settings.destinations[1].rules.findings == ("pleural_effusion",)


def test_check_names_what_is_wrong(config):
    port = free_port()
    path = config(listener={"port": port})
    path.write_text(
        path.read_text()
        + f'\n[[destinations]]\nname = "pacs"\nkind = "dicom"\naddress = "127.0.0.1"\nport = {port}\nae_title = "X"\n'
        "timeout_seconds = 1\n"
    )
    result = run("check", "--no-models", "--config", path)
    assert result.exit_code == 3, result.output
    assert "wrong    destinations.pacs: UNREACHABLE" in result.output
    assert "warning  listener.calling_addresses" in result.output
    assert f"ok       listener.port: 127.0.0.1:{port} is free" in result.output


def test_check_is_content_when_all_is_well(config):
    with archive() as (port, _):
        path = config(listener={"port": free_port()}, encode={"objects": ["secondary-capture"]})
        path.write_text(
            path.read_text()
            + f'\n[[destinations]]\nname = "pacs"\nkind = "dicom"\naddress = "127.0.0.1"\nport = {port}\nae_title = "A"'
        )
        result = run("check", "--no-models", "--json", "--config", path)
    assert result.exit_code == 0, result.output
    answers = json.loads(result.output)
    assert {each["level"] for each in answers} == {"ok", "warning"}
    assert answers[0] == {"key": "settings", "level": "ok", "text": str(path)}
    assert "A takes Secondary Capture Image Storage" in [each["text"] for each in answers]


def test_check_says_where_settings_come_from(config, monkeypatch):
    monkeypatch.setenv("CXR_DICOM_LISTENER__ENABLED", "false")
    first = run("check", "--no-models", "--config", config()).output.splitlines()[0]
    assert first.endswith("c.toml; and from the environment: CXR_DICOM_LISTENER__ENABLED")
    monkeypatch.chdir(config().parent)
    assert "no file: there is no cxr-dicom.toml in" in run("check", "--no-models").output


def test_jobs_tell_the_story(tmp_path, config):
    image = radiograph(64, 48)
    with serving(tmp_path / "spool") as service:
        send(service.settings.listener.port, image)
        wait_for_state(service, image.StudyInstanceUID, "ENCODED")
    path = config()
    uid = image.StudyInstanceUID
    (row,) = json.loads(run("jobs", "list", "--json", "--config", path).output)
    assert (row["study_instance_uid"], row["state"], row["objects"]) == (uid, "ENCODED", 1)
    assert uid in run("jobs", "list", "--state", "encoded", "--config", path).output
    shown = run("jobs", "show", uid, "--config", path).output
    for word in (uid, "MODALITY", "processed", derived_uid(image.SOPInstanceUID), "secondary_capture"):
        assert word in shown
    assert json.loads(run("jobs", "show", uid, "--json", "--config", path).output)["state"] == "ENCODED"
    assert "nothing to try again" in run("jobs", "retry", uid, "--config", path).output
    assert run("jobs", "forget", uid, "--yes", "--config", path).exit_code == 0
    assert list((tmp_path / "spool").glob("*/*/*")) == []
    assert "not in the ledger" in run("jobs", "show", uid, "--config", path).output
    (line,) = [json.loads(each) for each in (tmp_path / "spool" / "audit.jsonl").open() if "study_forgotten" in each]
    assert (line["via"], line["by"]) == ("command", os.environ.get("SUDO_USER") or getpass.getuser())


def test_jobs_retry_says_that_the_images_are_gone_and_what_to_do(tmp_path, config):
    image = radiograph(64, 48, ViewPosition="LL", PatientOrientation=["A", "F"])
    path, uid = config(), image.StudyInstanceUID
    with serving(tmp_path / "spool", retention={"sources_days": 0}) as service:
        port = service.settings.listener.port
        send(port, image)
        wait_for_state(service, uid, "IGNORED")
        housekeep(service.settings, service._spool, service.ledger)
        refused = run("jobs", "retry", uid, "--config", path)
        assert refused.exit_code == 2
        assert "its images were deleted" in refused.output
        assert wait_for_state(service, uid, "IGNORED")
        assert run("jobs", "forget", uid, "--yes", "--config", path).exit_code == 0
        send(port, image)
        wait_for_state(service, uid, "IGNORED")
        assert "will be tried again" in run("jobs", "retry", uid, "--config", path).output


def test_jobs_complete_closes_a_study_by_hand(tmp_path, config):
    image = radiograph(64, 48)
    with listening(tmp_path / "spool") as here:
        send(here.port, image)
    path = config()
    assert "complete" in run("jobs", "complete", image.StudyInstanceUID, "--config", path).output
    assert "found COMPLETE" in run("jobs", "complete", image.StudyInstanceUID, "--config", path).output


@pytest.fixture
def older(tmp_path, monkeypatch):
    """A ledger of version 2, and a function that says of which version it is now."""
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    with monkeypatch.context() as then:
        then.setattr("cxr_dicom.store.ledger.MIGRATIONS", MIGRATIONS[:2])
        Ledger(folder).close()
    with closing(sqlite3.connect(folder / "ledger.sqlite", isolation_level=None)) as connection:
        yield lambda: connection.execute("PRAGMA user_version").fetchone()[0]


def test_check_leaves_an_older_ledger_as_it_is_and_says_what_serve_would_do(config, older):
    result = run("check", "--no-models", "--config", config(listener={"port": free_port()}))
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.output.splitlines() if " ledger: " in line]
    assert line.startswith("ok ")
    assert "found 2; `cxr-dicom serve` brings it up" in line
    assert older() == 2


def test_jobs_leave_an_older_ledger_to_the_service(tmp_path, config, older):
    result = run("jobs", "list", "--config", config())
    assert result.exit_code == 2
    assert "found 2" in result.output
    assert older() == 2
    with serving(tmp_path / "spool"):
        pass
    assert older() > 2
    assert run("jobs", "list", "--config", config()).exit_code == 0


def test_jobs_without_a_ledger(config):
    result = run("jobs", "list", "--config", config())
    assert result.exit_code == 2
    assert "there is no ledger" in result.output


@pytest.mark.parametrize(
    ("option", "content", "words"),
    [
        ("--uids", b"1.2.3\n\n1.2.*\n", "line 3: expected a Study Instance UID"),
        ("--uids", "1.2.3\n".encode("utf-16"), "line 1: expected a Study Instance UID"),
        ("--uids", b"\n", "found none"),
        ("--accessions", b"A1\nDOE*\n", "line 2: expected an accession number"),
    ],
)
def test_poll_takes_no_list_that_asks_for_more_than_it_says(tmp_path, config, option, content, words):
    (tmp_path / "list.txt").write_bytes(content)
    result = run("poll", option, tmp_path / "list.txt", "--config", config())
    assert result.exit_code == 2
    assert words in result.output
    assert "DOE" not in result.output


def test_poll_without_an_archive(config):
    result = run("poll", "--once", "--config", config())
    assert result.exit_code == 2
    assert "poller.archives" in result.output


def test_serve_stops_on_sigterm_and_reloads_on_sighup(tmp_path, config):
    first, second = free_port(), free_port()
    path = config(listener={"port": first})
    script = ROOT / "tests" / "integration" / "service" / "serve_fast.py"
    process = subprocess.Popen([sys.executable, script, path], stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: _echo(first), 30)
        path.write_text("this is no TOML")
        process.send_signal(signal.SIGHUP)
        time.sleep(1)
        wait_for(lambda: _echo(first), 30)  # wrong settings change nothing
        config(listener={"port": second})
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: _echo(second), 30)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert "reload_failed" in log
    assert "reloaded" in log


def _echo(port):
    from pynetdicom.sop_class import Verification

    from tests.service_helpers import associated

    with associated(port, Verification) as association:
        return association.is_established
