"""Scores to probabilities: Platt's sigmoid and isotonic regression."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, root

from cxr_dicom.config.operating_points import Isotonic, Platt

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Groups = NDArray[np.intp]
Curve = Platt | Isotonic

_EDGE = 1e-6  # of a score before its logit is taken


def fitted(truth: Flags, scores: Values, method: Literal["platt", "isotonic", "none"]) -> Curve | None:
    """Fit a curve to scores between 0 and 1; None for the method ``none``."""
    if method == "none":
        return None
    return _platt(truth, scores) if method == "platt" else _isotonic(truth, scores)


def calibrated(scores: Values, curve: Curve) -> Values:
    """Return the probability of each score."""
    if isinstance(curve, Isotonic):
        return np.interp(scores, curve.scores, curve.probabilities)
    return _sigmoid(curve.slope * _logit(scores) + curve.intercept)


def _platt(truth: Flags, scores: Values) -> Platt:
    """Platt (1999): maximum likelihood with targets a little off 0 and 1, so that it ends for any sample."""
    x, positives, negatives = _logit(scores), int(truth.sum()), int((~truth).sum())
    targets = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))

    def gradient(at: Values) -> Values:
        off = _sigmoid(at[0] * x + at[1]) - targets
        return np.array((off @ x, off.sum())) / x.size

    def curvature(at: Values) -> Values:
        p = _sigmoid(at[0] * x + at[1])
        weight = p * (1 - p) / x.size
        return np.array(((weight @ (x * x), weight @ x), (weight @ x, weight.sum())))

    found = root(gradient, np.array((1.0, 0.0)), jac=curvature, tol=1e-13)
    return Platt(slope=float(found.x[0]), intercept=float(found.x[1]))


def _isotonic(truth: Flags, scores: Values) -> Isotonic:
    """Return the rising steps that lie closest, as the points between which scores are interpolated."""
    x, places, weights = np.unique(scores, return_inverse=True, return_counts=True)
    y = isotonic_regression(np.bincount(places, weights=truth) / weights, weights=weights).x
    is_end = np.append(True, np.diff(y) != 0) | np.append(np.diff(y) != 0, True)
    return Isotonic(scores=tuple(x[is_end].tolist()), probabilities=tuple(np.clip(y[is_end], 0, 1).tolist()))


def _logit(scores: Values) -> Values:
    inner = np.clip(scores, _EDGE, 1 - _EDGE)
    return np.asarray(np.log(inner / (1 - inner)))


def _sigmoid(x: Values) -> Values:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -700, 700))))
