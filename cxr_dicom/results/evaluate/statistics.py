"""Figures of merit with intervals that hold when a patient has several images.

Images of one patient are alike: what is resampled and summed is the patient, never the image. Where each
patient has one image, the intervals are the well-known ones: DeLong's and Wilson's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Groups = NDArray[np.intp]  # number of the patient of each image

CONFIDENCE = 0.95
Z = float(norm.ppf((1 + CONFIDENCE) / 2))
BINS = 10  # of a reliability diagram, of equal width from 0 to 1
ROUNDS = 500  # of the bootstrap


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval; None where it is not defined, and `why`."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0  # images that it rests on
    why: str = ""


@dataclass(frozen=True, kw_only=True, eq=False)
class Auroc:
    """An area under the curve with what each image adds to its error."""

    value: float
    variance: float
    influence: Values  # of each image on the area; sums to 0 over the images

    def estimate(self, positives: int, negatives: int) -> Estimate:
        """Give the interval, for the numbers of patients with and without the finding."""
        n = self.influence.size
        if self.variance <= 0:  # all on one side: DeLong's interval would have no width
            low, high = _newcombe(self.value, positives, negatives)
        else:
            low, high = logit_interval(self.value, self.variance)
        return Estimate(value=self.value, low=low, high=high, n=n)


def area(truth: Flags, scores: Values, patients: Groups) -> Auroc | str:
    """Area under the ROC curve, or why there is none.

    The value is the Mann-Whitney statistic, ties counted half. The variance is that of Obuchowski (1997) for
    clustered data, which is that of DeLong et al. (1988) where each patient has one image.

    Parameters
    ----------
    truth, scores, patients
        (n,) each.
    """
    positives, negatives = int(truth.sum()), int((~truth).sum())
    if not (positives and negatives):
        return _one_class(positives, negatives)
    ranks = rankdata(scores)
    placement = np.empty(truth.size)
    placement[truth] = (ranks[truth] - rankdata(scores[truth])) / negatives
    placement[~truth] = 1 - (ranks[~truth] - rankdata(scores[~truth])) / positives
    value = float(placement[truth].mean())
    away = placement - value
    of_positives = _summed(np.where(truth, away, 0.0), patients)
    of_negatives = _summed(np.where(truth, 0.0, away), patients)
    sick, well = len(np.unique(patients[truth])), len(np.unique(patients[~truth]))
    if sick < 2 or well < 2:
        return f"{sick} patients with and {well} without the finding: an interval needs two of each"
    everybody = of_positives.size
    variance = (
        sick / (sick - 1) * float(of_positives @ of_positives) / positives**2
        + well / (well - 1) * float(of_negatives @ of_negatives) / negatives**2
        + 2 * everybody / (everybody - 1) * float(of_positives @ of_negatives) / (positives * negatives)
    )
    influence = np.where(truth, away / positives, away / negatives)
    return Auroc(value=value, variance=max(variance, 0.0), influence=influence)


def auroc(truth: Flags, scores: Values, patients: Groups) -> Estimate:
    """Area under the ROC curve with its interval; see `area`."""
    found = area(truth, scores, patients)
    if isinstance(found, str):
        return Estimate(value=None, n=truth.size, why=found)
    return found.estimate(len(np.unique(patients[truth])), len(np.unique(patients[~truth])))


def difference(first: tuple[Flags, Auroc], second: tuple[Flags, Auroc], patients: Groups, level: float) -> Estimate:
    """Area of the first images less that of the second, both parts of all images.

    A patient may have images in both parts: what both add up to is summed by patient.

    Parameters
    ----------
    first, second
        Which images (n,), and the area over them.
    patients
        (n,) of all images.
    level
        Of the interval, such as 0.95; more where many differences are asked for.
    """
    influence = np.zeros(patients.size)
    influence[first[0]] += first[1].influence
    influence[second[0]] -= second[1].influence
    sums = _summed(influence, patients)
    half = float(norm.ppf((1 + level) / 2)) * float(np.sqrt(sums.size / (sums.size - 1) * (sums @ sums)))
    value = first[1].value - second[1].value
    return Estimate(value=value, low=max(-1.0, value - half), high=min(1.0, value + half), n=int(first[0].sum()))


def proportion(hits: Flags, patients: Groups, level: float = CONFIDENCE) -> Estimate:
    """Share of images that are hits, with Wilson's interval (1927).

    Where patients have several images, their number is divided by the design effect, never below 1 (Rao and
    Scott 1992).
    """
    n = hits.size
    if not n:
        return Estimate(value=None, why="no image to count")
    value = float(hits.mean())
    low, high = wilson(value, n / design_effect(hits, patients), level)
    return Estimate(value=value, low=low, high=high, n=n)


def wilson(share: float, n: float, level: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's interval of a share of ``n``, which need not be whole."""
    z = float(norm.ppf((1 + level) / 2))
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return (0.0 if share == 0 else max(0.0, centre - half)), (1.0 if share == 1 else min(1.0, centre + half))


