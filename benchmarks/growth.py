"""Whether ``cxr-dicom run`` needs more for each study when there are more of them.

Small synthetic images and the offline models on one worker, so that what is not network counts. Memory is
the highest resident set of all processes together; the clock is the timeline of the session.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil

from benchmarks._harness import ROOT, Plan, Row, folder, in_turn, ratios
from cxr_dicom import synthetic
from cxr_dicom.cohort.engine import DEPTH
from cxr_dicom.ingest.folder import STATE_FOLDER

FEW, SIZES = 30, (300, 3000)
SETTINGS = '[models]\nnames = ["offline-anatomy", "lung-opacity"]\n[select]\nno_lungs = "process"\n'
FIGURES = {"highest memory": {"at_most": 1.05}, "seconds per study": {"at_most": 1.05}, "seconds for the results": {}}
_SAMPLE_SECONDS = 0.1
_AS_A_COHORT = (  # the few would get large pictures and another report
    "from cxr_dicom.cohort import run; run.FIGURES_UP_TO = 0; from cxr_dicom.cli import main; main()"
)


def measure(plan: Plan) -> Iterator[Row]:
    """Yield rows of memory and time for each size; the largest is measured a third as often."""
    few, sizes = (DEPTH + 1, (DEPTH + 3,)) if plan.is_quick else (FEW, SIZES)
    with folder() as place:
        (place / "settings.toml").write_text(SETTINGS, encoding="utf-8")
        write_images(place / "images", max(sizes))
        for size in sizes:
            repeats = plan.repeats if size < max(SIZES) else max(1, plan.repeats // 3)
            pairs = in_turn(partial(run, place, size), partial(run, place, few), repeats)
            for number, (what, goal) in enumerate(FIGURES.items()):
                row = f"growth: {what}, {size} studies against {few}"
                yield ratios(row, [(many[number], less[number]) for many, less in pairs], **goal)


def write_images(place: Path, studies: int, pixels: int = 256) -> None:
    """Write so many studies of one image of so many pixels a side."""
    place.mkdir()
    dataset = synthetic.radiograph(pixels, pixels)
    for number in range(studies):
        uid = f"1.2.3.{number + 1}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid, f"{uid}.1"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{uid}.1.1"
        dataset.save_as(place / f"{number:06}.dcm", enforce_file_format=True)


def run(place: Path, studies: int) -> tuple[float, float, float]:
    """Return highest memory in bytes, seconds for each study, and from the last study to the report.

    The clock starts with the first study that is done.
    """
    chosen, out = place / "chosen", place / "out"
    chosen.mkdir()
    for image in sorted((place / "images").iterdir())[:studies]:
        (chosen / image.name).hardlink_to(image)
    command = ["run", str(chosen), "-o", str(out), "--workers", "1", "--quiet"]
    process = subprocess.Popen(
        [sys.executable, "-c", _AS_A_COHORT, *command, "--config", str(place / "settings.toml")], cwd=ROOT
    )
    highest = Highest(process.pid)
    exit_code, memory = process.wait(), highest.stop()
    if exit_code:
        raise RuntimeError(f"the run ended with {exit_code}")
    session = json.loads((out / "run.json").read_text(encoding="utf-8"))["sessions"][-1]
    (first, before), (last, after) = session["timeline"][0], session["timeline"][-1]
    results = (out / "report.html").stat().st_mtime - last_state(out)
    for each in (chosen, out):
        shutil.rmtree(each)
    return memory, (last - first) / (after - before), results


def last_state(out: Path) -> float:
    """Return when the last state was kept."""
    return max(path.stat().st_mtime for path in (out / STATE_FOLDER).glob("journal-*"))


class Highest:
    """Watches the memory of a process and its children."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._highest = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> float:
        """Return the highest sum of resident sets that was seen, in bytes."""
        self._end.set()
        self._thread.join()
        return float(self._highest)

    def _watch(self) -> None:
        while not self._end.wait(_SAMPLE_SECONDS):
            try:
                family = [self._process, *self._process.children(recursive=True)]
                self._highest = max(self._highest, sum(each.memory_info().rss for each in family))
            except psutil.NoSuchProcess:  # ended between two questions
                continue
