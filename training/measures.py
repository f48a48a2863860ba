"""Figures of merit of masks: Dice, cardiothoracic ratio, bootstrap intervals."""

from __future__ import annotations

import numpy as np

from cxr_dicom import measure
from cxr_dicom.records.plane import Region

from .shape import ORGANS


def dice(found: np.ndarray, wanted: np.ndarray, ignored: np.ndarray | None = None) -> float:
    """Overlap of two masks, 0 to 1.

    Parameters
    ----------
    found, wanted : ndarray of bool
        Same shape.
    ignored : ndarray of bool, optional
        Pixels left out of the count.

    Returns
    -------
    float
        1 when both are empty.
    """
    if ignored is not None:
        found, wanted = found & ~ignored, wanted & ~ignored
    total = found.sum() + wanted.sum()
    return float(2 * (found & wanted).sum() / total) if total else 1.0


def cardiothoracic_ratio(masks: np.ndarray) -> float:
    """The package's own cardiothoracic ratio of outlines, whoever drew them.

    Parameters
    ----------
    masks : ndarray
        (3, rows, columns) bool in the standard view: right lung, left lung, heart.

    Returns
    -------
    float
        NaN when a lung or the heart is missing.
    """
    outlines = {organ: Region.from_matrix(mask) for organ, mask in zip(ORGANS, masks, strict=True)}
    ratio = measure.cardiothoracic_ratio(outlines)
    return float("nan") if ratio is None else ratio


def interval(values, statistic=np.median, rounds: int = 2000, seed: int = 0):
    """Statistic with its 95 % percentile bootstrap interval.

    Parameters
    ----------
    values : array_like
        One per image, each image from another patient.
    statistic : callable
        Of a 1-D array.
    rounds : int
        Resamplings.
    seed : int

    Returns
    -------
    value, low, high : float
    """
    values = np.asarray(values, dtype=float)
    rng = np.random.default_rng(seed)
    draws = [statistic(rng.choice(values, len(values))) for _ in range(rounds)]
    return (float(statistic(values)), *(float(x) for x in np.percentile(draws, (2.5, 97.5))))
