"""Contact sheets of radiographs with what was found and what was drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

# Right lung, left lung, heart: the colours of the package's segmentations.
COLOURS = ((56, 168, 232), (72, 200, 120), (232, 88, 72))


def overlay(pixels: np.ndarray, found: np.ndarray, drawn: np.ndarray | None, size: int) -> np.ndarray:
    """One radiograph with its masks as coloured borders and the outlines as white dashes.

    Parameters
    ----------
    pixels : ndarray
        (rows, columns) in [0, 1].
    found : ndarray
        (3, rows, columns) bool.
    drawn : ndarray or None
        (3, rows, columns) bool.
    size : int
        Edge of the picture.

    Returns
    -------
    ndarray
        (size, size, 3) uint8.
    """
    picture = np.asarray(Image.fromarray((pixels * 255).astype(np.uint8)).resize((size, size), Image.Resampling.BOX))
    picture = np.repeat(picture[..., None], 3, axis=2).copy()
    dashes = (np.add(*np.mgrid[:size, :size]) // 3) % 2 == 0
    layers = [(found, COLOURS)] if drawn is None else [(drawn, [(255, 255, 255)] * 3), (found, COLOURS)]
    for masks, colours in layers:
        for mask, colour in zip(masks, colours, strict=True):
            border = _border(mask, size)
            picture[border & dashes if masks is drawn else border] = colour
    return picture


def _border(mask, size):
    small = np.asarray(Image.fromarray(mask).resize((size, size)))
    return small & ~ndimage.binary_erosion(small)


def sheet(tiles: Sequence[tuple], path: Path, columns: int = 4, size: int = 256) -> None:
    """Write overlays side by side; each tile is (pixels, found, drawn), see `overlay`."""
    pictures = [overlay(*tile, size) for tile in tiles]
    pictures += [np.zeros_like(pictures[0])] * (-len(pictures) % columns)
    rows = [np.concatenate(pictures[i : i + columns], axis=1) for i in range(0, len(pictures), columns)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(path, quality=85)
