"""Bytes of the parent of ``run`` for each finished study of one image, against 300.

Resident sets with many studies in a folder less those with few, each in a process of its own in which nothing is
computed: what fills up once and stays does not count. UIDs and paths are short.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import psutil

from benchmarks._harness import Plan, Ratio, Row, folder
from benchmarks.growth import Highest, write_images
from benchmarks.slow_disk import NoNetworks, finish
from cxr_dicom.cohort import run as cohort_run
from cxr_dicom.cohort.engines.here import Here
from cxr_dicom.config import Settings
from cxr_dicom.ingest import manifest

SIZES = (16_384, 49_152)  # with as many rows each that are not in order yet: none
GOAL = 300  # bytes
_WARM = 10  # studies, before anything is measured: for imports
_FIGURES = {
    "highest while the folder is read": {"at_most": 1.0},
    "at the last study": {"at_most": 1.0},
    "highest while the tables are written": {},
}


def measure(plan: Plan) -> Iterator[Row]:
    """Yield a row for each phase of a run."""
    sizes = (20, 40) if plan.is_quick else SIZES
    with folder() as place:
        for count in (_WARM, *sizes):
            (place / f"{count}").mkdir()
            write_images(place / f"{count}" / "images", count, pixels=32)
            plan.apart(finish_all, str(place / f"{count}"))
        repeats = [[plan.apart(held, str(place), count) for count in sizes] for _ in range(plan.repeats)]
    for number, (what, goal) in enumerate(_FIGURES.items()):
        taken = [(many[number] - few[number]) / (sizes[1] - sizes[0]) for few, many in repeats]
        yield Ratio(
            f"memory: bytes of the parent for each study, {what}, against {GOAL}",
            tuple(max(each, 1) / GOAL for each in taken),
            **goal,
        )


def finish_all(place: str) -> None:
    """Leave what a run on a folder leaves."""
    with patch("cxr_dicom.pipeline.Pipeline", NoNetworks):
        finish(manifest.read(f"{place}/images"), Path(place, "out"), _settings())


def held(place: str, studies: int) -> list[float]:
    """Return the bytes of this process in each phase of `_FIGURES`."""
    with patch("cxr_dicom.pipeline.Pipeline", NoNetworks), patch.object(cohort_run, "FIGURES_UP_TO", 0):
        _again(Path(place, f"{_WARM}"))
        return _again(Path(place, f"{studies}"))


def _again(place: Path) -> list[float]:
    reading = Highest(os.getpid())
    found = manifest.read(str(place / "images"))
    figures, writing = [reading.stop()], list[Highest]()

    def note(progress: cohort_run.Progress) -> None:
        if progress.tally.done == len(found.entries):
            figures.append(float(psutil.Process().memory_info().rss))
            writing.append(Highest(os.getpid()))

    try:
        tally = cohort_run.run(found, place / "out", _settings(), Here(), report_progress=note)
    finally:
        figures += [each.stop() for each in writing]
    if tally.computed:
        raise RuntimeError(f"expected {len(found.entries)} finished studies, {tally.computed} were not")
    return figures


def _settings() -> Settings:
    return Settings.model_validate({"models": {"names": ["offline-anatomy"], "device": "cpu"}})
