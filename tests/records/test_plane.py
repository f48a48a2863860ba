"""Turns are exact and come back; regions and boxes say where they are."""

import itertools

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from cxr_dicom.records.plane import Box, Grid, Orientation, Region, mixed, row_blocks

TURNS = [
    Orientation(transpose=t, flip_rows=r, flip_columns=c) for t, r, c in itertools.product((False, True), repeat=3)
]


def marked(shape, row, column):
    matrix = np.zeros(shape, bool)
    matrix[row, column] = True
    return matrix


@pytest.fixture
def matrix():
    return np.arange(5 * 3).reshape(5, 3)


@pytest.mark.parametrize("orientation", TURNS, ids=str)
def test_a_turn_comes_back_from_either_side(orientation, matrix):
    np.testing.assert_array_equal(orientation.to_source(orientation.to_standard(matrix)), matrix)
    np.testing.assert_array_equal(orientation.to_standard(orientation.to_source(matrix)), matrix)


def test_the_eight_turns_are_different(matrix):
    square = np.arange(9).reshape(3, 3)
    assert len({orientation.to_standard(square).tobytes() for orientation in TURNS}) == 8


def test_a_turn_transposes_first_and_flips_afterwards(matrix):
    orientation = Orientation(transpose=True, flip_rows=True)
    np.testing.assert_array_equal(orientation.to_standard(matrix), np.flipud(matrix.T))
    np.testing.assert_array_equal(orientation.to_standard(matrix), np.rot90(matrix))
    assert orientation.to_standard(matrix).shape == (3, 5)


@pytest.mark.parametrize("orientation", TURNS, ids=str)
@pytest.mark.parametrize("position", [(0, 0), (4, 2), (1, 2), (3, 0)])
def test_a_point_in_a_pixel_stays_in_it(orientation, position):
    source = marked((5, 3), *position)
    (row,), (column,) = np.nonzero(orientation.to_standard(source))
    ((source_column, source_row),) = orientation.points_to_source([(column + 0.25, row + 0.75)], (5, 3))
    assert (int(source_row), int(source_column)) == position
    offsets = {round(source_row % 1, 6), round(source_column % 1, 6)}
    assert offsets <= {0.25, 0.75}


@pytest.mark.parametrize("orientation", TURNS, ids=str)
def test_the_corners_of_the_picture_stay_its_corners(orientation):
    rows, columns = (3, 5) if orientation.transpose else (5, 3)
    corners = [(0.0, 0.0), (columns, 0.0), (columns, rows), (0.0, rows)]
    assert set(orientation.points_to_source(corners, (5, 3))) == {(0, 0), (3, 0), (3, 5), (0, 5)}


def test_a_region_keeps_only_its_bounding_box_and_gives_the_matrix_back():
    matrix = np.zeros((7, 9), bool)
    matrix[2:4, 3:8] = True
    matrix[5, 4] = True
    region = Region.from_matrix(matrix)
    assert region.box == Box(top=2, left=3, bottom=6, right=8)
    assert region.box.shape == region.pixels.shape == (4, 5)
    assert region.area == 11
    np.testing.assert_array_equal(region.matrix(), matrix)


@pytest.mark.parametrize("orientation", TURNS, ids=str)
def test_a_region_in_the_standard_view_is_that_of_the_turned_matrix(orientation):
    matrix = np.zeros((7, 5), bool)
    matrix[1:4, 2:4] = [[1, 0], [1, 1], [0, 1]]
    turned, expected = (
        Region.from_matrix(matrix).to_standard(orientation),
        Region.from_matrix(orientation.to_standard(matrix)),
    )
    assert (turned.shape, turned.box) == (expected.shape, expected.box)
    np.testing.assert_array_equal(turned.pixels, expected.pixels)


def test_a_region_does_not_follow_later_changes_of_its_matrix():
    matrix = np.zeros((4, 4), bool)
    matrix[1:3] = True
    region = Region.from_matrix(matrix)
    matrix[:] = False
    assert region.area == 8


def test_a_region_lies_in_memory_row_by_row_whatever_its_matrix_does():
    pixels = Region.from_matrix(np.asfortranarray(np.ones((3, 4), bool))).pixels
    assert pixels.flags.c_contiguous
    assert pixels.dtype == bool


