"""Around the network of `offline-anatomy`: grey values in, clean masks out. NumPy only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.infer.offline import shapes

# Percentiles, not extremes: letters and collimator edges are few pixels, but the brightest.
LOW, HIGH = 1.0, 99.0
THRESHOLD = 0.5  # a pixel belongs to an organ where its probability is greater


def normalise(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Bring grey values to [0, 1], whatever their unit and window.

    Parameters
    ----------
    pixels : ndarray
        (rows, columns), any real type; bright is dense (MONOCHROME2).

    Returns
    -------
    ndarray
        (rows, columns) float32 in [0, 1]: the 1st percentile becomes 0, the
        99th becomes 1. The same for ``a * pixels + b`` with ``a > 0``. A
        constant image becomes 0.
    """
    pixels = np.asarray(pixels, dtype=np.float64)
    low, high = np.percentile(pixels, (LOW, HIGH))
    if high <= low:
        low, high = pixels.min(), pixels.max()
    if high <= low:
        return np.zeros(pixels.shape, dtype=np.float32)
    scaled: NDArray[np.float32] = np.clip((pixels - low) / (high - low), 0, 1).astype(np.float32)
    return scaled


def clean(probabilities: NDArray[Any]) -> NDArray[np.float32]:
    """Leave one connected organ without holes in each map.

    Parameters
    ----------
    probabilities : ndarray
        (3, rows, columns) in [0, 1]: right lung, left lung, heart.

    Returns
    -------
    ndarray
        (3, rows, columns) float32 in [0, 1]. An organ is where its map is
        greater than 0.5: one component without holes, or nothing; the lungs
        do not overlap each other. Along the border the values are those of
        the network, so that the map can be interpolated before the threshold.
    """
    right, left, heart = np.asarray(probabilities, dtype=np.float32)
    # Where both lungs are claimed the likelier one has the pixel.
    maps = [np.where(right >= left, right, 1 - left), np.where(left > right, left, 1 - right), heart]
    maps[:2] = [np.minimum(own, mine) for own, mine in zip(maps[:2], (right, left), strict=True)]
    return np.stack([_one(probability) for probability in maps])


def _one(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keep the component that holds most probability, and fill its holes."""
    mask = probability > THRESHOLD
    # Cut spills that hang on by a thread: they are thinner than any true recess.
    width = max(1, round(min(mask.shape) / 192))
    parts, count = shapes.labelled(shapes.dilated(shapes.eroded(mask, width), width))
    if count == 0:
        return np.zeros_like(probability)
    weights = np.bincount(parts.ravel(), weights=probability.ravel())[1:]
    core = parts == 1 + int(np.argmax(weights))
    # Opening blunts the costophrenic angles: grow back, but not through the thread.
    kept, _ = shapes.labelled(shapes.dilated(core, width + 1) & mask)
    kept = kept == kept[core][0]
    filled = shapes.filled(kept)
    below = np.where(mask & ~kept, 1 - probability, probability)
    inside = np.maximum(probability, np.where(kept, 0, 1 - probability))
    one: NDArray[np.float32] = np.where(filled, inside, below).astype(np.float32)
    return one


def implausible(masks: NDArray[np.bool_]) -> list[str]:
    """Reasons to doubt clean masks; empty when they look like a frontal chest.

    Parameters
    ----------
    masks : ndarray
        (3, rows, columns) bool, from `clean`, in the standard view (the
        patient's right on the picture's left).

    Returns
    -------
    list of str
        Plain sentences.
    """
    names = ("right lung", "left lung", "heart")
    missing = [name for name, mask in zip(names, masks, strict=True) if not mask.any()]
    if missing:
        return [f"no {name} found" for name in missing]
    reasons = []
    right, left, heart = (float(np.nonzero(mask)[1].mean()) for mask in masks)
    if right >= left:
        reasons.append("the lungs are on each other's side")
    if not min(right, left) < heart < max(right, left):
        reasons.append("the heart is not between the lungs")
    areas = masks[:2].sum((1, 2))
    if areas.min() < 0.25 * areas.max():
        reasons.append("one lung is less than a quarter of the other")
    if areas.sum() < 0.04 * masks[0].size:
        reasons.append("the lungs fill less than 4 % of the image")
    return reasons
