"""Figures of merit of masks: Dice, cardiothoracic ratio, bootstrap intervals."""

from __future__ import annotations

import numpy as np


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
    """Greatest width of the heart over greatest inner width of the thorax.

    Parameters
    ----------
    masks : ndarray
        (3, rows, columns) bool: right lung, left lung, heart.

    Returns
    -------
    float
        NaN when a lung or the heart is missing.

    Notes
    -----
    The width of the thorax is the greatest distance between the outer borders
    of the two lungs in one row, that of the heart the distance between its
    outermost columns: the two parts of the heart's width are taken from the
    midline at the rows where each is widest, and add up to that.
    """
    if not masks.any((1, 2)).all():
        return float("nan")
    columns = np.flatnonzero(masks[2].any(0))
    heart = columns[-1] - columns[0] + 1
    rows = np.flatnonzero(masks[0].any(1) & masks[1].any(1))
    if len(rows) == 0:
        return float("nan")
    both = masks[0] | masks[1]
    widths = [(line := np.flatnonzero(both[row]))[-1] - line[0] + 1 for row in rows]
    return float(heart / max(widths))


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
