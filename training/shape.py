"""Shape model of the lungs and the heart as human readers outline them.

The model is a mean and principal components of contour points annotated on
JSRT and PadChest radiographs (Gaggion et al., IEEE TMI 2022). It says what a
plausible outline is; here it is sampled, fitted to masks, drawn, and used to
warp one radiograph so that its organs take another shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.interpolate import RBFInterpolator
from scipy.ndimage import map_coordinates
from scipy.spatial import cKDTree
from skimage.measure import find_contours

ORGANS = ("right_lung", "left_lung", "heart")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Outcome of fitting the shape model to masks.

    Attributes
    ----------
    points : ndarray
        (120, 2) x, y in fractions of the image.
    deviations : ndarray
        (modes,) coefficients in standard deviations, within the clamp.
    residual : float
        Root mean square distance between mask contours and fitted contours,
        fraction of the image's edge.
    """

    points: np.ndarray
    deviations: np.ndarray
    residual: float


class ShapeModel:
    """Point distribution model of right lung, left lung and heart.

    Parameters
    ----------
    mean : ndarray
        (P, 2) contour points, x and y in [0, 1] of the image.
    modes : ndarray
        (M, P, 2) principal components.
    std : ndarray
        (M,) standard deviation of each component.
    organs : dict
        Organ name to the indices of its closed contour.
    """

    def __init__(self, mean, modes, std, organs):
        self.mean, self.modes, self.std, self.organs = mean, modes, std, organs
        self._dense = {name: _between(index, len(mean)) for name, index in organs.items()}

    @classmethod
    def load(cls, path: Path) -> ShapeModel:
        """Read `contour_shape_model.npz`."""
        with np.load(path) as data:
            organs = {name: data[name] for name in ORGANS}
            return cls(*(data[k].astype(np.float64) for k in ("mean", "modes", "std")), organs)

    def shape(self, deviations: np.ndarray) -> np.ndarray:
        """Points (P, 2) for coefficients given in standard deviations (M,)."""
        return self.mean + np.tensordot(deviations * self.std, self.modes, axes=1)

    def sample(self, rng: np.random.Generator, clamp: float = 2.5) -> np.ndarray:
        """Draw a plausible shape: points (P, 2) in [0, 1] of the image."""
        return self.shape(np.clip(rng.normal(size=len(self.std)), -clamp, clamp))

    def fit(
        self,
        masks: np.ndarray,
        noise: float = 0.03,
        clamp: float = 2.5,
        rounds: int = 25,
    ) -> Fit:
        """Find the shape whose contours lie closest to those of the masks.

        Contour points and model contours are matched in both directions, then
        a similarity transform and the coefficients are solved in turn; far
        matches count less, so that a spill does not drag the outline along.

        Parameters
        ----------
        masks : ndarray
            (3, rows, columns) bool: right lung, left lung, heart. An empty
            mask leaves its organ to the prior.
        noise : float
            Expected error of a contour point, fraction of the image's edge;
            the larger, the closer the fit stays to the mean shape.
        clamp : float
            Greatest coefficient in standard deviations.
        rounds : int
            Iterations.

        Returns
        -------
        Fit
        """
        contours = {n: c for n, m in zip(ORGANS, masks, strict=True) if (c := contour(m)) is not None}
        if not contours:
            raise ValueError("expected at least one mask with pixels, got none")
        trees = {name: cKDTree(points) for name, points in contours.items()}
        deviations = np.zeros(len(self.std))
        points = self._start(contours)
        scaled = self.modes * self.std[:, None, None]
        for _ in range(rounds):
            weights, targets = [], []
            for name, points_seen in contours.items():
                dense = self._dense[name]
                _, nearest = cKDTree(dense @ points).query(points_seen)
                weights.append(dense[nearest])
                targets.append(points_seen)
                index = self.organs[name]
                _, nearest = trees[name].query(points[index])
                weights.append(np.eye(len(points))[index])
                targets.append(points_seen[nearest])
            weights, targets = np.concatenate(weights), np.concatenate(targets)
            distance = np.linalg.norm(weights @ points - targets, axis=1)
            trust = 1 / np.maximum(1, distance / 0.02)
            linear, shift = similarity(weights @ self.shape(deviations), targets, trust)
            wanted = (targets - shift) @ np.linalg.inv(linear).T
            design = np.einsum("np,mpc->ncm", weights, scaled).reshape(-1, len(self.std))
            gap = (wanted - weights @ self.mean).reshape(-1)
            root = np.repeat(np.sqrt(trust), 2)
            a = design * root[:, None]
            # The deviations have unit variance: `noise` weighs them against the distances.
            normal = a.T @ a + noise**2 * np.eye(len(self.std))
            deviations = np.linalg.solve(normal, a.T @ (gap * root))
            deviations = np.clip(deviations, -clamp, clamp)
            points = self.shape(deviations) @ linear.T + shift
        residual = float(np.sqrt(np.mean(distance**2)))
        return Fit(points=points, deviations=deviations, residual=residual)

    def _start(self, contours):
        """The mean shape moved and scaled onto the boxes of what was found."""
        index = np.concatenate([self.organs[name] for name in contours])
        seen = np.concatenate(list(contours.values()))
        low, high = self.mean[index].min(0), self.mean[index].max(0)
        scale = (seen.max(0) - seen.min(0)) / (high - low)
        return (self.mean - low) * scale + seen.min(0)

    def draw(self, points: np.ndarray, size: int) -> np.ndarray:
        """Fill the contours: (P, 2) points to (3, size, size) bool masks."""
        return np.stack([polygon(points[self.organs[name]], size) for name in ORGANS])


