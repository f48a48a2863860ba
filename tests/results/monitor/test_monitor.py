"""What is watched, replayed: changes are found within a week, and a quiet stream stays quiet."""

import json
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from scipy import stats

from benchmarks.replays import drift as drift_replay
from cxr_dicom.config.service import MonitorSettings
from cxr_dicom.results.monitor import REFERENCE_DAYS, NotEnoughError, monitor, replay
from cxr_dicom.results.monitor.watched import psi

BEGIN = drift_replay.BEGIN.date()


@pytest.mark.parametrize("name", drift_replay.SCENARIOS)
def test_each_change_is_found_within_a_week(name):
    turn, expected = drift_replay.SCENARIOS[name]
    after = drift_replay.found_after(turn, expected, seed=3)
    assert after is not None
    assert after <= 7


def test_a_quiet_stream_has_no_alarm():
    assert drift_replay.false_alarms(5, REFERENCE_DAYS + 28) == 0


def test_an_alarm_says_what_and_since_when():
    change_at = REFERENCE_DAYS + 10
    images = list(drift_replay.stream(change_at + 6, 1, change_at, drift_replay.model))
    report = monitor(images, until=BEGIN + timedelta(days=change_at + 6))
    (alarm,) = report.alarms
    assert alarm.what == "model xrv-densenet121-all"
    assert alarm.since == str(BEGIN + timedelta(days=change_at))
    assert "weights cdcdcdcdcdcd: not in the reference" in alarm.text
    assert json.loads(json.dumps(report.as_dict(), allow_nan=False))["reference"][0] == str(BEGIN)
    quiet = monitor(images, until=BEGIN + timedelta(days=change_at))
    assert quiet.alarms == []
    assert quiet.limit == 0.05 / (365 * quiet.tests)


def test_figures_are_those_of_scipy():
    days = REFERENCE_DAYS + 7
    images = list(drift_replay.stream(days, 2))
    report = monitor(images, until=BEGIN + timedelta(days=days))
    figures = {(each["what"], each["window_days"]): each for each in report.figures}
    over = drift_replay.BEGIN.timestamp() + REFERENCE_DAYS * 86400
    then, now = ([e for e in images if (e.observed_at < over) is early and e.scores] for early in (True, False))
    before, current = ([e.scores["atelectasis"][0] for e in part] for part in (then, now))
    found = figures["score of atelectasis", 7]
    assert found["p"] == pytest.approx(stats.ks_2samp(before, current, method="asymp").pvalue, abs=1e-12)
    assert found["now"] == pytest.approx(np.median(current), abs=1e-12)
    called = [[sum(v >= 0.3 for v in part), sum(v < 0.3 for v in part)] for part in (before, current)]
    assert figures["atelectasis called present", 7]["p"] == pytest.approx(stats.fisher_exact(called).pvalue, abs=1e-12)
    counts = [sum(e.sender == "ER" for e in images if (e.observed_at < over) is early) for early in (True, False)]
    assert figures["volume of sender ER", 7]["then"] == pytest.approx(counts[0] / 8)
    assert figures["volume of sender ER", 7]["now"] == counts[1]


def test_stability_is_nothing_for_the_same_and_known_for_a_known_shift():
    values = np.linspace(0, 1, 10_000, endpoint=False)
    assert psi(values, values) == pytest.approx(0, abs=1e-12)
    half = values[values < 0.5]  # five deciles hold 0.2 each instead of 0.1, and five nothing but the half image
    inside, outside = (1000.5 / 5005, 0.5 / 5005)
    then = 0.1
    wanted = 5 * ((inside - then) * np.log(inside / then) + (outside - then) * np.log(outside / then))
    assert psi(values, half) == pytest.approx(wanted, rel=1e-6)
    assert np.isfinite(psi(np.zeros(300), np.ones(50)))


def test_images_of_one_study_count_once():
    images = list(drift_replay.stream(REFERENCE_DAYS + 7, 4))
    twice = [replace(each, sop_instance_uid=f"{each.sop_instance_uid}.{n}") for each in images for n in range(3)]
    until = BEGIN + timedelta(days=REFERENCE_DAYS + 7)
    assert monitor(twice, until=until).figures == monitor(images, until=until).figures


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"until": BEGIN + timedelta(days=REFERENCE_DAYS)}, "a day after it is needed"),
        ({"settings": MonitorSettings(reference=date(2024, 1, 1)), "until": date(2026, 1, 1)}, "no image was observed"),
    ],
)
def test_too_few_days_are_said(options, message):
    images = list(drift_replay.stream(10, 1))
    with pytest.raises(NotEnoughError, match=message):
        monitor(images, **options)
    with pytest.raises(NotEnoughError, match="no image was observed yet"):
        monitor([])


def test_a_small_site_is_told_what_was_not_tested():
    images = list(drift_replay.stream(REFERENCE_DAYS + 7, 4))[::12]
    report = monitor(images, until=BEGIN + timedelta(days=REFERENCE_DAYS + 7))
    assert "30 and 200 are needed" in report.skipped["score of atelectasis, 1 d"]
    assert report.alarms == []
    assert all(not alarms for _, alarms in replay(images))
