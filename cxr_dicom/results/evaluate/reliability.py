"""Whether scores are probabilities: the reliability diagram, and the calibration error with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.results.evaluate.statistics import CONFIDENCE, Estimate, Flags, Groups, Values, Z, count, proportion

Places = NDArray[np.intp]  # number of the bin of each image

BINS = 10  # of equal width from 0 to 1
DRAWS = 2000  # of a normal distribution


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
    error: Estimate  # expected calibration error: mean distance of score and share, weighted by images
    brier: float | None  # mean squared distance of score and truth


def reliability(truth: Flags, scores: Values, patients: Groups) -> Reliability:
    """Compare scores with what was observed, in bins of equal width (Guo et al. 2017)."""
    if not truth.size:
        return _unreliable("no image to count", 0)
    if scores.min() < 0 or scores.max() > 1:
        return _unreliable("scores are not between 0 and 1", truth.size)
    places = np.minimum((scores * BINS).astype(int), BINS - 1)
    bins = []
    for number in np.unique(places):
        inside = places == number
        observed = proportion(truth[inside], patients[inside])
        bins.append(Bin(n=int(inside.sum()), score=float(scores[inside].mean()), observed=observed))
    return Reliability(
        bins=bins,
        error=_error(truth, scores - truth, places, patients),
        brier=float(np.mean((scores - truth) ** 2)),
    )


def _unreliable(why: str, n: int) -> Reliability:
    return Reliability(bins=[], error=Estimate(value=None, n=n, why=why), brier=None)


def _error(truth: Flags, off: Values, bins: Places, patients: Groups) -> Estimate:
    """Sum of the distances of all bins, with an interval for a figure that chance makes larger, never smaller.

    The sums of the bins are nearly normal, and their covariance is known from the patients. So is what chance alone
    would give, if every score were right: below its 97.5th percentile the lower limit is 0. Above, it is the lower one
    of the normal interval's and of the reflected one's of 2000 draws, the upper one the normal interval's.

    Parameters
    ----------
    truth, off
        (n,): with the finding, and score less truth.
    bins, patients
        (n,) of each.
    """
    n, people = off.size, count(patients)
    sums = np.bincount(patients * BINS + bins, weights=off, minlength=(int(patients.max()) + 1) * BINS)
    by_patient = sums.reshape(-1, BINS)
    mean = by_patient.sum(axis=0) / n
    value = float(np.abs(mean).sum())
    if people < 2:
        return Estimate(value=value, n=n, why="an interval needs two patients")
    centred = by_patient.T @ by_patient - np.outer(mean, mean) * n * n / people
    covariance = centred * people / (people - 1) / n**2
    covariance += np.diag(np.maximum(0.0, _least(truth, bins, patients) - np.diag(covariance)))
    sign = np.where(mean < 0, -1.0, 1.0)
    half = Z * float(np.sqrt(max(0.0, float(sign @ covariance @ sign))))
    spread, axes = np.linalg.eigh(covariance)
    chance = np.random.default_rng(0).normal(size=(DRAWS, BINS)) * np.sqrt(np.clip(spread, 0, None)) @ axes.T
    upper = (1 + CONFIDENCE) / 2
    low = 0.0
    if value > np.quantile(np.abs(chance).sum(axis=1), upper):
        low = max(0.0, min(value - half, 2 * value - float(np.quantile(np.abs(mean + chance).sum(axis=1), upper))))
    return Estimate(value=value, low=low, high=min(1.0, value + half), n=n)


def _least(truth: Flags, bins: Places, patients: Groups) -> Values:
    """Least variance of each bin's sum over n.

    Where all images of a bin have the finding, or none, their spread says nothing of what more patients would show:
    the share in the middle of Wilson's interval (1927) stands for theirs, which is never 0 or 1.
    """
    least = np.zeros(BINS)
    for number in np.unique(bins):
        inside = bins == number
        share = float(truth[inside].mean())
        if share in (0, 1):
            seen, more = count(patients[inside]), Z * Z
            middle = (share * seen + more / 2) / (seen + more)
            least[number] = (inside.sum() / truth.size) ** 2 * middle * (1 - middle) / (seen + more)
    return least
