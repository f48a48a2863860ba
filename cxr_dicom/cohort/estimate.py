"""What a cohort will take, estimated before it starts: counts from headers, time and size from one trial."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from cxr_dicom import synthetic
from cxr_dicom.config import Settings
from cxr_dicom.ingest.folder import scan
from cxr_dicom.ingest.manifest import Manifest, Survey, survey
from cxr_dicom.pipeline import Pipeline
from cxr_dicom.records import Study
from cxr_dicom.select import select

LOOKED_AT = 2000  # studies whose headers are read; of more, these are spread evenly
_TYPICAL = (2500, 2048)  # rows and columns of the synthetic radiograph, where no eligible image is on this machine


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What is known, and what follows from it if the rest is like it."""

    survey: Survey
    looked_at: int  # instances whose headers were read
    eligible: int  # of these
    reasons: Mapping[str, int]  # of the others
    images: int  # eligible ones to be expected in all
    seconds: float  # with the given number of workers, without fetching
    bytes: int  # of the objects
    is_synthetic: bool  # the trial ran on a synthetic radiograph


def estimate(manifest: Manifest, settings: Settings, workers: int) -> Estimate:
    """Look at a manifest's headers, and process one radiograph twice: the second time is what counts.

    Raises
    ------
    SettingsError, WeightsError
        If the pipeline cannot be built.
    """
    counted = survey(manifest)
    studies = [entry.study for entry in manifest.entries if entry.study]
    eligible, reasons, example = _look(studies[:: max(1, -(-len(studies) // LOOKED_AT))], settings)
    looked_at = eligible + reasons.total()
    share = eligible / looked_at if looked_at else 1.0
    expected = counted.instances + counted.unknown_instances  # one image, where nothing is known
    images = round(share * expected)
    seconds, size = _trial(example, settings)
    return Estimate(
        survey=counted,
        looked_at=looked_at,
        eligible=eligible,
        reasons=dict(reasons),
        images=images,
        seconds=images * seconds / workers,
        bytes=images * size,
        is_synthetic=example is None,
    )


def _look(studies: Sequence[Study], settings: Settings) -> tuple[int, Counter[str], Study | None]:
    eligible, reasons, example = 0, Counter[str](), None
    for study in studies:
        selection = select(study, settings.select)
        eligible += len(selection.images)
        reasons.update(str(skip.reason) for skip in selection.skipped)
        example = example or (study if selection.images else None)
    return eligible, reasons, example


def _trial(example: Study | None, settings: Settings) -> tuple[float, int]:
    """Return seconds and bytes per image."""
    models = settings.models.model_copy(update={"batch": 1})  # nobody shares the networks with it
    pipeline = Pipeline(settings.model_copy(update={"models": models}))
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            study = example or _synthetic(folder)
            pipeline.process(study, folder)  # what is slow only once: libraries, memory, caches
            start = perf_counter()
            result = pipeline.process(study, folder)
            seconds = perf_counter() - start
            made = {encoded.path for instance in result.instances for encoded in instance.objects}
            size = sum(path.stat().st_size for path in made)
            images = sum(instance.analysis is not None for instance in result.instances) or 1
            return seconds / images, size // images
    finally:
        pipeline.close()


def _synthetic(folder: Path) -> Study:
    synthetic.radiograph(*_TYPICAL).save_as(folder / "radiograph", enforce_file_format=True)
    (study,), _ = scan([folder / "radiograph"])
    return study
