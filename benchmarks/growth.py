"""Whether ``cxr-dicom run`` needs more for each study when there are more of them.

Small synthetic images and the offline models, so that what is not network counts. Memory is the
highest resident set of all processes of the run together; the clock starts with the first study done.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil

from benchmarks._harness import ROOT, Plan, Row, folder, in_turn, ratios
from cxr_dicom import testing

FEW, SIZES = 30, (300, 3000)
SETTINGS = '[models]\nnames = ["offline-anatomy", "lung-opacity"]\n[select]\nno_lungs = "process"\n'
_SAMPLE_SECONDS = 0.1


def measure(plan: Plan) -> Iterator[Row]:
    """Yield rows of memory and time for each size; the largest is measured a third as often."""
    few, sizes = (2, (4,)) if plan.is_quick else (FEW, SIZES)
    with folder() as place:
        (place / "settings.toml").write_text(SETTINGS, encoding="utf-8")
        write_images(place / "images", max(sizes))
        for size in sizes:
            repeats = plan.repeats if size < max(SIZES) else max(1, plan.repeats // 3)
            pairs = in_turn(partial(run, place, size), partial(run, place, few), repeats)
            for number, what in enumerate(("highest memory", "seconds per study")):
                row = f"growth: {what}, {size} studies against {few}"
                yield ratios(row, [(many[number], less[number]) for many, less in pairs], at_most=1.05)


def write_images(place: Path, studies: int) -> None:
    """Write so many studies of one image."""
    place.mkdir()
    dataset = testing.radiograph(256, 256)
    for number in range(studies):
        uid = f"1.2.3.{number + 1}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid, f"{uid}.1"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{uid}.1.1"
        dataset.save_as(place / f"{number:06}.dcm", enforce_file_format=True)


def run(place: Path, studies: int) -> tuple[float, float]:
    """Return highest memory in bytes, and seconds for each study."""
    images = sorted((place / "images").iterdir())[:studies]
    chosen = place / "chosen"
    chosen.mkdir()
    for image in images:
        (chosen / image.name).hardlink_to(image)
    command = ["-m", "cxr_dicom", "run", str(chosen), "-o", str(place / "out")]
    process = subprocess.Popen(
        [sys.executable, *command, "--config", str(place / "settings.toml")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    highest = Highest(process.pid)
    assert process.stdout
    assert process.stderr
    threading.Thread(target=process.stderr.read, daemon=True).start()  # what nobody reads would stop the run
    while not any((place / "out").glob(".cxr-dicom/*.json")):
        time.sleep(0.005)
    first = time.perf_counter()
    process.stdout.readline()  # the summary: all is written
    seconds = time.perf_counter() - first
    if process.wait():
        raise RuntimeError(f"the run ended with {process.returncode}")
    shutil.rmtree(chosen)
    shutil.rmtree(place / "out")
    return highest.stop(), seconds / (studies - 1)


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
