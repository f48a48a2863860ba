"""Outlines for radiographs that nobody outlined: self-training under the shape model.

A network's masks are averaged over small changes of the image, the shape
model is fitted to them, and the pair is kept when network and shape model
agree. What the next network learns from is the fitted contour, so spills into
arms or stomach and holes under opacities are not passed on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from cxr_dicom.infer.offline.postprocess import THRESHOLD, clean, implausible, normalise

from .measures import dice
from .shape import ShapeModel


@dataclass(frozen=True, kw_only=True)
class Label:
    """Contours proposed for one radiograph.

    Attributes
    ----------
    points : ndarray
        (P, 2) fitted contour points, fractions of the image.
    agreement : tuple of float
        Dice between the network's mask and the fitted contour for right
        lung, left lung and heart.
    certainty : float
        Mean of |2 p - 1| over the pixels of the fitted organs and a rim
        around them, 0 to 1.
    strangeness : float
        Root mean square coefficient of the fit, standard deviations.
    reasons : tuple of str
        Why the masks are implausible; empty when they are not.
    """

    points: np.ndarray
    agreement: tuple[float, ...]
    certainty: float
    strangeness: float
    reasons: tuple[str, ...]

    @property
    def trusted(self) -> bool:
        """Good enough to learn from. Bounds were set by looking at the training radiographs."""
        return (
            not self.reasons and min(self.agreement[:2]) > 0.92 and self.agreement[2] > 0.85 and self.strangeness < 1.5
        )


def square(pixels: np.ndarray, size: int) -> torch.Tensor:
    """(rows, columns) in [0, 1] to (1, 1, size, size), area-averaged; the images are square already."""
    image = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))[None, None]
    return functional.interpolate(image, (size, size), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def averaged(network, pixels: np.ndarray, size: int) -> np.ndarray:
    """Probabilities (3, size, size) averaged over gamma and scale of one radiograph."""
    total = torch.zeros(3, size, size)
    variants = [(gamma, zoom) for gamma in (0.7, 1.0, 1.4) for zoom in (0.88, 1.0)]
    with torch.inference_mode():
        for gamma, zoom in variants:
            image = square(normalise(pixels) ** gamma, size)
            grid = functional.affine_grid(torch.eye(2, 3)[None] / zoom, (1, 1, size, size), align_corners=False)
            seen = functional.grid_sample(image, grid, align_corners=False)
            back = functional.affine_grid(torch.eye(2, 3)[None] * zoom, (1, 1, size, size), align_corners=False)
            total += functional.grid_sample(network(seen).sigmoid(), back, align_corners=False)[0]
    return (total / len(variants)).numpy()


def label(network, model: ShapeModel, pixels: np.ndarray, size: int) -> Label | None:
    """Propose contours for one radiograph, or None where an organ is not found.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode.
    model : ShapeModel
    pixels : ndarray
        (rows, columns) square radiograph.
    size : int
        Edge the network works at.

    Returns
    -------
    Label or None
    """
    probabilities = averaged(network, pixels, size)
    masks = clean(probabilities) > THRESHOLD
    reasons = tuple(implausible(masks))
    if not masks.any((1, 2)).all():
        return None
    fit = model.fit(masks, noise=0.01, rounds=15)
    drawn = model.draw(fit.points, size)
    near = np.clip(fit.points, 0, 1)
    (x0, y0), (x1, y1) = (near.min(0) * size).astype(int), (near.max(0) * size).astype(int) + 1
    certainty = float(np.abs(2 * probabilities[:, y0:y1, x0:x1] - 1).mean())
    return Label(
        points=fit.points,
        agreement=tuple(dice(a, b) for a, b in zip(masks, drawn, strict=True)),
        certainty=certainty,
        strangeness=float(np.sqrt(np.mean(fit.deviations**2))),
        reasons=reasons,
    )
