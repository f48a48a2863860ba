"""What a second worker of ``cxr-dicom cohort`` is worth; each computes on one thread.

From the first image that is done to the last, so that imports and the loading of models do not count.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks._harness import ROOT, Plan, Row, folder, in_turn, ratios
from cxr_dicom import testing

STUDIES, SHAPE = 60, (2000, 1700)


def measure(plan: Plan) -> Iterator[Row]:
    """Yield one row."""
    studies, shape = (3, (256, 256)) if plan.is_quick else (STUDIES, SHAPE)
    with folder() as place:
        for number in range(studies):
            testing.write_study(
                place / "images" / str(number), [testing.radiograph(*shape, seed=number, study=str(number))]
            )
        pairs = in_turn(partial(images_per_second, place, 2), partial(images_per_second, place, 1), plan.repeats)
        yield ratios("workers: images/s of two, against one", pairs, at_least=1.6)


def images_per_second(place: Path, workers: int) -> float:
    """Process all images, each again."""
    out = place / "out"
    command = [
        sys.executable,
        "-m",
        "cxr_dicom",
        "cohort",
        place / "images",
        "-o",
        out,
        "--workers",
        workers,
        "--force",
    ]
    models = ["--models", "offline-anatomy,lung-opacity", "--quiet"]
    subprocess.run([*map(str, command), *models], check=True, cwd=ROOT)
    timeline = json.loads((out / "run.json").read_text())["sessions"][-1]["timeline"]
    (start, first), (end, last) = timeline[0], timeline[-1]
    return float((last - first + 1e-9) / (end - start + 1e-9))  # of very few they may come together
