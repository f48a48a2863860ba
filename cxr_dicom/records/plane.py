r"""Where a pixel is: turns, boxes, regions and grids of an image matrix.

Conventions, everywhere in this package:

- a *matrix* is an array of shape (rows, columns), as stored in the source image;
- the *standard view* is a frontal chest radiograph as it hangs: the patient's right on the
  left of the picture, the head up (Patient Orientation ``L\F``, PS3.3 C.7.6.1.1.1);
- a *point* is (column, row) in image-relative coordinates of SCOORD (PS3.3 C.18.6.1.2): the
  top left corner of the top left pixel is (0, 0), its centre is (0.5, 0.5).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Point = tuple[float, float]
Shape = tuple[int, int]

_ROWS_AT_ONCE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Orientation:
    """How a stored matrix becomes the standard view: transpose first, then flip.

    The eight turns are all that Patient Orientation can say about a frontal radiograph.
    """

    transpose: bool = False  # rows and columns change places
    flip_rows: bool = False  # after the transpose: top and bottom change places
    flip_columns: bool = False  # after the transpose: left and right change places

    def to_standard(self, matrix: Array) -> Array:
        """Return a view of the stored ``matrix`` (rows, columns) in the standard view."""
        turned = matrix.T if self.transpose else matrix
        return turned[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def to_source(self, matrix: Array) -> Array:
        """Return a view of ``matrix``, given in the standard view, as the source stores it."""
        turned = matrix[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]
        return turned.T if self.transpose else turned

    def then(self, other: Orientation) -> Orientation:
        """Return the turn that does this one first, and ``other`` with what it gives."""
        rows, columns = self.flip_rows, self.flip_columns
        if other.transpose:
            rows, columns = columns, rows
        return Orientation(
            transpose=self.transpose != other.transpose,
            flip_rows=rows != other.flip_rows,
            flip_columns=columns != other.flip_columns,
        )

    @property
    def is_mirror(self) -> bool:
        """Whether no rotation of the matrix could do the same."""
        return (self.transpose + self.flip_rows + self.flip_columns) % 2 == 1

    def points_to_standard(self, points: Iterable[Point], source_shape: Shape) -> tuple[Point, ...]:
        """Turn points of the source matrix of ``source_shape`` to the standard view."""
        rows, columns = source_shape[::-1] if self.transpose else source_shape
        turned = []
        for column, row in points:
            column, row = (row, column) if self.transpose else (column, row)
            turned.append((columns - column if self.flip_columns else column, rows - row if self.flip_rows else row))
        return tuple(turned)

    def points_to_source(self, points: Iterable[Point], source_shape: Shape) -> tuple[Point, ...]:
        """Turn points of the standard view back to the source matrix of ``source_shape``."""
        rows, columns = source_shape[::-1] if self.transpose else source_shape
        turned = []
        for column, row in points:
            column = columns - column if self.flip_columns else column
            row = rows - row if self.flip_rows else row
            turned.append((row, column) if self.transpose else (column, row))
        return tuple(turned)


TURNS = tuple(
    Orientation(transpose=transpose, flip_rows=rows, flip_columns=columns)
    for transpose in (False, True)
    for rows in (False, True)
    for columns in (False, True)
)  # all eight, that which changes nothing first


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A half-open rectangle of pixels: rows ``top`` to ``bottom`` - 1, columns likewise."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the box in its matrix."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def shape(self) -> Shape:
        """Rows and columns of the box."""
        return self.bottom - self.top, self.right - self.left

    @property
    def corners(self) -> tuple[Point, ...]:
        """The closed outline in five points, clockwise from the top left."""
        left, top, right, bottom = map(float, (self.left, self.top, self.right, self.bottom))
        return ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """A set of pixels of the source matrix, kept as the content of its bounding box.

    A rib of a 2500 x 2048 radiograph costs its own box, not 5 MB.
    """

    shape: Shape  # rows and columns of the whole source matrix
    box: Box  # tight around the set; empty when the set is
    pixels: NDArray[np.bool_]  # (rows, columns) of the box

    @classmethod
    def from_matrix(cls, matrix: NDArray[np.bool_], offset: Shape = (0, 0), shape: Shape | None = None) -> Region:
        """Make a region from a boolean ``matrix`` that lies at ``offset`` in a matrix of ``shape``."""
        shape = shape or (matrix.shape[0], matrix.shape[1])
        rows, columns = np.flatnonzero(matrix.any(axis=1)), np.flatnonzero(matrix.any(axis=0))
        if not rows.size:
            return cls(shape=shape, box=Box(top=0, left=0, bottom=0, right=0), pixels=np.zeros((0, 0), bool))
        top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
        box = Box(top=top + offset[0], left=left + offset[1], bottom=bottom + offset[0], right=right + offset[1])
        return cls(shape=shape, box=box, pixels=np.array(matrix[top:bottom, left:right], order="C"))

    def to_standard(self, orientation: Orientation) -> Region:
        """The same set in the standard view."""
        rows, columns = self.shape[::-1] if orientation.transpose else self.shape
        top, left, bottom, right = self.box.top, self.box.left, self.box.bottom, self.box.right
        if orientation.transpose:
            top, left, bottom, right = left, top, right, bottom
        if orientation.flip_rows:
            top, bottom = rows - bottom, rows - top
        if orientation.flip_columns:
            left, right = columns - right, columns - left
        box = Box(top=top, left=left, bottom=bottom, right=right)
        return Region(shape=(rows, columns), box=box, pixels=orientation.to_standard(self.pixels))

    def matrix(self) -> NDArray[np.bool_]:
        """The whole source matrix, (rows, columns), true inside."""
        whole = np.zeros(self.shape, bool)
        whole[self.box.slices] = self.pixels
        return whole

    @cached_property
    def area(self) -> int:
        """Number of pixels."""
        return int(np.count_nonzero(self.pixels))


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Regular samples over a source matrix, each the centre of a rectangle of ``step`` pixels.

    Sample (i, j) lies at the source point (column, row) =
    ((j + 0.5) * step[1] + origin[1], (i + 0.5) * step[0] + origin[0]).
    """

    shape: Shape  # rows and columns of samples
    origin: tuple[float, float] = (0.0, 0.0)  # (row, column) of the grid's top left corner in the source
    step: tuple[float, float] = (1.0, 1.0)  # source pixels per sample: (rows, columns)

    def resample(self, values: NDArray[np.float32], size: Shape, source: Shape) -> NDArray[np.float32]:
        """Interpolate ``values`` linearly on a matrix of ``size`` that covers the source matrix.

        Parameters
        ----------
        values
            (rows, columns) of this grid, 0 to 1.
        size
            Rows and columns of the result.
        source
            Rows and columns of the source matrix that the grid lies on.

        Returns
        -------
        ndarray
            Of shape ``size``: 0 to 1, and 0 where a pixel does not lie on the grid.
        """
        (first_row, next_row, row_part, row_inside), (first_column, next_column, column_part, column_inside) = (
            self._neighbours(size[axis], source[axis], axis) for axis in (0, 1)
        )
        result = np.empty(size, np.float32)
        for rows in row_blocks(size[0]):
            across = mixed(values[first_row[rows]], values[next_row[rows]], row_part[rows, None])
            block = mixed(across.take(first_column, axis=1), across.take(next_column, axis=1), column_part)
            np.clip(block, 0, 1, out=result[rows])
        result[~row_inside] = result[:, ~column_inside] = 0
        return result

    def _neighbours(
        self, size: int, source: int, axis: int
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32], NDArray[np.bool_]]:
        """Along one axis: the two samples around each pixel, the share of the second, and whether it is inside."""
        position = ((np.arange(size) + 0.5) * source / size - self.origin[axis]) / self.step[axis]
        inside = (position >= 0) & (position <= self.shape[axis])
        sample = np.clip(position - 0.5, 0, self.shape[axis] - 1)
        first = sample.astype(np.intp)
        return first, np.minimum(first + 1, self.shape[axis] - 1), (sample - first).astype(np.float32), inside


def row_blocks(rows: int) -> Iterator[slice]:
    """Split the rows of a matrix so that what is computed of a block stays in the processor's cache."""
    return (slice(start, start + _ROWS_AT_ONCE) for start in range(0, rows, _ROWS_AT_ONCE))


def mixed(first: Array, second: Array, share: Array) -> Array:
    """Interpolate between two arrays, in their own memory; ``share`` is that of the second, 0 to 1."""
    first *= 1 - share
    second *= share
    first += second
    return first
