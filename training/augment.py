"""Training examples: a radiograph or projection and its outlines, made to look like any radiograph.

Geometry first (another shape, pose, scale), then what hides the lung
(opacities, effusions), then what lies around it (arms, tubes, letters,
collimation), then the grey scale. The outline stays where the anatomy is,
whatever hides it.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from torch.nn import functional

from cxr_dicom.infer.offline.postprocess import normalise

from .shape import ShapeModel, warp_grid


def example(model: ShapeModel, layers, points, rng, size: int, reshape: float = 1.0):
    """One random example of a source image.

    Parameters
    ----------
    model : ShapeModel
    layers : ndarray
        (3, rows, columns) path lengths through bone, soft tissue and lung in
        centimetres of water (see `training.projection.project`), or
        (1, rows, columns) a radiograph in [0, 1].
    points : ndarray
        (P, 2) contour points of the source, fractions of the image.
    rng : numpy.random.Generator
    size : int
        Edge of the example in pixels.
    reshape : float
        Chance that the organs take the shape of a sample of the model.

    Returns
    -------
    image : ndarray
        (size, size) float32 in [0, 1].
    masks : ndarray
        (3, size, size) bool.
    """
    target, grid = _geometry(model, points, rng, size, reshape)
    masks = model.draw(target, size)
    grid = torch.from_numpy(grid)[None] * 2 - 1
    source = torch.from_numpy(np.ascontiguousarray(layers, dtype=np.float32))[None]
    beyond = "border" if len(layers) > 1 or rng.random() < 0.4 else "zeros"
    warped = functional.grid_sample(source, grid, align_corners=False, padding_mode=beyond)[0].numpy()
    image = _attenuate(warped, rng) if len(warped) > 1 else warped[0]
    image = image - image.min()
    image = image / max(float(image.max()), 1e-6)
    if len(warped) > 1 and rng.random() < 0.7:
        image = _arms(image, masks, rng)
    if rng.random() < 0.5:
        image = _opacities(image, masks, rng)
    image = _texture(image, rng)
    image = _grey_scale(image, rng)
    image = _foreign(image, rng)
    image = _collimate(image, masks, rng)
    return normalise(image), masks


def _geometry(model, points, rng, size, reshape):
    """Where the contours go and the map that takes them there; folded maps are drawn again."""
    # From a child on an adult's plate, half the usual size, to a chest that overfills it.
    for attempt in range(8):
        shaped = model.sample(rng, clamp=2.0) if rng.random() < reshape else points
        low, high = shaped.min(0), shaped.max(0)
        centre = (low + high) / 2
        scale = np.exp(rng.normal(-0.03, 0.16)) * np.exp(rng.normal(0, 0.06, 2))
        scale = np.clip(scale, 0.45, 1.3)
        if reshape == 1.0:
            # Model shapes sit in the frame as in JSRT; bedside views are smaller.
            scale *= rng.uniform(0.8, 1.1)
        angle = np.deg2rad(rng.normal(0, 5) if rng.random() < 0.9 else rng.normal(0, 14))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        spare = np.maximum(0.04, 0.5 - (high - low) * scale / 2)
        place = 0.5 + rng.normal(0, 0.5, 2) * spare * 0.8 + [0, -0.03]
        target = ((shaped - centre) * scale) @ turn.T + place
        grid = warp_grid(target, points, size, smoothing=3e-4)
        if folds(grid) < 0.002 or attempt == 7:
            return target, grid
    return None


def folds(grid: np.ndarray) -> float:
    """Share of a (rows, columns, 2) map's pixels where it turns inside out."""
    dy, dx = np.diff(grid, axis=0)[:, :-1], np.diff(grid, axis=1)[:-1]
    return float(np.mean(dx[..., 0] * dy[..., 1] - dx[..., 1] * dy[..., 0] <= 0))


def _attenuate(layers, rng):
    """Sum the materials with random densities: young and old bone, thin and stout, clear and wet lung."""
    bone, soft, lung = layers
    total = bone * rng.uniform(0.4, 1.8) + soft * rng.uniform(0.6, 1.3) + lung * rng.uniform(0.4, 2.0)
    # Scatter and the film's curve flatten the dense parts.
    dense = rng.uniform(12, 45)
    return dense * (1 - np.exp(-total / dense))


