"""The running service looks once a day: a line in the log, gauges for Prometheus."""

import json
import logging
import subprocess
import sys
from datetime import timedelta

import pytest

from benchmarks.replays import drift as drift_replay
from cxr_dicom.config import Settings
from cxr_dicom.config.service import MonitorSettings
from cxr_dicom.results.monitor import REFERENCE_DAYS
from cxr_dicom.service.drift import DriftWatch
from cxr_dicom.service.metrics import exposition
from cxr_dicom.service.retention import housekeep
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.spool import Spool

BEGIN = drift_replay.BEGIN.date()
CHANGE_AT = REFERENCE_DAYS + 10


@pytest.fixture
def ledger(tmp_path):
    """A ledger as if it had served for ten weeks, with other weights at the end."""
    ledger = Ledger(tmp_path)
    with ledger.transaction() as connection:
        for each in drift_replay.stream(CHANGE_AT + 3, 1, CHANGE_AT, drift_replay.model):
            connection.execute(
                "INSERT INTO studies (study_instance_uid, state, received_at, changed_at) VALUES (?, 'SENT', ?, ?)",
                (each.study_instance_uid, each.received_at, each.observed_at),
            )
            connection.execute(
                "INSERT INTO instances (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid,"
                " sha256, sender, received_at, outcome, reason) VALUES (?, ?, '1', '1', '', ?, ?, ?, ?)",
                (
                    each.sop_instance_uid,
                    each.study_instance_uid,
                    each.sender,
                    each.received_at,
                    each.outcome,
                    each.reason or None,
                ),
            )
            connection.execute(
                "INSERT INTO observations VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    each.sop_instance_uid,
                    each.study_instance_uid,
                    each.observed_at,
                    each.station,
                    each.device,
                    each.view,
                    json.dumps(each.scores),
                    json.dumps(each.measurements),
                    each.warnings,
                    None if each.plausible is None else int(each.plausible),
                    json.dumps(each.models),
                ),
            )
    yield ledger
    ledger.close()


def test_an_alarm_is_a_line_in_the_log_once_a_day_and_a_gauge(ledger, caplog):
    caplog.set_level(logging.WARNING, logger="cxr_dicom")
    watch = DriftWatch(ledger, MonitorSettings())
    assert list(watch.figures()) == []
    quiet = watch.look(BEGIN + timedelta(days=CHANGE_AT))
    assert quiet.alarms == []
    assert caplog.records == []
    day = BEGIN + timedelta(days=CHANGE_AT + 2)
    watch.look(day)
    watch.look(day)
    (record,) = caplog.records
    assert record.action == "drift_alarm"
    since = BEGIN + timedelta(days=CHANGE_AT)
    assert record.fields["reason"] == f"model xrv-densenet121-all, since {since}"
    shown = exposition(watch.figures())
    assert f'cxr_dicom_drift_alarm{{since="{since}",what="model xrv-densenet121-all"}} 1' in shown
    assert 'cxr_dicom_drift_stability_index{what="score of atelectasis",window_days="7"} ' in shown


def test_its_statistics_are_not_in_the_memory_of_the_service(ledger):
    look = (
        "import sys; from pathlib import Path; from datetime import date; from cxr_dicom.service import drift\n"
        "watch = drift.DriftWatch(drift.Ledger(Path(sys.argv[1])), drift.MonitorSettings())\n"
        "if __name__ == '__main__':\n"
        "    print(watch.look(date.fromisoformat(sys.argv[2])).tests, 'scipy.stats' in sys.modules)\n"
    )
    script = ledger.folder / "look.py"
    script.write_text(look)
    day = BEGIN + timedelta(days=CHANGE_AT)
    tests, has_loaded = subprocess.check_output([sys.executable, script, ledger.folder, str(day)], text=True).split()
    assert (int(tests) > 20, has_loaded) == (True, "False")


def test_a_young_ledger_says_nothing(tmp_path):
    watch = DriftWatch(Ledger(tmp_path), MonitorSettings())
    assert watch.look() is None
    assert exposition(watch.figures()) == "\n"


def test_the_command_says_since_when_and_ends_with_code_3(ledger, tmp_path):
    from click.testing import CliRunner

    from cxr_dicom.cli import cli

    config = tmp_path / "cxr-dicom.toml"
    config.write_text(f"[spool]\nfolder = '{tmp_path}'\n")

    def monitor(days, *options):
        until = str(BEGIN + timedelta(days=days))
        return CliRunner().invoke(cli, ["monitor", "--config", str(config), "--until", until, *options])

    found = monitor(CHANGE_AT + 2)
    assert found.exit_code == 3, found.output
    since = BEGIN + timedelta(days=CHANGE_AT)
    assert f"ALARM since {since}: model xrv-densenet121-all 1, weights cdcdcd" in found.output
    assert json.loads(monitor(CHANGE_AT + 2, "--json").stdout)["alarms"][0]["what"] == "model xrv-densenet121-all"
    assert monitor(CHANGE_AT).exit_code == 0
    early = monitor(10)
    assert early.exit_code == 2
    assert "a day after it is needed" in early.output


@pytest.mark.parametrize("first", [None, 14], ids=["from the first image", "from a day of the settings"])
def test_retention_leaves_the_reference_where_it_is(ledger, tmp_path, first):
    """Once a year of rows was over the reference slid with the oldest that were left, and a slow drift with it."""
    reference = None if first is None else BEGIN + timedelta(days=first)
    keep = {"sources_days": 0, "objects_days": 0, "rows_days": 0}
    settings = Settings.model_validate(
        {"retention": keep, "monitor": {"reference": reference, "reference_days": 42}, "spool": {"folder": tmp_path}}
    )
    day = BEGIN + timedelta(days=CHANGE_AT)
    before = DriftWatch(ledger, settings.monitor).look(day)
    count = "SELECT count(*) FROM studies"
    (all_studies,) = next(iter(ledger.rows(count)))
    housekeep(settings, Spool(settings), ledger)
    (left,) = next(iter(ledger.rows(count)))
    assert left < all_studies  # what is not in it was forgotten
    after = DriftWatch(ledger, settings.monitor).look(day)
    begin = BEGIN + timedelta(days=first or 0)
    assert after.reference == before.reference == (str(begin), str(begin + timedelta(days=41)))
    assert after.reference_images == before.reference_images > 1000


def test_the_reference_of_the_settings_is_that_of_the_command(ledger, tmp_path):
    from click.testing import CliRunner

    from cxr_dicom.cli import cli

    config = tmp_path / "cxr-dicom.toml"
    begin = BEGIN + timedelta(days=7)
    config.write_text(f"[spool]\nfolder = '{tmp_path}'\n[monitor]\nreference = {begin}\nreference_days = 28\n")

    def monitor(*options):
        arguments = ["monitor", "--config", str(config), "--json", "--until", str(BEGIN + timedelta(days=CHANGE_AT))]
        return CliRunner().invoke(cli, [*arguments, *options])

    assert json.loads(monitor().stdout)["reference"] == [str(begin), str(begin + timedelta(days=27))]
    chosen = monitor("--reference", str(BEGIN), "--reference-days", "14")
    assert json.loads(chosen.stdout)["reference"] == [str(BEGIN), str(BEGIN + timedelta(days=13))]
    wrong = monitor("--reference-days", "10")
    assert (wrong.exit_code, "reference_days: Input should be" in wrong.output) == (2, True)
