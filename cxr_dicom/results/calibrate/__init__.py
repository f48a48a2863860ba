"""Operating points and calibration for one site, from results and truth, by cross-validation over patients.

What is chosen on all patients is judged on patients that it was not chosen on. Too small a sample is refused, with
the number that is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np

from cxr_dicom import __version__
from cxr_dicom.config.operating_points import FindingPoint, Interval, ModelPoints, OperatingPoints
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.results.calibrate.curves import Curve, Flags, Groups, Values, calibrated, fitted
from cxr_dicom.results.evaluate import Matched, Reading, read_matched, statistics
from cxr_dicom.results.evaluate.reliability import reliability

__all__ = ["Aim", "Calibration", "Method", "Refusal", "calibrate", "threshold"]

MIN_PATIENTS = 30  # patients with a finding, and without
MIN_ISOTONIC = 100  # steps follow single patients below (Niculescu-Mizil and Caruana 2005 say 1000 images)
FOLDS = 5
MIN_CALLED = 10  # images above a threshold, for its PPV to say something
_WITHIN = 0.1  # half the width of the interval of a wanted share

Method = Literal["platt", "isotonic", "none"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Aim:
    """What an operating point is chosen for."""

    kind: Literal["sensitivity", "specificity", "ppv", "youden"]
    value: float | None = None  # None for Youden's index

    def __str__(self) -> str:
        """As the command line has it."""
        return self.kind if self.value is None else f"{self.kind}={self.value:g}"

    @property
    def needed(self) -> tuple[int, int]:
        """Patients with and without the finding: so many that the wanted share is known within 0.1."""
        if self.value is None:
            return MIN_PATIENTS, MIN_PATIENTS
        share = max(MIN_PATIENTS, ceil(statistics.Z**2 * self.value * (1 - self.value) / _WITHIN**2))
        return (MIN_PATIENTS, share) if self.kind == "specificity" else (share, MIN_PATIENTS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Refusal:
    """A finding that gets no operating point, and why."""

    name: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was made, and what was not."""

    points: OperatingPoints | None  # None: nothing could be made
    refused: list[Refusal]


def calibrate(
    out: Path,
    truth: Path,
    reading: Reading,
    *,
    aims: Mapping[str | None, Aim],
    method: Method = "platt",
    findings: Sequence[str] = (),
    made: date | None = None,
) -> Calibration:
    """Choose operating points.

    Parameters
    ----------
    out, truth, reading
        As in `cxr_dicom.results.evaluate.evaluate`; a table.
    aims
        By finding; that of None is for all others.
    method
        How scores become probabilities of this site.
    findings
        Names to choose for; empty: all with a truth.
    made
        Date that the file says; default: today.

    Raises
    ------
    CxrDicomError
        If the results or the truth cannot be read, or the results are of several weights of one model.
    """
    images = read_matched(out, truth, reading)
    weights = _weights(images)
    by_model: dict[str, dict[str, FindingPoint]] = {}
    refused: list[Refusal] = []
    for sample in _samples(images, findings, refused):
        if sample.model not in weights:
            refused.append(Refusal(name=sample.label, why=f"{sample.model} has no weights of its own"))
            continue
        aim = aims.get(sample.name) or aims.get(None) or Aim(kind="youden")
        made_point = _point(sample, aim, method)
        if isinstance(made_point, str):
            refused.append(Refusal(name=sample.label, why=made_point))
        else:
            by_model.setdefault(sample.model, {})[sample.name] = made_point
    if not by_model:
        return Calibration(points=None, refused=refused)
    models = tuple(
        ModelPoints(name=name, version=weights[name][0], weights_sha256=weights[name][1], findings=found)
        for name, found in sorted(by_model.items())
    )
    points = OperatingPoints(
        format=1,
        made=made or date.today(),
        package_version=__version__,
        patients=images.patient_count,
        images=len(images.rows),
        grouped_by=images.grouped_by,
        truth_sha256=hashlib.sha256(truth.read_bytes()).hexdigest(),
        models=models,
    )
    return Calibration(points=points, refused=refused)


def threshold(truth: Flags, scores: Values, aim: Aim) -> float | None:
    """Return the threshold that reaches an aim, halfway between two scores; None where none does.

    For a sensitivity the highest that has it, for a specificity or a PPV the lowest, for Youden's index (1950) the
    one where sensitivity and specificity add up to most.
    """
    order = np.argsort(scores, kind="stable")
    ordered, hits = scores[order], truth[order]
    starts = np.append(0, np.flatnonzero(np.diff(ordered)) + 1)  # each distinct score: it and all above are called
    positives, negatives = int(truth.sum()), int((~truth).sum())
    called_hits = positives - np.append(0, np.cumsum(hits))[starts]
    called = scores.size - starts
    below = np.append(0.0, ordered)[starts]
    points = np.where(starts > 0, (below + ordered[starts]) / 2, ordered[starts] / 2)
    sensitivity = called_hits / positives
    specificity = 1 - (called - called_hits) / negatives
    usable = points > 0  # a score of 0 is never called
    if aim.value is None:
        return float(points[np.argmax(np.where(usable, sensitivity + specificity, -1))]) if usable.any() else None
    if aim.kind == "sensitivity":
        reached = np.flatnonzero(usable & (sensitivity >= aim.value))[::-1]
    elif aim.kind == "specificity":
        reached = np.flatnonzero(usable & (specificity >= aim.value))
    else:
        reached = np.flatnonzero(usable & (called_hits / called >= aim.value) & (called >= MIN_CALLED))
    return float(points[reached[0]]) if reached.size else None