def smooth_noise(rng, size: int, scale: float) -> np.ndarray:
    """Random field (size, size) of mean 0 and deviation 1, with blobs of `scale` of the edge."""
    cells = max(2, round(1 / scale) + 2)
    field = ndimage.zoom(rng.normal(size=(cells, cells)), size / cells, order=3, mode="nearest", grid_mode=True)
    field = field[:size, :size]
    return (field - field.mean()) / (field.std() + 1e-6)


def _arms(image, masks, rng):
    """Upper arms beside the chest: a soft cylinder with a bone in it. The CT was taken with arms raised."""
    size = len(image)
    y, x = np.mgrid[:size, :size] / size
    columns = np.flatnonzero(masks[:2].any((0, 1)))
    rows = np.flatnonzero(masks[:2].any((0, 2)))
    if len(columns) == 0:
        return image
    top, edges = rows[0] / size, (columns[0] / size, columns[-1] / size)
    tall = (rows[-1] - rows[0]) / size
    for side, edge in zip((-1, 1), edges, strict=True):
        if rng.random() < 0.2:
            continue
        radius = rng.uniform(0.05, 0.14) * tall / 0.65
        start = edge + side * (rng.uniform(0.03, 0.2) * tall + radius)
        slope = side * rng.uniform(-0.05, 0.4)
        axis = start + slope * (y - top)
        shade = np.sqrt(np.clip(1 - ((x - axis) / radius) ** 2, 0, 1))
        shade *= 1 / (1 + np.exp(-(y - top - rng.uniform(-0.05, 0.1)) * 25))
        bone = np.sqrt(np.clip(1 - ((x - axis) / (radius * 0.3)) ** 2, 0, 1)) * (shade > 0.2)
        image = image + shade * rng.uniform(0.1, 0.5) + bone * rng.uniform(0.05, 0.25)
    return image / image.max()


def _opacities(image, masks, rng):
    """Consolidation, effusion, white-out: density inside the lungs; their outline stays."""
    size = len(image)
    heart = image[masks[2]] if masks[2].any() else image
    ceiling = float(np.percentile(heart, 70))
    for lung in masks[:2]:
        if not lung.any() or rng.random() < 0.3:
            continue
        rows = np.flatnonzero(lung.any(1))
        height = (np.mgrid[:size, :size][0] - rows[0]) / max(1, rows[-1] - rows[0])
        soft = ndimage.gaussian_filter(lung.astype(np.float32), size / 128)
        kind = rng.random()
        if kind < 0.4:  # effusion: dense from the base up, with a meniscus
            level = rng.uniform(0.45, 0.95) + 0.05 * smooth_noise(rng, size, 0.4)
            amount = 1 / (1 + np.exp(-(height - level) * rng.uniform(10, 40)))
        elif kind < 0.85:  # patchy or confluent consolidation
            field = smooth_noise(rng, size, rng.choice([0.06, 0.12, 0.3]))
            amount = 1 / (1 + np.exp(-(field - rng.uniform(-0.8, 1.5)) * rng.uniform(1, 6)))
        else:  # the whole lung
            amount = np.full(image.shape, rng.uniform(0.4, 1.0))
        if kind < 0.4 and rng.random() < 0.6:
            # Fluid blurs the border with the diaphragm as well.
            soft = ndimage.gaussian_filter(lung.astype(np.float32), size / rng.uniform(20, 60))
        amount = amount * soft * rng.uniform(0.3, 1.0)
        image = image + amount * np.clip(ceiling - image, 0, None)
    return image


