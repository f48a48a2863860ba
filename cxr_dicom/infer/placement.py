"""How the square input of a network lies on a radiograph, and the way back.

A network sees a square of `size` pixels: cut from the standard view (``crop``), framed around it (``pad``), or all
of it made square (``stretch``). What it answers is laid back on the source matrix as stored, exactly, on any format.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.records import Radiograph
from cxr_dicom.records.plane import Grid, Orientation, Region, Shape, mixed, row_blocks

Array = NDArray[Any]
Fit = Literal["crop", "pad", "stretch"]

PROBABLE = 0.5  # a pixel belongs to a structure where its probability is greater


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampling:
    """How the pixels of a radiograph become those of a square; by default as TorchXRayVision does it."""

    resize: Literal["bilinear", "bicubic", "nearest"] = "bilinear"
    antialias: bool = True
    """Average when it becomes smaller, as Pillow and torchvision do and OpenCV does not; not for ``nearest``."""
    intensity: Literal["xrv", "voi", "image"] = "xrv"
    """``xrv``: as they were read; ``voi``: by the VOI LUT or window, where there is one; ``image``: from its own
    darkest to its brightest."""


AS_READ = Sampling()


@dataclass(frozen=True, kw_only=True, slots=True)
class Placement:
    """Where the square lies on the standard view of a radiograph, and how that is stored.

    A feature map of any resolution covers the same place, so one placement serves them all.
    """

    top: int  # of the square, in rows of the standard view; negative when it sticks out
    left: int  # of the square, in columns of the standard view
    size: Shape  # of the square, in pixels of the standard view; not square where it was stretched
    shape: Shape  # rows and columns of the source matrix as stored
    orientation: Orientation  # from the source matrix to the standard view

    def mask(self, probabilities: NDArray[np.float32], threshold: float = PROBABLE) -> Region:
        """Lay the probabilities of one structure on the source matrix.

        Equal to ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)`` of the
        whole map to `size`, followed by a threshold; but only the rows and columns that can
        pass the threshold are computed, since a rib is a small part of its radiograph.

        Parameters
        ----------
        probabilities
            (rows, columns) of any resolution, 0 to 1, over the whole square in the standard view.
        threshold
            A pixel belongs to the structure where its probability is greater.
        """
        probable = probabilities > threshold
        image_rows, image_columns = self._image()
        height, width = self.size
        rows = _overlap(image_rows, _reach(np.flatnonzero(probable.any(axis=1)), len(probable), height))
        columns = _overlap(image_columns, _reach(np.flatnonzero(probable.any(axis=0)), probable.shape[1], width))
        window = _exceeds(threshold, probabilities, self.size, rows, columns)
        corner, opposite = self.orientation.points_to_source(
            [(self.left + columns.start, self.top + rows.start), (self.left + columns.stop, self.top + rows.stop)],
            self.shape,
        )
        offset = (int(min(corner[1], opposite[1])), int(min(corner[0], opposite[0])))
        return Region.from_matrix(self.orientation.to_source(window), offset, self.shape)

    def boxes(self, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Lay boxes on the source matrix; one that reaches beyond it is cut, and one outside of it has no area.

        Parameters
        ----------
        fractions
            (boxes, 4): left, top, right, bottom in the standard view, 0 to 1 over the square.

        Returns
        -------
        ndarray
            (boxes, 4): the same as points of the source matrix.
        """
        rows, columns = self.shape[::-1] if self.orientation.transpose else self.shape
        height, width = self.size
        across = np.clip(fractions[:, 0::2] * width + self.left, 0, columns)
        down = np.clip(fractions[:, 1::2] * height + self.top, 0, rows)
        turned: Any = self.orientation.points_to_source(zip(across.T, down.T, strict=True), self.shape)
        corners = np.array(turned)  # two of them, (column, row), of each box
        return np.concatenate([corners.min(axis=0), corners.max(axis=0)]).T

    def inside(self, size: int) -> tuple[slice, slice]:
        """Samples of a map of ``size`` x ``size`` over the square whose centres lie on the image; one at the least."""
        rows, columns = (_samples(pixels, size / side) for pixels, side in zip(self._image(), self.size, strict=True))
        return rows, columns

    def to_source(self, values: Array) -> Array:
        """Turn a map (rows, columns) over the square as the source is stored; see `grid`."""
        return np.ascontiguousarray(self.orientation.to_source(values))

    def grid(self, shape: Shape) -> Grid:
        """Where the samples of `to_source` of a map of ``shape`` lie on the source matrix.

        Parameters
        ----------
        shape
            Rows and columns of the map as the network gives it, in the standard view.
        """
        (height, width), transpose = self.size, self.orientation.transpose
        corners = self.orientation.points_to_source(
            [(self.left, self.top), (self.left + width, self.top + height)], self.shape
        )
        rows, columns = shape[::-1] if transpose else shape
        height, width = (width, height) if transpose else (height, width)
        return Grid(
            shape=(rows, columns),
            origin=(min(row for _, row in corners), min(column for column, _ in corners)),
            step=(height / rows, width / columns),
        )

    def _image(self) -> tuple[range, range]:
        """Rows and columns of the square that lie on the image; the others are padding."""
        rows, columns = self.shape[::-1] if self.orientation.transpose else self.shape
        height, width = self.size
        return (
            _overlap(range(-self.top, rows - self.top), range(height)),
            _overlap(range(-self.left, columns - self.left), range(width)),
        )


def _samples(pixels: range, scale: float) -> slice:
    """Samples whose centres lie on pixels; the one around their middle where they are too few to reach any."""
    start, stop = (ceil(pixel * scale - 0.5) for pixel in (pixels.start, pixels.stop))
    if start < stop:
        return slice(start, stop)
    middle = int((pixels.start + pixels.stop) / 2 * scale)
    return slice(middle, middle + 1)