def test_a_region_at_an_offset_lies_there():
    patch = marked((3, 3), 1, 2)
    region = Region.from_matrix(patch, offset=(10, 20), shape=(40, 50))
    (row,), (column,) = np.nonzero(region.matrix())
    assert (row, column, region.shape) == (11, 22, (40, 50))


@pytest.mark.parametrize("shape", [None, (40, 50)])
def test_an_empty_region_is_empty(shape):
    region = Region.from_matrix(np.zeros((3, 3), bool), offset=(10, 20), shape=shape)
    assert region.area == 0
    assert region.box.shape == region.pixels.shape == (0, 0)
    assert region.pixels.dtype == region.matrix().dtype == bool
    assert not region.matrix().any()
    assert region.matrix().shape == (shape or (3, 3))


def test_the_corners_of_a_box_are_the_outer_edges_of_its_pixels():
    box = Box(top=1, left=2, bottom=4, right=6)
    assert box.corners == ((2, 1), (6, 1), (6, 4), (2, 4), (2, 1))
    assert box.shape == (3, 4)
    assert np.zeros((10, 10))[box.slices].shape == box.shape


def test_an_orientation_is_as_stored_unless_told():
    assert Orientation() == Orientation(transpose=False, flip_rows=False, flip_columns=False)


GRIDS = [  # grid, size of the result, size of the source
    (Grid(shape=(5, 7)), (5, 7), (5, 7)),
    (Grid(shape=(5, 7), step=(40.0, 20.0)), (200, 140), (200, 140)),
    (Grid(shape=(5, 7), step=(40.0, 20.0)), (70, 30), (200, 140)),  # fewer pixels than the source has
    (Grid(shape=(4, 3), origin=(21.0, -13.0), step=(30.0, 25.0)), (160, 90), (160, 90)),  # beside the source
    (Grid(shape=(1, 1), origin=(2.0, 3.0), step=(2.0, 5.0)), (8, 9), (8, 9)),
]


@pytest.mark.parametrize(("grid", "size", "source"), GRIDS)
def test_a_grid_is_interpolated_as_scipy_does_it_and_nought_outside(grid, size, source):
    values = np.random.default_rng(1).random(grid.shape, np.float32)
    rows, columns = (
        ((np.arange(size[axis]) + 0.5) * source[axis] / size[axis] - grid.origin[axis]) / grid.step[axis]
        for axis in (0, 1)
    )
    expected = map_coordinates(values, np.meshgrid(rows - 0.5, columns - 0.5, indexing="ij"), order=1, mode="nearest")
    expected[(rows < 0) | (rows > grid.shape[0])] = 0
    expected[:, (columns < 0) | (columns > grid.shape[1])] = 0
    result = grid.resample(values.copy(), size, source)
    assert (result.dtype, result.shape) == (np.float32, size)
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_a_pixel_on_the_edge_of_a_grid_is_inside():
    grid = Grid(shape=(2, 2), origin=(0.5, 1.5), step=(2.0, 1.0))
    inside = grid.resample(np.ones((2, 2), np.float32), (7, 6), (7, 6)) > 0
    np.testing.assert_array_equal(np.flatnonzero(inside.any(axis=1)), [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(np.flatnonzero(inside.any(axis=0)), [1, 2, 3])


def test_what_is_interpolated_stays_between_nought_and_one():
    values = np.array([[-1, 0.25], [0.75, 3]], np.float32)
    np.testing.assert_array_equal(Grid(shape=(2, 2)).resample(values, (2, 2), (2, 2)), [[0, 0.25], [0.75, 1]])


def test_blocks_of_rows_are_all_rows_once_and_small():
    blocks = list(row_blocks(130))
    assert [row for block in blocks for row in range(130)[block]] == list(range(130))
    assert [len(range(130)[block]) for block in blocks] == [64, 64, 2]
    assert list(row_blocks(0)) == []


def test_two_arrays_are_mixed_in_the_memory_of_the_first():
    first, second = np.array([0.0, 4.0]), np.array([8.0, 8.0])
    assert mixed(first, second, np.array([0.25, 0.5])) is first
    np.testing.assert_array_equal(first, [2, 6])
