"""What a second worker of ``cxr-dicom run`` is worth, on two cores against one.

A worker's networks compute on one thread, but it reads and writes a second study meanwhile. So the
one worker is held to one core; the second row has it free to overlap.

From the first image that is done to the last, so that imports and the loading of models do not count.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks._harness import ROOT, Plan, Row, folder, in_turn, ratios
from cxr_dicom import synthetic

STUDIES, SHAPE = 60, (2000, 1700)


def measure(plan: Plan) -> Iterator[Row]:
    """Yield a row with the one worker on one core, and one with it on all."""
    studies, shape = (3, (256, 256)) if plan.is_quick else (STUDIES, SHAPE)
    with folder() as place:
        for number in range(studies):
            synthetic.write_study(
                place / "images" / str(number), [synthetic.radiograph(*shape, seed=number, study=str(number))]
            )
        two = partial(images_per_second, place, 2)
        pairs = in_turn(two, partial(images_per_second, place, 1, held=True), plan.repeats)
        yield ratios("workers: images/s of two, against one on one core", pairs, at_least=1.6)
        if plan.is_quick:  # the next row starts nothing that this one did not
            return
        pairs = in_turn(two, partial(images_per_second, place, 1), plan.repeats)
        yield ratios("workers: images/s of two, against one that overlaps on two cores", pairs)


def images_per_second(place: Path, workers: int, *, held: bool = False) -> float:
    """Process all images, each again; ``held`` to one core."""
    out = place / "out"
    command = [
        sys.executable,
        "-m",
        "cxr_dicom",
        "run",
        place / "images",
        "-o",
        out,
        "--workers",
        workers,
        "--force",
    ]
    models = ["--models", "offline-anatomy,lung-opacity", "--quiet"]
    subprocess.run([*map(str, command), *models], check=True, cwd=ROOT, preexec_fn=_on_one_core if held else None)
    timeline = json.loads((out / "run.json").read_text())["sessions"][-1]["timeline"]
    (start, first), (end, last) = timeline[0], timeline[-1]
    return float((last - first + 1e-9) / (end - start + 1e-9))  # of very few they may come together


def _on_one_core() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
