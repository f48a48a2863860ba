"""Every benchmark runs; what its figures are is not a matter of tests."""

import json
import os
import subprocess
import sys

import pytest

from tests import ROOT

BENCHMARKS = {path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py")}


def bench(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def test_a_quick_run_of_all_is_one_table_and_well_formed_json(tmp_path):
    finished = bench("--quick", "--repeats", "1", "--json", str(tmp_path / "figures.json"))
    assert finished.returncode == 0, finished.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures.keys() >= {"date", "processor", "cores", "versions", "rows", "quick"}
    assert len(finished.stdout.splitlines()) == 1 + len(figures["rows"])
    measured = [row for row in figures["rows"] if "missing" not in row]
    assert len(measured) >= len(BENCHMARKS) - 1  # the listener is missing where DCMTK is
    for row in measured:
        assert row["row"] in finished.stdout
        assert all(value > 0 for value in row["values"]), row
    began = {line.partition(":")[0] for line in finished.stderr.splitlines()}
    assert began >= BENCHMARKS


def test_some_can_be_chosen_and_the_table_be_pasted():
    finished = bench("ledger", "--quick", "--repeats", "2", "--markdown")
    head, rule, *rows = finished.stdout.splitlines()
    assert rule == "| --- | --- | --- | --- | --- |"
    assert {line.count("|") for line in (head, *rows)} == {6}
    assert len(rows) == 3


def test_a_name_that_does_not_exist_is_refused():
    finished = bench("nonsense")
    assert finished.returncode
    assert "first_byte" in finished.stderr


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import _harness

    return _harness


def test_two_ways_are_measured_in_turn(harness):
    order = []
    pairs = harness.in_turn(lambda: order.append("a") or "a", lambda: order.append("b") or "b", 3)
    assert pairs == [("a", "b")] * 3
    assert "".join(order) == "abbaab"


def test_a_way_can_have_a_process_and_threads_of_its_own(harness):
    plan = harness.Plan()
    assert plan.apart(os.getpid) not in (os.getpid(), plan.apart(os.getpid))
    assert plan.apart(os.getenv, "OMP_NUM_THREADS", threads=3) == "3"
    assert plan.apart(os.getenv, "OMP_NUM_THREADS") is None


@pytest.mark.parametrize(("goal", "met"), [({"at_least": 2}, True), ({"at_most": 1}, False), ({}, None)])
def test_the_median_meets_a_goal_or_not(harness, goal, met):
    row = harness.ratios("row", [(8, 2), (3, 1), (1, 1)], **goal)
    assert (row.median, row.is_met) == (3, met)
