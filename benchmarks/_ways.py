"""The same images through ``cxr-dicom run``, through the loop written by hand, and as bare forward passes.

Each way runs in a process of its own, or in those that it starts. Imports, weights and the first images
are outside of the clock. On all cores there is a worker for each.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any
from unittest.mock import patch

from pydicom import Dataset, dcmread
from pydicom.data import get_testdata_file

from benchmarks import _networks
from benchmarks._harness import Plan, folder
from benchmarks._networks import Clocked
from cxr_dicom import synthetic
from cxr_dicom.cohort.engines.local import cores
from cxr_dicom.cohort.task import EntryTask
from cxr_dicom.config import Settings

IMAGES = 10


@dataclass(frozen=True)
class Place:
    """Where images and weights lie."""

    path: Path
    plan: Plan
    models: tuple[str, ...]

    def run(self, threads: int | None, backend: str = "torch") -> float:
        """Return the images per second of ``cxr-dicom run``."""
        jobs = 1 if threads == 1 or self.plan.is_quick else cores()
        return self.plan.apart(by_cxr_dicom, str(self.path), self.models, backend, jobs, threads=threads)

    def process(self, threads: int | None) -> Measured:
        """Measure the pipeline without the result files and the report, which the loop does not write."""
        return Measured(**self.plan.apart(by_pipeline, str(self.path), self.models, threads=threads))

    def by_hand(self, threads: int | None) -> Measured:
        """Measure the loop."""
        return Measured(**self.plan.apart(by_hand, str(self.path), self.models, threads=threads))

    def by_skilled_hand(self, threads: int | None) -> Measured:
        """Measure the better loop, with a process that decodes on each core but one."""
        workers = 0 if self.plan.is_quick else max(1, cores() - 1)
        return Measured(**self.plan.apart(by_skilled_hand, str(self.path), self.models, workers, threads=threads))

    def bare(self, threads: int | None) -> Measured:
        """Measure the forward passes alone."""
        return Measured(**self.plan.apart(bare, str(self.path), self.models, threads=threads))


@dataclass(frozen=True)
class Measured:
    """What one way needed."""

    images_per_second: float
    overhead: float  # processor seconds for an image outside of the forward passes


def real() -> Dataset:
    """A real CR image; a synthetic one where pydicom-data is not installed."""
    path = get_testdata_file("RG1_UNCR.dcm", download=False)
    return synthetic.radiograph() if path is None else dcmread(path)


@contextmanager
def place(plan: Plan, image: Callable[[], Dataset] = real, count: int = IMAGES) -> Iterator[Place]:
    """Write weights and images: the same image again and again, each time in a study of its own."""
    with folder() as path:
        models = _networks.MODELS[:1] if plan.is_quick else _networks.MODELS
        plan.apart(_networks.write, str(path / "weights"), models)
        (path / "images").mkdir()
        dataset = synthetic.radiograph() if plan.is_quick else image()
        for number in range(2 if plan.is_quick else count):
            uid = f"1.2.3.{number + 1}"
            dataset.StudyInstanceUID, dataset.SeriesInstanceUID = uid, f"{uid}.1"
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{uid}.1.1"
            dataset.save_as(path / "images" / f"{number}.dcm", enforce_file_format=True)
        yield Place(path, plan, models)


class Clock:
    """Starts when the first image is done."""

    def __init__(self) -> None:
        self._at: tuple[float, float, float] | None = None

    def start(self) -> None:
        """Begin to count, unless that was done."""
        self._at = self._at or self._now()

    def measured(self, images: int) -> dict[str, float]:
        """Say what so many images needed since."""
        assert self._at
        wall, processor, forward = (now - then for now, then in zip(self._now(), self._at, strict=True))
        return {"images_per_second": images / wall, "overhead": (processor - forward) / images}

    @staticmethod
    def _now() -> tuple[float, float, float]:
        return time.perf_counter(), time.process_time(), Clocked.spent


def by_cxr_dicom(path: str, models: Sequence[str], backend: str, jobs: int) -> float:
    """Be the process that does what ``cxr-dicom run`` does."""
    return images_per_second(path, models, settings(path, models, backend), jobs, PaintedTask)


def images_per_second(
    path: str, models: Sequence[str], chosen: Settings, jobs: int, task: Callable[..., EntryTask]
) -> float:
    """Run the images, from the first of each worker to the last.

    Without the pictures of each image that ``run`` draws for its report, for the loop draws none.
    """
    from cxr_dicom.cohort import run as cohort_run
    from cxr_dicom.cohort.engines.here import Here
    from cxr_dicom.cohort.engines.local import Local
    from cxr_dicom.cohort.options import Options
    from cxr_dicom.ingest import manifest

    out, at = Path(path) / "out", [time.perf_counter()]

    def report_progress(progress: cohort_run.Progress) -> None:
        if progress.latest:
            at.append(time.perf_counter())

    images = manifest.read([Path(path) / "images"])
    engine = Local(jobs) if jobs > 1 else Here()
    with patch("cxr_dicom.cohort.run.EntryTask", task):
        cohort_run.run(
            images,
            out,
            chosen,
            engine,
            options=Options(has_figures=False),
            report_progress=report_progress,
        )
    _expect_objects(out, len(images.entries), models)
    return (len(at) - 1 - jobs) / (at[-1] - at[jobs])


class PaintedTask(EntryTask):
    """The task of a worker; what the networks find is replaced by plausible structures and one heatmap."""

    @cached_property
    def _tools(self) -> Any:
        tools = EntryTask._tools.func(self)
        tools.pipeline.models = [_clocked(model) for model in tools.pipeline.models]
        return tools


def by_pipeline(path: str, models: Sequence[str]) -> dict[str, float]:
    """Be the process of the pipeline alone."""
    from cxr_dicom.ingest.folder import scan
    from cxr_dicom.pipeline import Pipeline
    from cxr_dicom.system.loading import loading

    clock, out = Clock(), Path(path) / "out"
    studies, _ = scan([Path(path) / "images"])
    with patch("cxr_dicom.pipeline.build_models", _build_clocked), loading():
        pipeline = Pipeline(settings(path, models, "torch"))
    for study in studies:
        pipeline.process(study, out / study.study_instance_uid)
        clock.start()
    measured = clock.measured(len(studies) - 1)
    _expect_objects(out, len(studies), models)
    return measured


def by_hand(path: str, models: Sequence[str]) -> dict[str, float]:
    """Be the process of the loop."""
    from benchmarks._by_hand import Loop

    clock, out = Clock(), Path(path) / "out"
    out.mkdir()
    loop = Loop(Path(path) / "weights", out, models)
    images = sorted((Path(path) / "images").iterdir())
    for image in images:
        loop(image)
        clock.start()
    measured = clock.measured(len(images) - 1)
    _expect_objects(out, len(images), models)
    return measured


def by_skilled_hand(path: str, models: Sequence[str], workers: int) -> dict[str, float]:
    """Be the process of the better loop."""
    from benchmarks._by_skilled_hand import SkilledLoop

    clock, out = Clock(), Path(path) / "out"
    out.mkdir()
    images = sorted((Path(path) / "images").iterdir())
    for _ in SkilledLoop(Path(path) / "weights", out, models).run(images, workers):
        clock.start()
    measured = clock.measured(len(images) - 1)
    _expect_objects(out, len(images), models)
    return measured


def bare(path: str, models: Sequence[str]) -> dict[str, float]:
    """Be the process of the forward passes: the same networks as in ``run``, on tensors in memory."""
    import torch

    from cxr_dicom.infer import build_models
    from cxr_dicom.system.loading import loading

    with loading():
        built = build_models(settings(path, models, "torch"))
    passes = [(forward_of(model), torch.zeros(shape_of(model))) for model in built]
    clock, images = Clock(), len(list((Path(path) / "images").iterdir()))
    with torch.inference_mode():
        for _ in range(images):
            for forward, pixels in passes:
                forward(pixels)
            clock.start()
    return clock.measured(images - 1)


def settings(path: str, models: Sequence[str], backend: str, device: str = "cpu", batch: int = 1) -> Settings:
    chosen: dict[str, Any] = {"names": models, "folder": Path(path) / "weights", "device": device, "batch": batch}
    if backend != "torch":
        chosen["backend"] = backend
    return Settings.model_validate({"models": chosen, "select": {"no_lungs": "process"}})


def forward_of(model: Any) -> Any:
    return model.score if hasattr(model, "score") else model.network


def shape_of(model: Any) -> tuple[int, ...]:
    return 1, 1 if hasattr(model, "score") else 3, model.info.input_size, model.info.input_size


def _build_clocked(settings: Settings, names: Sequence[str] | None = None) -> list[Any]:
    from cxr_dicom.infer import build_models

    return [_clocked(model) for model in build_models(settings, names)]


def _clocked(model: Any) -> Any:
    if hasattr(model, "score"):
        return replace(model, score=Clocked(model.score, _networks.one_map()))
    return replace(model, network=Clocked(model.network, _networks.anatomy(model.info.input_size)))


def _expect_objects(out: Path, images: int, models: Sequence[str]) -> None:
    """One of each model and a report; ours are two."""
    expected, found = (len(models) + 1) * images, len(list(out.rglob("*.dcm")))
    if found < expected:
        raise RuntimeError(f"expected {expected} objects or more, found {found}")
    shutil.rmtree(out)