def design_effect(hits: Flags, patients: Groups) -> float:
    """How many images count as one, because they are of one patient; 1 where each is of another."""
    sizes = np.unique(patients, return_counts=True)[1]
    if sizes.max(initial=1) == 1:
        return 1.0
    share = hits.mean()
    if share in (0, 1) or sizes.size < 2:
        return float(hits.size / sizes.size)
    sums = _summed(hits - share, patients)
    variance = sizes.size / (sizes.size - 1) * float(sums @ sums) / hits.size**2
    return max(1.0, variance / float(share * (1 - share) / hits.size))


def average_precision(truth: Flags, scores: Values) -> float | None:
    """Mean of the precision at each image with the finding, ties taken together; None where there is none."""
    if not truth.any():
        return None
    order = np.argsort(-scores, kind="stable")
    ends = _ends(scores[order])
    hits = np.cumsum(truth[order])[ends]
    return float(np.sum(np.diff(hits, prepend=0) * hits / (ends + 1)) / hits[-1])


@dataclass(frozen=True, kw_only=True, eq=False)
class Scored:
    """What the bootstrap needs of one finding."""

    truth: Flags
    scores: Values
    patients: Groups  # numbers of all findings together, so that one draw serves all


def average_precisions(findings: Sequence[Scored], patients: int, rounds: int = ROUNDS) -> list[Estimate]:
    """Average precision of each finding, with the percentile interval of a bootstrap over ``patients``."""
    ready = [_Precision(finding) if finding.truth.any() and not finding.truth.all() else None for finding in findings]
    draws = np.full((rounds, len(findings)), np.nan)
    dice = np.random.default_rng(0)
    for number in range(rounds if any(ready) else 0):
        weights = np.bincount(dice.integers(0, patients, patients), minlength=patients).astype(np.int32)
        draws[number] = [np.nan if precision is None else precision.at(weights) for precision in ready]
    return [
        _percentile(finding, average_precision(finding.truth, finding.scores), draws[:, number])
        for number, finding in enumerate(findings)
    ]


class _Precision:
    """Average precision of one finding under weights of patients."""

    def __init__(self, finding: Scored) -> None:
        order = np.argsort(-finding.scores, kind="stable")
        hits = np.flatnonzero(finding.truth[order])
        ends = _ends(finding.scores[order])
        self._ends = ends[np.unique(np.searchsorted(ends, hits))]  # of the ties that hold an image with the finding
        self._patients = finding.patients[order].astype(np.int32)
        self._hit_patients = self._patients[hits]
        self._hits_until = np.searchsorted(hits, self._ends, side="right")

    def at(self, weights: NDArray[Any]) -> float:
        hits = np.cumsum(weights[self._hit_patients])[self._hits_until - 1]
        if not hits[-1]:
            return float("nan")
        called = np.cumsum(weights[self._patients])[self._ends]
        return float(np.sum(np.diff(hits, prepend=0) * hits / np.maximum(called, 1)) / hits[-1])