def _between(index: np.ndarray, count: int, steps: int = 4) -> np.ndarray:
    """Weights (len(index) * steps, count) of points evenly set along a closed contour."""
    weights = np.zeros((len(index) * steps, count))
    for row in range(len(weights)):
        k, part = divmod(row, steps)
        weights[row, index[k]] += 1 - part / steps
        weights[row, index[(k + 1) % len(index)]] += part / steps
    return weights


def contour(mask: np.ndarray, every: float = 1 / 128) -> np.ndarray | None:
    """Outer contour of a mask: (K, 2) x, y in fractions of the image, or None when empty."""
    lines = find_contours(np.pad(np.asarray(mask, dtype=float), 1), 0.5)
    if not lines:
        return None
    line = max(lines, key=len)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line, axis=0), axis=1))])
    count = max(8, round(along[-1] / (every * mask.shape[0])))
    at = np.linspace(0, along[-1], count, endpoint=False)
    rows, columns = (np.interp(at, along, line[:, i]) for i in (0, 1))
    # find_contours counts pixel centres, the frame added one pixel.
    return np.stack([(columns - 0.5) / mask.shape[1], (rows - 0.5) / mask.shape[0]], axis=1)


def polygon(points: np.ndarray, size: int) -> np.ndarray:
    """Fill a closed polygon: (K, 2) x, y in fractions of the image to (size, size) bool."""
    image = Image.new("1", (size, size))
    ImageDraw.Draw(image).polygon([tuple(p) for p in (points * size - 0.5)], fill=1)
    return np.asarray(image)


def similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray):
    """Weighted least-squares similarity transform (Umeyama): `target = source @ linear.T + shift`.

    Parameters
    ----------
    source, target : ndarray
        (N, 2) points.
    weights : ndarray
        (N,) positive.

    Returns
    -------
    linear : ndarray
        (2, 2) rotation times scale.
    shift : ndarray
        (2,)
    """
    w = weights / weights.sum()
    a, b = w @ source, w @ target
    p, q = source - a, target - b
    covariance = (q * w[:, None]).T @ p
    u, s, vt = np.linalg.svd(covariance)
    sign = np.diag([1, np.sign(np.linalg.det(u @ vt))])
    scale = np.trace(np.diag(s) @ sign) / (w @ (p**2).sum(1))
    linear = scale * u @ sign @ vt
    return linear, b - linear @ a


def warp_grid(new: np.ndarray, old: np.ndarray, size: int, smoothing: float = 1e-4) -> np.ndarray:
    """Smooth map that carries an image with contours `old` to contours `new`.

    A thin-plate spline, so that it continues as an affine map away from the
    organs; smoothed because heart and lung points lie close together and need
    not agree.

    Parameters
    ----------
    new, old : ndarray
        (P, 2) matching points, x and y in fractions of the image.
    size : int
        Edge of the wanted grid.
    smoothing : float
        Of the spline; 0 interpolates.

    Returns
    -------
    ndarray
        (size, size, 2) float32: for each output pixel where to read the
        source, x and y in fractions of the image.
    """
    coarse = 33
    line = np.linspace(0, 1, coarse)
    at = np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
    spline = RBFInterpolator(new, old - new, smoothing=smoothing, kernel="thin_plate_spline")
    shift = spline(at).reshape(coarse, coarse, 2)
    centres = (np.arange(size) + 0.5) / size
    where = np.meshgrid(centres * (coarse - 1), centres * (coarse - 1), indexing="ij")
    fine = np.stack([map_coordinates(shift[..., i], where, order=1) for i in (0, 1)], axis=-1)
    own = np.stack(np.meshgrid(centres, centres), axis=-1)
    return (own + fine).astype(np.float32)
