"""``jobs`` as a person at a terminal of 80 columns types and reads it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from cxr_dicom.cli import cli
from cxr_dicom.cli.jobs import STATES
from cxr_dicom.records import DeliveryStatus, Outcome, Reason, StudyState
from cxr_dicom.store.ledger import Dispatch, Ledger
from cxr_dicom.store.ledger.places import Place
from cxr_dicom.synthetic import radiograph
from tests import ROOT
from tests.service_helpers import listening, send
from tests.store.ledger.helpers import claimed, instance, result, say, state

LONGEST = "1." + "2" * 62


@pytest.fixture
def spool(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir(mode=0o700)
    (tmp_path / "c.toml").write_text(f'[spool]\nfolder = "{folder}"\nmin_free_mb = 0\n')
    return folder


@pytest.fixture
def ledger(spool):
    made = Ledger(spool)
    yield made
    made.close()


@pytest.fixture
def run(tmp_path):
    def run(*arguments, columns=80):
        words = [*map(str, arguments), "--config", str(tmp_path / "c.toml")]
        return CliRunner().invoke(cli, ["jobs", *words], env={"COLUMNS": str(columns)})

    return run


@pytest.fixture
def pacs(spool, tmp_path):
    """Have a destination in the settings."""
    with (tmp_path / "c.toml").open("a") as file:
        file.write('[[destinations]]\nkind = "folder"\nname = "pacs"\npath = "out"\n')


def made(ledger, study, *destinations, verify=False):
    """A study whose object waits for its destinations."""
    ledger.studies.add(instance(ledger, f"{study[:50]}.7.1", study), "aa")
    claim = claimed(ledger)
    dispatches = [Dispatch(destination=name, verify=verify) for name in destinations]
    ledger.studies.finish(claim, result(ledger, claim, f"{study[:50]}.9"), [], dispatches)
    return f"{study[:50]}.9"


def test_the_states_that_can_be_asked_for_are_all():
    assert tuple(StudyState) == STATES


def test_a_list_fits_80_columns_with_whole_uids_first(ledger, run):
    uid = made(ledger, LONGEST, "pacs")
    say(ledger, DeliveryStatus.FAILED, uid, retry_at=time.time() + 600)
    ledger.places.failed(Place.DESTINATION, "pacs", "UNREACHABLE: " + "pacs.example.org " * 8)
    made(ledger, "1.2.3")
    lines = run("list").output.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines if line[0] != " "] == [["1.2.3", "ENCODED"], [LONGEST, "ENCODED"]]
    shown = run("show", LONGEST).output.splitlines()
    assert max(map(len, shown)) <= 80
    assert shown[0].split() == [LONGEST, "DEAD" if "DEAD" in shown[0] else "ENCODED"]
    assert f"{LONGEST[:50]}.9" in shown


def test_a_study_says_which_image_came_on_which_way(ledger, run):
    for uid, called in (("1.5.1", "CXR_RESEARCH"), ("1.5.2", None)):
        ledger.studies.add(replace(instance(ledger, uid, "1.5"), called_ae_title=called), "aa")
    claim = claimed(ledger)
    found = result(ledger, claim, "1.5.9")
    routed = [replace(each, route=route) for each, route in zip(found.instances, ("research", "default"), strict=True)]
    ledger.studies.finish(claim, replace(found, instances=tuple(routed)), [])
    shown = run("show", "1.5").output
    assert "processed, from MODALITY, called CXR_RESEARCH, route research" in shown
    assert "processed, from MODALITY, route default" in shown
    told = json.loads(run("show", "1.5", "--json").output)["instances"]
    assert [(each["called_ae_title"], each["route"]) for each in told] == [
        ("CXR_RESEARCH", "research"),
        (None, "default"),
    ]
    counted = [figure for figure in ledger.stories.figures() if figure[0] == "routed_images_total"]
    assert sorted(labels["route"] for _, labels, _ in counted) == ["default", "research"]


def test_a_list_says_why_a_study_waits(ledger, run):
    away, refusing, late = (
        made(ledger, "1.1", "pacs"),
        made(ledger, "1.2", "vna"),
        made(ledger, "1.3", "vna", verify=True),
    )
    say(ledger, DeliveryStatus.FAILED, away, retry_at=time.time() + 600)
    ledger.places.failed(Place.DESTINATION, "pacs", "TIMEOUT: no answer in 30 s")
    say(ledger, DeliveryStatus.FAILED, refusing, "vna", retry_at=time.time() + 600)
    say(ledger, DeliveryStatus.ACCEPTED, late, "vna")
    ledger.studies.add(instance(ledger, "1.4.1", "1.4"), "aa")
    claim = claimed(ledger)
    failed = result(ledger, claim, outcome=Outcome.FAILED, reason=Reason.INTERNAL_ERROR)
    ledger.studies.postpone(claim, failed, time.time() + 600)
    found = run("list", columns=300).output
    assert "waits for pacs to take 1 object; no answer since 2" in found
    assert "(TIMEOUT: no answer in 30 s); 1 failed attempt; next attempt 2" in found
    assert "waits for vna to take 1 object; it said 0x0000; 1 failed attempt; next attempt 2" in found
    assert "waits for vna to keep 1 object" in found
    assert "attempt 1 failed: INTERNAL_ERROR" in found
    ledger.overview.pause("vna")
    found = run("list", columns=300).output
    assert found.count("paused since 2") == 2
    assert "waits for pacs to take 1 object; no answer" in found
    shown = run("show", "1.2", columns=300).output
    assert "waits for vna to take 1 object; paused since 2" in shown
    assert "next attempt" not in shown.splitlines()[1]
    rows = {row["study_instance_uid"]: row for row in json.loads(run("list", "--json").output)}
    assert rows["1.2"]["waits_for"][0]["paused_since"] > 0
    assert rows["1.1"]["waits_for"][0]["out_cause"] == "TIMEOUT: no answer in 30 s"


def test_a_list_that_is_cut_says_so(ledger, run):
    assert "no study yet" in run("list").output
    for number in range(3):
        made(ledger, f"1.{number}")
    assert "there are more than 2; --limit shows them" in run("list", "--limit", 2).output
    assert "no study is DEAD" in run("list", "--state", "dead").output


def test_the_terminal_obeys_no_header(ledger, run):
    ledger.studies.add(instance(ledger, "1.2.9", "1.2"), "aa")
    with ledger.transaction() as connection:
        evil = "\x1b]0;x\x07\x9b31m\u202e\r\n"
        connection.execute(
            "UPDATE instances SET sender = ?, outcome = 'skipped', reason = 'X', detail = ?", (evil, evil)
        )
        connection.execute("UPDATE studies SET reason = ?", (evil,))
    for command in (("list",), ("show", "1.2")):
        found = run(*command).output
        assert all(each.isprintable() or each == "\n" for each in found)
        assert r"\x1b]0;x\x07\x9b31m\u202e" in found


def test_a_study_has_many_names(tmp_path, spool, run):
    first, second = (radiograph(32, 32, study=name) for name in ("one", "two"))
    first.AccessionNumber, second.AccessionNumber = "A17 ", "A18"
    with listening(spool) as here:
        assert send(here.port, first, second) == [0, 0]
    uids = [first.StudyInstanceUID, second.StudyInstanceUID]
    assert uids[0] != uids[1]
    common = uids[0][: next(number for number, (a, b) in enumerate(zip(*uids, strict=False)) if a != b)]

    def shown(*name):
        found = run("show", *name, "--json")
        return json.loads(found.output)["study_instance_uid"] if found.exit_code == 0 else found.output

    assert shown(uids[0]) == shown(uids[0][: len(common) + 1]) == shown("--accession", "A17") == uids[0]
    assert shown("--last") == uids[1]
    assert "expected one study, found several" in shown(common)
    assert all(uid in shown(common) for uid in uids)
    assert "no study in the spool has this accession number" in shown("--accession", "ZZZ")
    assert "ZZZ" not in shown("--accession", "ZZZ")
    assert "expected one of" in shown("--last", uids[0])
    assert "expected STUDY" in shown()
    assert "A17" not in (spool / "audit.jsonl").read_text()
    assert b"A17" not in (spool / "ledger.sqlite").read_bytes()
    assert f"{uids[0]}: complete" in run("complete", "--accession", "A17").output
    assert f"{uids[0]}: forgotten" in run("forget", uids[0][:-3], "--yes").output


def test_a_uid_that_begins_another_means_itself(ledger, run):
    for study in ("1.2", "1.2.3"):
        made(ledger, study)
    assert json.loads(run("show", "1.2", "--json").output)["study_instance_uid"] == "1.2"


def test_a_weekend_is_one_command(ledger, pacs, run):
    for study, place in (("1.1", "pacs"), ("1.2", "pacs"), ("1.3", "vna")):
        say(ledger, DeliveryStatus.REFUSED, made(ledger, study, place), place)
    assert "0 studies will be tried again" in run("retry", "--state", "held").output
    assert "0 studies" in run("retry", "--all", "--since", "2999-01-01").output
    for command in ("retry", "resend"):
        refused = run(command, *(["--last"] if command == "resend" else []), "--destination", "pasc")
        assert (refused.exit_code, refused.output) == (2, "Error: --destination: expected one of pacs\n")
    assert "2 studies will be tried again" in run("retry", "--destination", "pacs").output
    assert [state(ledger, uid) for uid in ("1.1", "1.2", "1.3")] == ["ENCODED", "ENCODED", "DEAD"]
    assert "1 study will" in run("retry", "--state", "dead", "--since", "36h").output
    assert "3 studies" in run("retry", "--all").output
    assert "1.3: will be tried again" in run("retry", "--last").output


def test_those_that_cannot_be_tried_again_are_told(ledger, run):
    for study in ("1.1", "1.2"):
        ledger.studies.add(instance(ledger, f"{study}.1", study), "aa")
        claim = claimed(ledger)
        ledger.studies.finish(claim, result(ledger, claim, outcome=Outcome.SKIPPED, reason=Reason.NOT_CHEST), [], [])
    ledger.stories.drop_files("1.1", "instances")
    found = run("retry", "--state", "ignored").output
    assert "1.1: its images were deleted" in found
    assert "1 cannot be tried again" in found
    assert "1 study will be tried again" in found


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "expected STUDY"),
        (("1.2", "--all"), "got both"),
        (("--since", "yesterday"), "expected 2026-11-28"),
        (("1.2.3",), "not in the ledger"),
    ],
)
def test_a_retry_that_says_too_little_or_too_much(ledger, run, words, said):
    found = run("retry", *words)
    assert (found.exit_code, said in found.output) == (2, True), found.output


def test_another_user_gets_one_line(ledger, run, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    found = run("list")
    assert found.exit_code == 2
    (line,) = found.output.splitlines()
    assert "belongs to" in line
    assert "sudo -u" in line


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to become another user")
@pytest.mark.parametrize("command", [("jobs", "list"), ("jobs", "show", "--last"), ("check", "--no-models")])
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_real_other_user_gets_one_line(command, mode):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        spool = folder / "spool"
        spool.mkdir()
        Ledger(spool).close()
        spool.chmod(mode)
        (folder / "c.toml").write_text(f'[spool]\nfolder = "{spool}"\nmin_free_mb = 0\n[listener]\nenabled = false\n')
        as_nobody = [shutil.which("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"]
        found = subprocess.run(
            [*as_nobody, sys.executable, "-m", "cxr_dicom", *command, "--config", folder / "c.toml"],
            capture_output=True,
            text=True,
            cwd="/",
            env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        )
    assert found.returncode in (2, 3)
    told = [line for line in (found.stdout + found.stderr).splitlines() if "sudo -u" in line]
    assert len(told) == 1, found.stderr
    assert "Traceback" not in found.stderr


def test_nothing_is_done_where_nobody_says_yes(ledger, run):
    made(ledger, "1.1", "pacs")
    for command in (("forget", "--last"), ("withdraw", "--destination", "pacs"), ("rebuild",)):
        done = run(*command)  # its standard input is empty
        assert done.exit_code == 2
        assert "nothing was done, for nobody said yes; --yes says it" in done.output
    assert state(ledger, "1.1") == "ENCODED"


def test_a_destination_is_paused_and_resumed_by_a_person_who_stands_in_the_trail(ledger, pacs, run, spool):
    assert run("resume", "--destination", "pacs").exit_code == 2
    assert run("pause", "--destination", "pasc").exit_code == 2
    assert not ledger.overview.paused()
    assert run("pause", "--destination", "pacs").output == "pacs: paused\n"
    assert set(ledger.overview.paused()) == {"pacs"}
    assert run("pause", "--destination", "pacs").exit_code == 2
    assert run("resume", "--destination", "pacs").output == "pacs: resumed\n"
    lines = [json.loads(line) for line in (spool / "audit.jsonl").read_text().splitlines()]
    assert [each["action"] for each in lines] == ["destination_paused", "destination_resumed"]
    assert {each["via"] for each in lines} == {"command"}


def test_a_study_is_processed_again_with_models_that_are_here(ledger, run):
    made(ledger, "1.1")
    refused = run("reprocess", "1.1", "--models", "xrv-densenet121-all", columns=300)
    assert refused.exit_code != 0
    assert "expected some of auto, offline-anatomy, lung-opacity" in refused.output
    assert state(ledger, "1.1") == "ENCODED"
    assert "will be processed again" in run("reprocess", "1.1", "--models", "offline-anatomy, lung-opacity").output
    assert state(ledger, "1.1") == "COMPLETE"
    assert (
        "with the models that were asked for: offline-anatomy, lung-opacity" in run("show", "1.1", columns=300).output
    )
    assert json.loads(run("show", "1.1", "--json").output)["models"] == ["offline-anatomy", "lung-opacity"]
