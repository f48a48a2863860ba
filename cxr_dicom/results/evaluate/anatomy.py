"""How right outlines and measurements are: overlap and distance of borders, differences and their limits."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from cxr_dicom.records.plane import Region
from cxr_dicom.results import masks
from cxr_dicom.results.compare import dice, differences
from cxr_dicom.results.evaluate.experts import Experts, Outline
from cxr_dicom.results.evaluate.scored import Matched, Results
from cxr_dicom.results.evaluate.statistics import CONFIDENCE, Estimate
from cxr_dicom.results.evaluate.surface import surface_distances

Values = NDArray[np.float64]

MAX_CASES = 20


@dataclass(frozen=True, kw_only=True)
class OutlinedCase:
    """One image with its figures."""

    sop_instance_uid: str
    study_instance_uid: str
    line: int  # in results.jsonl
    dice: float
    mean_distance_mm: float | None
    p95_distance_mm: float | None


@dataclass(frozen=True, kw_only=True)
class StructureEvaluation:
    """How well a structure is outlined; a mean over images, its interval over patients or studies."""

    name: str
    models: list[str]
    n: int  # images on which an expert outlined it
    missed: int  # of them: no outline of ours, which counts as a Dice of 0
    dice: Estimate
    median_dice: float
    lowest_dice: float
    mean_distance_mm: Estimate  # average symmetric surface distance
    p95_distance_mm: Estimate  # robust Hausdorff distance
    cases: list[OutlinedCase]  # the least alike first


@dataclass(frozen=True, kw_only=True)
class MeasuredCase:
    """One image with both values."""

    sop_instance_uid: str
    study_instance_uid: str
    line: int  # in results.jsonl
    ours: float
    truth: float


@dataclass(frozen=True, kw_only=True)
class MeasurementEvaluation:
    """Our value less the truth (Bland and Altman 1986, 1999)."""

    name: str
    models: list[str]
    unit: str
    n: int
    unmeasured: int  # images with a truth, and no value of ours in this unit
    bias: Estimate  # mean difference
    sd: float | None
    limits: tuple[float, float] | None  # of agreement: bias - 1.96 and + 1.96 standard deviations
    limits_error: float | None  # half the width of the 95 % interval of either limit
    points: list[tuple[float, float]]  # mean of both, difference; at most 2000
    cases: list[MeasuredCase] = field(default_factory=list)  # the most different first


@dataclass(frozen=True, kw_only=True)
class AnatomyEvaluation:
    """All structures and measurements."""

    structures: list[StructureEvaluation] = field(default_factory=list)
    measurements: list[MeasurementEvaluation] = field(default_factory=list)
    outlined_images: int = 0  # images of experts that the run processed
    unused: dict[str, int] = field(default_factory=dict)  # why an outline was not compared -> outlines


def evaluate_measurements(images: Matched) -> list[MeasurementEvaluation]:
    """Compare measurements with the numbers of the truth, in the unit that most images are measured in."""
    found = []
    for name, by_unit in images.results.measurements.items():
        numbers = images.truth.numbers.get(name.partition("__")[0])
        if numbers is None:
            continue
        unit = max(by_unit, key=lambda unit: int(np.isfinite(by_unit[unit].raw).sum()))
        ours, truth = by_unit[unit].at(images.rows), numbers[images.truths]
        both = np.isfinite(ours) & np.isfinite(truth)
        wanted = int(np.isfinite(truth).sum())
        made = _measurement(
            name, unit, sorted(by_unit[unit].models), ours[both], truth[both], images.patients[both], wanted
        )
        found.append(replace(made, cases=_apart(images, both, ours, truth)))
    return found


def _apart(images: Matched, both: NDArray[np.bool_], ours: Values, truth: Values) -> list[MeasuredCase]:
    """List images by how far both values lie apart."""
    places, results = np.flatnonzero(both), images.results
    order = places[np.argsort(-np.abs(ours - truth)[places], kind="stable")][:MAX_CASES]
    return [
        MeasuredCase(
            sop_instance_uid=results.uids[row],
            study_instance_uid=results.studies[row],
            line=results.lines[row],
            ours=float(ours[at]),
            truth=float(truth[at]),
        )
        for at, row in zip(order, images.rows[order], strict=True)
    ]


def _measurement(
    name: str, unit: str, models: list[str], ours: Values, truth: Values, patients: NDArray[np.intp], wanted: int
) -> MeasurementEvaluation:
    change = differences(truth, ours)
    error = None
    if change and change.sd is not None:
        n = change.n
        spread = change.sd * np.sqrt(1 / n + 1.959964**2 / (2 * (n - 1)))  # Bland and Altman 1999, section 2.1
        error = float(student.ppf((1 + CONFIDENCE) / 2, n - 1) * spread)
    step = max(1, ours.size // 2000)
    return MeasurementEvaluation(
        name=name,
        models=models,
        unit=unit,
        n=ours.size,
        unmeasured=wanted - ours.size,
        bias=mean(ours - truth, patients),
        sd=change.sd if change else None,
        limits=change.limits_of_agreement if change else None,
        limits_error=error,
        points=list(zip(((ours + truth) / 2)[::step].tolist(), (ours - truth)[::step].tolist(), strict=True)),
    )


def mean(values: Values, patients: NDArray[np.intp]) -> Estimate:
    """Mean with Student's interval; what several images of a patient add to the error is summed first."""
    if not values.size:
        return Estimate(value=None, why="no image to count")
    value = float(values.mean())
    _, places = np.unique(patients, return_inverse=True)
    sums = np.bincount(places, weights=values - value)
    if sums.size < 2:
        return Estimate(value=value, n=values.size, why="an interval needs two patients")
    error = float(np.sqrt(sums.size / (sums.size - 1) * (sums @ sums))) / values.size
    half = float(student.ppf((1 + CONFIDENCE) / 2, sums.size - 1)) * error
    return Estimate(value=value, low=value - half, high=value + half, n=values.size)