def _percentile(finding: Scored, value: float | None, draws: Values) -> Estimate:
    n, usable = finding.truth.size, draws[np.isfinite(draws)]
    if value is None or finding.truth.all():
        return Estimate(value=value, n=n, why=_one_class(int(finding.truth.sum()), int((~finding.truth).sum())))
    if len(np.unique(finding.patients[finding.truth])) < 2 or not usable.size:
        return Estimate(value=value, n=n, why="an interval needs two patients with the finding")
    low, high = np.quantile(usable, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return Estimate(value=value, low=float(low), high=float(high), n=n)


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Images with similar scores."""

    n: int
    score: float  # mean
    observed: Estimate  # share with the finding


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """Whether scores are probabilities: among images that score 0.3, 30 % should have the finding."""

    bins: list[Bin]  # those that hold images
    error: float | None  # expected calibration error: mean distance of score and share, weighted by images
    brier: float | None  # mean squared distance of score and truth
    why: str = ""


def reliability(truth: Flags, scores: Values, patients: Groups) -> Reliability:
    """Compare scores with what was observed, in bins of equal width (Guo et al. 2017)."""
    if not truth.size:
        return Reliability(bins=[], error=None, brier=None, why="no image to count")
    if scores.min() < 0 or scores.max() > 1:
        return Reliability(bins=[], error=None, brier=None, why="scores are not between 0 and 1")
    places = np.minimum((scores * BINS).astype(int), BINS - 1)
    bins, error = [], 0.0
    for number in np.unique(places):
        inside = places == number
        observed = proportion(truth[inside], patients[inside])
        score = float(scores[inside].mean())
        bins.append(Bin(n=int(inside.sum()), score=score, observed=observed))
        error += abs(score - (observed.value or 0.0)) * inside.mean()
    return Reliability(bins=bins, error=float(error), brier=float(np.mean((scores - truth) ** 2)))


def curve(truth: Flags, scores: Values, most: int = 200) -> list[tuple[float, float]]:
    """Points of the ROC curve: 1 - specificity and sensitivity, at most about ``most``."""
    order = np.argsort(-scores, kind="stable")
    ends = _ends(scores[order])
    hits = np.cumsum(truth[order])[ends]
    x, y = (ends + 1 - hits) / max(1, (~truth).sum()), hits / max(1, truth.sum())
    step = max(1, len(ends) // most)
    kept = sorted({*range(0, len(ends), step), len(ends) - 1})
    return [(0.0, 0.0), *zip(x[kept].tolist(), y[kept].tolist(), strict=True)]


def logit_interval(value: float, variance: float) -> tuple[float, float]:
    """Interval that stays between 0 and 1: symmetric on the logit scale."""
    if not 0 < value < 1:
        half = Z * float(np.sqrt(variance))
        return max(0.0, value - half), min(1.0, value + half)
    centre, half = np.log(value / (1 - value)), Z * np.sqrt(variance) / (value * (1 - value))
    low, high = 1 / (1 + np.exp(-(centre + np.array((-half, half)))))
    return float(low), float(high)


def adjusted(count: int) -> float:
    """Level of each of ``count`` intervals, so that all hold together with 95 % (Bonferroni)."""
    return 1 - (1 - CONFIDENCE) / max(1, count)


def numbered(names: Iterable[str]) -> Groups:
    """Give equal names the same number, 0 for the first."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], np.intp)


def _newcombe(value: float, positives: int, negatives: int) -> tuple[float, float]:
    """Interval of an area of 0 or 1 (Newcombe 2006, method 5: Hanley and McNeil's variance at the limit itself)."""
    half = (positives + negatives) / 2 - 1

    def excess(limit: float) -> float:
        other = limit * (1 - limit) * (1 + half * ((1 - limit) / (2 - limit) + limit / (1 + limit)))
        return abs(value - limit) - Z * float(np.sqrt(max(0.0, other / (positives * negatives))))

    if value not in (0.0, 1.0):  # every image of one kind is placed alike, but not at an end: all scores are the same
        return value, value
    inner = float(brentq(excess, 1e-9, 1 - 1e-9))
    return (inner, 1.0) if value == 1 else (0.0, inner)


def _summed(values: Values, patients: Groups) -> Values:
    """Sum by patient, over those that occur."""
    _, places = np.unique(patients, return_inverse=True)
    return np.bincount(places, weights=values).astype(np.float64)


def _ends(ordered: Values) -> NDArray[np.intp]:
    """Where each run of equal scores ends."""
    return np.append(np.flatnonzero(np.diff(ordered)), ordered.size - 1)


def _one_class(positives: int, negatives: int) -> str:
    if positives + negatives == 0:
        return "no image to count"
    return f"all {positives or negatives} images are {'positive' if positives else 'negative'}"