@dataclass(kw_only=True, eq=False)
class _Sample:
    name: str  # of the finding
    label: str  # as in the results, where a later model's bears its name
    model: str
    truth: Flags
    scores: Values
    patients: Groups
    upstream: float | None

    @property
    def with_and_without(self) -> tuple[int, int]:
        """Patients."""
        return len(np.unique(self.patients[self.truth])), len(np.unique(self.patients[~self.truth]))


def _weights(images: Matched) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for name, version, digest in images.results.models:
        if digest is None:
            continue
        if found.setdefault(name, (version, digest)) != (version, digest):
            raise CxrDicomError(f"{images.results.folder}: expected one version and weights of {name}, found several")
    return found


def _samples(images: Matched, wanted: Sequence[str], refused: list[Refusal]) -> Iterator[_Sample]:
    names = sorted(images.results.scores.keys() - images.results.statements)
    unknown = sorted(set(wanted) - {name.partition("__")[0] for name in names})
    refused += [Refusal(name=name, why="the results have no scores of it") for name in unknown]
    for label in names:
        name = label.partition("__")[0]
        labels = images.truth.labels.get(name)
        if wanted and name not in wanted:
            continue
        if labels is None:
            if wanted:
                refused.append(Refusal(name=label, why="the truth says nothing of it"))
            continue
        column, truth = images.results.scores[label], labels[images.truths]
        scores = column.at(images.rows)
        at = np.flatnonzero(np.isfinite(truth) & np.isfinite(scores) & (scores >= 0) & (scores <= 1))
        points = np.unique(column.at(images.rows, "point")[at])
        points = points[np.isfinite(points)]
        (model,) = sorted(column.models)[:1]
        yield _Sample(
            name=name,
            label=label,
            model=model,
            truth=truth[at] == 1,
            scores=scores[at],
            patients=images.patients[at],
            upstream=float(points[0]) if points.size == 1 else None,
        )


def _point(sample: _Sample, aim: Aim, method: Method) -> FindingPoint | str:
    sick, well = sample.with_and_without
    needed = aim.needed
    if method == "isotonic":
        needed = max(needed[0], MIN_ISOTONIC), max(needed[1], MIN_ISOTONIC)
    if sick < needed[0] or well < needed[1]:
        return (
            f"{sick} patients with the finding and {well} without, {needed[0]} and {needed[1]} are needed"
            f" for {aim}{' with isotonic calibration' if method == 'isotonic' else ''}"
        )
    area = statistics.area(sample.truth, sample.scores, sample.patients)
    if isinstance(area, str) or area.value <= 0.5:
        return "images with the finding do not score higher than others: no operating point helps"
    chosen = threshold(sample.truth, sample.scores, aim)
    if chosen is None:
        return f"no operating point reaches {aim}"
    judged = _judged(sample, aim, method)
    if judged is None:
        return f"no operating point reaches {aim} in each part of the patients"
    return FindingPoint(
        operating_point=chosen,
        upstream=sample.upstream,
        aim=str(aim),
        patients_with=sick,
        patients_without=well,
        sensitivity=_interval(statistics.proportion(judged.called[sample.truth], sample.patients[sample.truth])),
        specificity=_interval(statistics.proportion(~judged.called[~sample.truth], sample.patients[~sample.truth])),
        calibration=fitted(sample.truth, sample.scores, method),
        calibration_error=judged.errors,
    )


@dataclass(kw_only=True, eq=False)
class _Judged:
    called: Flags  # by points that were chosen on other patients
    errors: tuple[float, float] | None


def _judged(sample: _Sample, aim: Aim, method: Method) -> _Judged | None:
    """Call each image by a point that was chosen on the patients of the other folds."""
    called = np.zeros(sample.truth.size, bool)
    probabilities = sample.scores.copy()
    for inside in folds(sample.truth, sample.patients):
        point = threshold(sample.truth[~inside], sample.scores[~inside], aim)
        if point is None:
            return None
        called[inside] = sample.scores[inside] >= point
        curve: Curve | None = fitted(sample.truth[~inside], sample.scores[~inside], method)
        if curve:
            probabilities[inside] = calibrated(sample.scores[inside], curve)
    if method == "none":
        return _Judged(called=called, errors=None)
    before, after = (
        reliability(sample.truth, values, sample.patients).error.value or 0.0
        for values in (sample.scores, probabilities)
    )
    return _Judged(called=called, errors=(before, after))


def folds(truth: Flags, patients: Groups, count: int = FOLDS) -> Iterator[Flags]:
    """Split images by patient; patients with the finding are spread evenly."""
    names, places = np.unique(patients, return_inverse=True)
    sick = np.bincount(places, weights=truth) > 0
    order = np.random.default_rng(0).permutation(names.size)
    order = order[np.argsort(sick[order], kind="stable")]
    fold = np.empty(names.size, int)
    fold[order] = np.arange(names.size) % count
    yield from (fold[places] == number for number in range(count))


def _interval(estimate: statistics.Estimate) -> Interval:
    return (estimate.value or 0.0, estimate.low or 0.0, estimate.high or 0.0)