_squares: WeakKeyDictionary[Radiograph, dict[tuple[int, Fit, Sampling], tuple[NDArray[np.float32], Placement]]] = (
    WeakKeyDictionary()
)


def square(
    radiograph: Radiograph, size: int, fit: Fit = "crop", sampling: Sampling = AS_READ
) -> tuple[NDArray[np.float32], Placement]:
    """Return the square input of a network, and where it lies.

    The models of a job share it: it is made once for each radiograph and way, and forgotten with the
    radiograph.

    Parameters
    ----------
    radiograph
        Pixels in the standard view.
    size
        Rows and columns of the network's input.
    fit
        ``crop``: the central square, as ``torchxrayvision.datasets.XRayCenterCrop`` cuts it;
        ``pad``: the whole image, centred on its own minimum; ``stretch``: the whole image, whose
        pixels then are not square.
    sampling
        By default as ``torchxrayvision.utils.fix_resolution`` resizes: bilinear with antialiasing.

    Returns
    -------
    tuple
        (size, size) float32, -1024 to 1024, not to be written to; and the placement.
    """
    made = _squares.setdefault(radiograph, {})
    key = size, fit, sampling
    if key not in made:
        made[key] = _make_square(radiograph, size, fit, sampling)
    return made[key]


def _make_square(
    radiograph: Radiograph, size: int, fit: Fit, sampling: Sampling
) -> tuple[NDArray[np.float32], Placement]:
    pixels = _shown(radiograph, sampling)
    rows, columns = pixels.shape
    side = min(rows, columns) if fit == "crop" else max(rows, columns)
    height, width = (rows, columns) if fit == "stretch" else (side, side)
    placement = Placement(
        top=rows // 2 - height // 2,
        left=columns // 2 - width // 2,
        size=(height, width),
        shape=radiograph.image.shape,
        orientation=radiograph.image.orientation,
    )
    cut = _cut(pixels, placement)
    made = _resize(cut, size, sampling) if placement.size != (size, size) else cut.copy()
    made.flags.writeable = False
    return made, placement


def _shown(radiograph: Radiograph, sampling: Sampling) -> NDArray[np.float32]:
    pixels, window = radiograph.pixels, radiograph.window
    shares: Array | None = None
    if sampling.intensity == "voi" and window is not None:
        shares = np.interp(pixels, *window)
    if sampling.intensity == "image" and (low := pixels.min()) < (high := pixels.max()):
        shares = (pixels - low) / (high - low)
    return pixels if shares is None else (shares * 2048 - 1024).astype(np.float32)


def _cut(pixels: NDArray[np.float32], placement: Placement) -> NDArray[np.float32]:
    height, width = placement.size
    if placement.top >= 0 and placement.left >= 0:
        rows = slice(placement.top, placement.top + height)
        columns = slice(placement.left, placement.left + width)
        return pixels[rows, columns]
    framed = np.full((height, width), pixels.min(), np.float32)
    rows = slice(-placement.top, -placement.top + pixels.shape[0])
    columns = slice(-placement.left, -placement.left + pixels.shape[1])
    framed[rows, columns] = pixels
    return framed


def _resize(pixels: NDArray[np.float32], size: int, sampling: Sampling) -> NDArray[np.float32]:
    import torch

    writable = pixels if pixels.flags.writeable else pixels.copy()  # torch warns of others
    smooth = sampling.resize != "nearest"
    resized: NDArray[np.float32] = torch.nn.functional.interpolate(
        torch.from_numpy(writable)[None, None],
        size=(size, size),
        mode=sampling.resize if smooth else "nearest-exact",
        antialias=smooth and sampling.antialias,
    )[0, 0].numpy()
    return resized


def _reach(probable: NDArray[np.intp], samples: int, side: int) -> range:
    """Pixels of one axis of the square that those of its ``samples`` which are ``probable`` can influence."""
    if not probable.size:
        return range(0)
    step = side / samples
    return _overlap(range(floor((probable[0] - 1) * step), ceil((probable[-1] + 2) * step)), range(side))


def _overlap(one: range, other: range) -> range:
    start = max(one.start, other.start)
    return range(start, max(start, min(one.stop, other.stop)))


def _exceeds(
    threshold: float, values: NDArray[np.float32], size: Shape, rows: range, columns: range
) -> NDArray[np.bool_]:
    """Where ``values``, interpolated to ``size``, are greater, for some rows and columns of the result."""
    upper, lower, down_share = _neighbours(values.shape[0], size[0], rows)
    first = upper.min(initial=len(values))
    needed = values[first : lower.max(initial=0) + 1]
    left, right, across_share = _neighbours(values.shape[1], size[1], columns)
    across = mixed(needed.take(left, axis=1), needed.take(right, axis=1), across_share)
    exceeds = np.empty((len(rows), len(columns)), bool)
    for block in row_blocks(len(rows)):
        above, below = (across.take(samples[block] - first, axis=0) for samples in (upper, lower))
        down = mixed(above, below, down_share[block, None])
        np.greater(down, threshold, out=exceeds[block])
    return exceeds


def _neighbours(samples: int, side: int, pixels: range) -> tuple[Array, Array, NDArray[np.float32]]:
    """The two samples that each pixel lies between, and the share of the second; as torch has them."""
    half, scale = np.float32(0.5), np.float32(samples) / np.float32(side)
    position = (np.arange(pixels.start, pixels.stop, dtype=np.float32) + half) * scale - half
    position = np.maximum(position, np.float32(0))
    low = np.minimum(position.astype(np.intp), samples - 1)
    share: NDArray[np.float32] = position - low.astype(np.float32)
    return low, np.minimum(low + 1, samples - 1), share
