"""Figures of merit with intervals that hold when a patient has several images.

Images of one patient are alike: what is resampled and summed is the patient, never the image. Where each
patient has one image, the intervals are the well-known ones: DeLong's and Wilson's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import norm
from scipy.stats import t as student

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Groups = NDArray[np.intp]  # number of the patient of each image

CONFIDENCE = 0.95
Z = float(norm.ppf((1 + CONFIDENCE) / 2))


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
    patients_with: int
    patients_without: int
    is_clustered: bool  # a patient has several images

    def interval(self, level: float = CONFIDENCE) -> tuple[float, float]:
        """Interval of a level.

        Of patients with several images the variance is itself uncertain, the more the fewer they are: the quantile
        is Student's with as many degrees of freedom as there are patients in the smaller class, less one (Cameron and
        Miller 2015 on few clusters).
        """
        if self.variance <= 0:  # all on one side: DeLong's interval would have no width
            return _newcombe(self.value, self.patients_with, self.patients_without, _quantile(level))
        fewest = min(self.patients_with, self.patients_without)
        return logit_interval(self.value, self.variance, _quantile(level, fewest - 1 if self.is_clustered else None))

    def estimate(self) -> Estimate:
        """Give the area with its interval."""
        low, high = self.interval()
        return Estimate(value=self.value, low=low, high=high, n=self.influence.size)


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
    placement = _placement(truth, scores)
    value = float(placement[truth].mean())
    away = placement - value
    of_positives = _summed(np.where(truth, away, 0.0), patients)
    of_negatives = _summed(np.where(truth, 0.0, away), patients)
    sick, well = count(patients[truth]), count(patients[~truth])
    if sick < 2 or well < 2:
        return f"{sick} patients with and {well} without the finding: an interval needs two of each"
    everybody = of_positives.size
    variance = (
        sick / (sick - 1) * float(of_positives @ of_positives) / positives**2
        + well / (well - 1) * float(of_negatives @ of_negatives) / negatives**2
        + 2 * everybody / (everybody - 1) * float(of_positives @ of_negatives) / (positives * negatives)
    )
    influence = np.where(truth, away / positives, away / negatives)
    return Auroc(
        value=value,
        variance=max(variance, 0.0),
        influence=influence,
        patients_with=sick,
        patients_without=well,
        is_clustered=bool(everybody < truth.size),
    )


def _placement(truth: Flags, scores: Values) -> Values:
    """Share of the images of the other class that each image is placed right against; ties count half."""
    order = np.argsort(scores, kind="stable")
    hit = truth[order]
    ends, tie = _ties(scores[order])
    positives, negatives = np.cumsum(hit)[ends], np.cumsum(~hit)[ends]
    right = np.where(
        hit,
        (negatives - np.diff(negatives, prepend=0) / 2)[tie] / negatives[-1],
        1 - (positives - np.diff(positives, prepend=0) / 2)[tie] / positives[-1],
    )
    placement = np.empty(truth.size)
    placement[order] = right
    return placement


def auroc(truth: Flags, scores: Values, patients: Groups) -> Estimate:
    """Area under the ROC curve with its interval; see `area`."""
    found = area(truth, scores, patients)
    if isinstance(found, str):
        return Estimate(value=None, n=truth.size, why=found)
    return found.estimate()


@dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """Of two areas under the curve."""

    first: Auroc
    second: Auroc
    correlation: float  # of both, by the patients who are in both; 0 where none is

    def estimate(self, level: float) -> Estimate:
        """Give the interval of a level, such as 0.95; more where many differences are asked for.

        It is put together from those of both areas (Zou and Donner 2008), which are not symmetric: a small group whose
        images are all in order has an area of 1, and nearly as much room below it.
        """
        a, b = self.first.value, self.second.value
        (a_low, a_high), (b_low, b_high) = self.first.interval(level), self.second.interval(level)
        down, up = self._together(a - a_low, b_high - b), self._together(a_high - a, b - b_low)
        low, high = max(-1.0, a - b - down), min(1.0, a - b + up)
        return Estimate(value=a - b, low=low, high=high, n=self.first.influence.size)

    def _together(self, one: float, other: float) -> float:
        return float(np.sqrt(max(0.0, one * one + other * other - 2 * self.correlation * one * other)))


def difference(first: tuple[Flags, Auroc], second: tuple[Flags, Auroc], patients: Groups) -> Difference:
    """Area of the first images less that of the second, both parts of all images.

    A patient may have images in both parts: what they add to each is summed by patient.

    Parameters
    ----------
    first, second
        Which images (n,), and the area over them.
    patients
        (n,) of all images.
    """
    sums = []
    for chosen, area_of in (first, second):
        influence = np.zeros(patients.size)
        influence[chosen] = area_of.influence
        sums.append(_summed(influence, patients))
    scale = float(np.sqrt((sums[0] @ sums[0]) * (sums[1] @ sums[1])))
    correlation = float(sums[0] @ sums[1]) / scale if scale else 0.0
    return Difference(first=first[1], second=second[1], correlation=correlation)


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
    z = _quantile(level)
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return (0.0 if share == 0 else max(0.0, centre - half)), (1.0 if share == 1 else min(1.0, centre + half))


def design_effect(hits: Flags, patients: Groups) -> float:
    """How many images count as one, because they are of one patient; 1 where each is of another."""
    sizes = np.bincount(patients)
    sizes = sizes[sizes > 0]
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


def precision(truth: Flags, scores: Values, patients: Groups) -> Estimate:
    """Average precision with its interval, on the logit scale as Boyd et al. (2013) advise.

    The variance is the infinitesimal jackknife's (Efron 1982): what the figure gains as a patient weighs a little
    more, squared and summed over patients. Where every image with the finding comes first it is 0, and the interval
    is Wilson's of so many patients.
    """
    value, n = average_precision(truth, scores), truth.size
    if value is None or truth.all():
        return Estimate(value=value, n=n, why=_one_class(int(truth.sum()), int((~truth).sum())))
    sick = count(patients[truth])
    if sick < 2:
        return Estimate(value=value, n=n, why="an interval needs two patients with the finding")
    sums = _summed(_precision_influence(truth, scores, value), patients)
    variance = sums.size / (sums.size - 1) * float(sums @ sums)
    low, high = wilson(value, sick) if value == 1 else logit_interval(value, variance)
    return Estimate(value=value, low=low, high=high, n=n)


def _precision_influence(truth: Flags, scores: Values, value: float) -> Values:
    """Derivative of the average precision by the weight of each image."""
    order = np.argsort(-scores, kind="stable")
    hit = truth[order].astype(np.float64)
    ends, tie = _ties(scores[order])
    hits, called = np.cumsum(hit)[ends], ends + 1.0
    here = np.diff(hits, prepend=0)
    gain = (hits / called - value + _from_here_on(here / called))[tie]
    loss = _from_here_on(here * hits / called**2)[tie]
    influence = np.empty(truth.size)
    influence[order] = (hit * gain - loss) / hits[-1]
    return influence


def _from_here_on(values: Values) -> Values:
    return np.cumsum(values[::-1])[::-1]


def curve(truth: Flags, scores: Values, most: int = 200) -> list[tuple[float, float]]:
    """Points of the ROC curve: 1 - specificity and sensitivity, at most about ``most``."""
    order = np.argsort(-scores, kind="stable")
    ends = _ends(scores[order])
    hits = np.cumsum(truth[order])[ends]
    x, y = (ends + 1 - hits) / max(1, (~truth).sum()), hits / max(1, truth.sum())
    step = max(1, len(ends) // most)
    kept = sorted({*range(0, len(ends), step), len(ends) - 1})
    return [(0.0, 0.0), *zip(x[kept].tolist(), y[kept].tolist(), strict=True)]


def logit_interval(value: float, variance: float, z: float = Z) -> tuple[float, float]:
    """Interval that stays between 0 and 1: symmetric on the logit scale."""
    if not 0 < value < 1:
        half = z * float(np.sqrt(variance))
        return max(0.0, value - half), min(1.0, value + half)
    centre, half = np.log(value / (1 - value)), z * np.sqrt(variance) / (value * (1 - value))
    low, high = 1 / (1 + np.exp(-(centre + np.array((-half, half)))))
    return float(low), float(high)


def adjusted(count: int) -> float:
    """Level of each of ``count`` intervals, so that all hold together with 95 % (Bonferroni)."""
    return 1 - (1 - CONFIDENCE) / max(1, count)


def numbered(names: Iterable[str]) -> Groups:
    """Give equal names the same number, 0 for the first."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) for name in names], np.intp)