def _texture(image, rng):
    """Blur, unsharp masking, local equalisation, uneven exposure, noise."""
    size = len(image)
    if rng.random() < 0.25:
        image = ndimage.gaussian_filter(image, rng.uniform(0.3, 1.3) * size / 256)
    if rng.random() < 0.6:
        blurred = ndimage.gaussian_filter(image, rng.choice([1.5, 4, 12, 30]) * size / 256)
        image = image + rng.uniform(0.2, 1.8) * (image - blurred)
    if rng.random() < 0.25:
        mean = ndimage.uniform_filter(image, size // 4)
        spread = np.sqrt(np.maximum(ndimage.uniform_filter(image**2, size // 4) - mean**2, 1e-4))
        image = image + rng.uniform(0.1, 0.6) * ((image - mean) / (spread + 0.1) * 0.25)
    if rng.random() < 0.5:
        image = image + rng.uniform(0.02, 0.12) * smooth_noise(rng, size, rng.uniform(0.3, 0.8))
    if rng.random() < 0.6:
        grain = rng.normal(size=image.shape)
        if rng.random() < 0.5:
            grain = ndimage.gaussian_filter(grain, 0.8) * 2
        image = image + rng.uniform(0.005, 0.04) * grain
    return image


def _grey_scale(image, rng):
    """A monotone curve: gamma, then a random piecewise one, as of windows and look-up tables."""
    low, high = np.percentile(image, (rng.uniform(0, 2), rng.uniform(97, 100)))
    image = np.clip((image - low) / max(high - low, 1e-6), 0, 1)
    image = image ** np.exp(rng.normal(0, 0.4))
    if rng.random() < 0.5:
        steps = rng.uniform(0.2, 1, 6)
        curve = np.concatenate([[0], np.cumsum(steps)]) / steps.sum()
        image = np.interp(image, np.linspace(0, 1, 7), curve)
    return image


def _foreign(image, rng):
    """Tubes, lines, leads and side marks, mostly bright and thin."""
    size = len(image)
    if rng.random() < 0.5:
        return image
    overlay = Image.new("F", (size, size), 0.0)
    draw = ImageDraw.Draw(overlay)
    for _ in range(rng.integers(0, 5)):
        start, bend, end = rng.uniform(-0.1, 1.1, (3, 2)) * size
        t = np.linspace(0, 1, 20)[:, None]
        path = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        width = int(rng.integers(1, max(2, size // 70)))
        draw.line([tuple(p) for p in path], fill=float(rng.uniform(0.05, 0.5)), width=width)
    for _ in range(rng.integers(0, 3)):
        x, y = rng.uniform(0, 1, 2) * size
        r = rng.uniform(0.01, 0.05) * size
        draw.ellipse([x - r, y - r * rng.uniform(0.5, 1), x + r, y + r], fill=float(rng.uniform(0.1, 0.6)))
    overlay = ndimage.gaussian_filter(np.asarray(overlay), rng.uniform(0.2, 0.9))
    image = image + overlay * rng.choice([1, 1, 1, -0.5])
    if rng.random() < 0.7:
        text = "".join(rng.choice(list("LRAPSUEIT0123"), rng.integers(1, 9)))
        stamp = Image.new("F", (size, size), 0.0)
        font = ImageFont.load_default(size=float(rng.uniform(0.03, 0.09) * size))
        place = (rng.choice([rng.uniform(0, 0.15), rng.uniform(0.75, 0.95)]) * size, rng.uniform(0, 0.95) * size)
        ImageDraw.Draw(stamp).text(place, text, fill=1.0, font=font)
        image = np.maximum(image, np.asarray(stamp) * rng.uniform(0.7, 1.1))
    return image


def _collimate(image, masks, rng):
    """Shutters, dark or bright, at times tilted; and the bars that pad a picture to a square."""
    size = len(image)
    y, x = np.mgrid[:size, :size] / size
    if rng.random() < 0.45:
        angle = rng.normal(0, 0.06)
        keep = np.ones(image.shape, bool)
        for normal in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            if rng.random() < 0.55:
                reach = 0.5 - rng.choice([rng.uniform(0, 0.05), rng.uniform(0, 0.17)])
                along = (x - 0.5) * (normal[0] * np.cos(angle) - normal[1] * np.sin(angle))
                along += (y - 0.5) * (normal[0] * np.sin(angle) + normal[1] * np.cos(angle))
                keep &= along < reach
        fill = rng.choice([0.0, 0.0, rng.uniform(0, 0.2), rng.uniform(0.9, 1.2)])
        outside = fill + 0.02 * rng.random() * rng.normal(size=image.shape)
        image = np.where(keep, image, outside)
        masks &= keep
    if rng.random() < 0.35:
        bar = rng.uniform(0.02, 0.15)
        away = (x if rng.random() < 0.5 else y) - 0.5
        keep = np.abs(away) < 0.5 - bar
        image = np.where(keep, image, image.min())
        masks &= keep
    return image
