"""How soon ``cxr-dicom --help`` says something, against importing click, on which it stands."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from statistics import median
from time import perf_counter

from benchmarks._harness import ROOT, Plan, Row, in_turn, ratios


def measure(plan: Plan) -> Iterator[Row]:
    """Yield the row."""
    calls = 1 if plan.is_quick else 10
    pairs = in_turn(partial(first_byte, calls), partial(import_of_click, calls), plan.repeats)
    yield ratios("first byte: cxr-dicom --help, against python -c 'import click'", pairs, at_most=3)


def first_byte(calls: int) -> float:
    """Seconds until the first byte is on standard output."""
    spent = []
    for _ in range(calls):
        start = perf_counter()
        command = [sys.executable, "-m", "cxr_dicom", "--help"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stdout
            process.stdout.read(1)
            spent.append(perf_counter() - start)
            process.stdout.read()
    return median(spent)


def import_of_click(calls: int) -> float:
    """Seconds of a Python that imports click and ends."""
    spent = []
    for _ in range(calls):
        start = perf_counter()
        subprocess.run([sys.executable, "-c", "import click"], check=True, cwd=ROOT)
        spent.append(perf_counter() - start)
    return median(spent)