def _quantile(level: float, freedom: int | None = None) -> float:
    """Half the width of an interval in standard errors: of the normal distribution, or of Student's."""
    share = (1 + level) / 2
    return float(norm.ppf(share) if freedom is None else student.ppf(share, freedom))


def _newcombe(value: float, positives: int, negatives: int, z: float) -> tuple[float, float]:
    """Interval of an area without a variance: at 0, at 1, or of scores all alike.

    Newcombe 2006, method 5: Hanley and McNeil's variance at the limit itself.
    """
    half = (positives + negatives) / 2 - 1

    def excess(limit: float) -> float:
        other = limit * (1 - limit) * (1 + half * ((1 - limit) / (2 - limit) + limit / (1 + limit)))
        return abs(value - limit) - z * float(np.sqrt(max(0.0, other / (positives * negatives))))

    edge = 1e-9
    low = 0.0 if value == 0 else float(brentq(excess, edge, min(value, 1 - edge)))
    high = 1.0 if value == 1 else float(brentq(excess, max(value, edge), 1 - edge))
    return low, high


def _summed(values: Values, patients: Groups) -> Values:
    """Sum by patient, over those that occur."""
    sums = np.bincount(patients, weights=values).astype(np.float64)
    return sums[np.bincount(patients) > 0]


def count(patients: Groups) -> int:
    """How many patients occur."""
    return int(np.count_nonzero(np.bincount(patients)))


def _ends(ordered: Values) -> NDArray[np.intp]:
    """Where each run of equal scores ends."""
    return np.append(np.flatnonzero(np.diff(ordered)), ordered.size - 1)


def _ties(ordered: Values) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each run of equal scores ends, and in which run each score is."""
    ends = _ends(ordered)
    return ends, np.repeat(np.arange(ends.size), np.diff(ends, prepend=-1))


def _one_class(positives: int, negatives: int) -> str:
    if positives + negatives == 0:
        return "no image to count"
    return f"all {positives or negatives} images are {'positive' if positives else 'negative'}"