@dataclass
class _Collected:
    images: list[int] = field(default_factory=list)  # numbers in the results
    dice: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)  # NaN where there is none
    p95: list[float] = field(default_factory=list)
    missed: int = 0


def evaluate_structures(results: Results, experts: Experts) -> AnatomyEvaluation:
    """Compare the outlines of experts with those of the run, image by image.

    Where several experts outlined a structure on an image, its figures are the means over them.
    """
    places = {uid: number for number, uid in enumerate(results.uids)}
    collected: dict[str, _Collected] = defaultdict(_Collected)
    unused: Counter[str] = Counter(experts.unnamed)
    images = 0
    for uid, drawn in experts.outlines.items():
        number = places.get(uid)
        if number is None:
            unused[results.refused.get(uid, "of an image that is not in the results")] += len(drawn)
            continue
        images += 1
        found = _ours(results, number, unused)
        if found is not None:
            _compare(results, number, drawn, found, collected, unused)
    structures = [_structure(name, figures, results) for name, figures in sorted(collected.items())]
    return AnatomyEvaluation(structures=structures, outlined_images=images, unused=dict(sorted(unused.items())))


def _ours(results: Results, number: int, unused: Counter[str]) -> tuple[masks.Masks, tuple[int, int]] | None:
    row = results.row(number)
    try:
        return masks.read(Path(results.folder), row), (int(row["rows"] or 0), int(row["columns"] or 0))
    except (OSError, *masks.NOT_OURS):
        unused["of an image whose segmentation cannot be read"] += 1
        return None


def _compare(
    results: Results,
    number: int,
    drawn: dict[str, list[Outline]],
    found: tuple[masks.Masks, tuple[int, int]],
    collected: dict[str, _Collected],
    unused: Counter[str],
) -> None:
    ours, shape = found
    known = results.structures
    spacing = results.spacing[number]
    for name, outlines in drawn.items():
        names = [structure for structure in known if structure.partition("__")[0] == name]
        if not names:
            unused["of a structure that the run does not outline"] += len(outlines)
        wanted = [outline.on(shape, spacing) for outline in outlines]
        unused.update(region for region in wanted if isinstance(region, str))
        regions = [region for region in wanted if isinstance(region, Region) and region.area]
        for structure in names if regions else ():
            _add(collected[structure], number, ours.get(structure), regions, spacing)


def _add(
    into: _Collected, number: int, ours: Region | None, regions: Sequence[Region], spacing: tuple[float, float] | None
) -> None:
    into.images.append(number)
    if ours is None:
        into.missed += 1
        into.dice.append(0.0)
        into.mean.append(np.nan)
        into.p95.append(np.nan)
        return
    into.dice.append(float(np.mean([dice(ours, region) for region in regions])))
    far = [surface_distances(ours, region, spacing) for region in regions] if spacing else []
    there = [distance for distance in far if distance]
    into.mean.append(float(np.mean([distance.mean for distance in there])) if there else np.nan)
    into.p95.append(float(np.mean([distance.p95 for distance in there])) if there else np.nan)


def _structure(name: str, collected: _Collected, results: Results) -> StructureEvaluation:
    overlap, far, p95 = (np.array(values) for values in (collected.dice, collected.mean, collected.p95))
    studies = np.unique([results.studies[number] for number in collected.images], return_inverse=True)[1]
    measured = np.isfinite(far)
    order = np.argsort(overlap, kind="stable")[:MAX_CASES]
    return StructureEvaluation(
        name=name,
        models=[results.structures[name]],
        n=overlap.size,
        missed=collected.missed,
        dice=_between(mean(overlap, studies), 0, 1),
        median_dice=float(np.median(overlap)),
        lowest_dice=float(overlap.min()),
        mean_distance_mm=_between(mean(far[measured], studies[measured]), 0, np.inf),
        p95_distance_mm=_between(mean(p95[measured], studies[measured]), 0, np.inf),
        cases=list(_cases(results, collected, order)),
    )


def _cases(results: Results, collected: _Collected, order: NDArray[np.intp]) -> Iterator[OutlinedCase]:
    for at in order:
        yield OutlinedCase(
            sop_instance_uid=results.uids[collected.images[at]],
            study_instance_uid=results.studies[collected.images[at]],
            line=results.lines[collected.images[at]],
            dice=collected.dice[at],
            mean_distance_mm=_or_none(collected.mean[at]),
            p95_distance_mm=_or_none(collected.p95[at]),
        )


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _between(estimate: Estimate, low: float, high: float) -> Estimate:
    if estimate.low is None or estimate.high is None:
        return estimate
    return Estimate(
        value=estimate.value, low=max(low, estimate.low), high=min(high, estimate.high), n=estimate.n, why=estimate.why
    )
