"""How soon a command says something: ``--help``, the result of one image, the first of three hundred.

Against importing click, on which the command line stands; against importing PyTorch, on which the models stand; and
against the whole run of three images. All with bytecode that is kept, as after an installation.
"""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks._harness import ROOT, Plan, Row, folder, in_turn, ratios
from cxr_dicom import synthetic

HELP = "first byte: cxr-dicom --help, against python -c 'import click'"
ONE = "first byte: run of one image to its results, offline models, against python -c 'import torch'"
MANY = "first byte: first result that run shows of 300 images, against the whole run of three"
QUICK, SMALL, SHAPE = (256, 256), (1000, 850), (2000, 1700)
IMAGES, FEW = 300, 3
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
MODELS = "offline-anatomy,lung-opacity"


def measure(plan: Plan) -> Iterator[Row]:
    """Yield the rows."""
    calls = 1 if plan.is_quick else 10
    pairs = in_turn(partial(first_byte, calls), partial(importing, "click", calls), plan.repeats)
    yield ratios(HELP, pairs, at_most=3)
    with folder() as place:
        images = 2 if plan.is_quick else IMAGES
        _write(place / "1", 1, QUICK if plan.is_quick else SHAPE)
        for count in (FEW, images):
            _write(place / str(count), count, QUICK if plan.is_quick else SMALL)
        whole(place, 1, 1)  # which compiles what was never imported
        calls = 1 if plan.is_quick else 3
        pairs = in_turn(partial(whole, place, 1, calls), partial(importing, "torch", calls), plan.repeats)
        yield ratios(ONE, pairs, at_most=2)
        pairs = in_turn(partial(shown, place, images), partial(whole, place, FEW, 1), plan.repeats)
        yield ratios(MANY, pairs, at_most=1)


def first_byte(calls: int) -> float:
    """Seconds until the first byte is on standard output."""
    spent = []
    for _ in range(calls):
        start = perf_counter()
        command = [sys.executable, "-m", "cxr_dicom", "--help"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=ENVIRONMENT) as process:
            assert process.stdout
            process.stdout.read(1)
            spent.append(perf_counter() - start)
            process.stdout.read()
    return median(spent)


def importing(name: str, calls: int) -> float:
    """Seconds of a Python that imports something and ends."""
    return _timed(
        partial(subprocess.run, [sys.executable, "-c", f"import {name}"], check=True, cwd=ROOT, env=ENVIRONMENT), calls
    )


def whole(place: Path, images: int, calls: int) -> float:
    """Seconds of a whole run."""
    return _timed(partial(_run, place, images), calls)


def shown(place: Path, images: int) -> float:
    """Seconds until a terminal shows that a study of many is done."""
    ours, theirs = pty.openpty()
    start = perf_counter()
    with subprocess.Popen(
        _command(place, images), cwd=ROOT, env=ENVIRONMENT, stderr=theirs, stdout=subprocess.DEVNULL
    ) as process:
        os.close(theirs)
        text = b""
        while not re.search(rb"studies\s+[1-9]\d* of %d" % images, text):
            text += os.read(ours, 65536)
        spent = perf_counter() - start
        process.terminate()  # and wait: workers that outlive a killed run still write
    os.close(ours)
    shutil.rmtree(place / "out")
    return spent


def _write(place: Path, images: int, shape: tuple[int, int]) -> None:
    """Write images, each in a study of its own."""
    dataset = synthetic.radiograph(*shape)
    for number in range(images):
        uid = f"1.2.3.{number + 1}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid, f"{uid}.1"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{uid}.1.1"
        synthetic.write_study(place / str(number), [dataset])


def _run(place: Path, images: int) -> None:
    subprocess.run([*_command(place, images), "--quiet"], check=True, cwd=ROOT, env=ENVIRONMENT)
    shutil.rmtree(place / "out")


def _command(place: Path, images: int) -> Sequence[str]:
    command = [sys.executable, "-m", "cxr_dicom", "run", str(place / str(images)), "-o", str(place / "out")]
    return [*command, "--models", MODELS]


def _timed(act: Callable[[], object], calls: int) -> float:
    spent = []
    for _ in range(calls):
        start = perf_counter()
        act()
        spent.append(perf_counter() - start)
    return median(spent)
