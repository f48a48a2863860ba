"""The square input of a network, and the way back to the source."""

import gc
import itertools
import weakref

import numpy as np
import pytest
import torch
import torchxrayvision as xrv

from cxr_dicom.infer.placement import square
from cxr_dicom.records.plane import Orientation

TURNS = [
    Orientation(transpose=t, flip_rows=r, flip_columns=c) for t, r, c in itertools.product((False, True), repeat=3)
]
FORMATS = [(90, 60), (61, 90), (75, 75)]

turns = pytest.mark.parametrize("turn", TURNS, ids=str)
formats = pytest.mark.parametrize("shape", FORMATS, ids=str)


def noise(shape, seed=0):
    return np.random.default_rng(seed).uniform(-1024, 1024, shape).astype(np.float32)


def test_crop_is_what_torchxrayvision_feeds_its_networks(radiograph, upstream_input):
    expected = xrv.utils.fix_resolution(upstream_input(radiograph), 224, None)[0, 0].numpy()
    given, _ = square(radiograph, 224)
    assert np.array_equal(given, expected)


@formats
def test_input_of_the_native_size_is_cut_and_not_resized(shape, painted):
    pixels = noise(shape)
    side = min(shape)
    given, placement = square(painted(pixels), side)
    rows, columns = (slice(start, start + side) for start in (placement.top, placement.left))
    assert np.array_equal(given, pixels[rows, columns])
    assert np.array_equal(given, xrv.datasets.XRayCenterCrop()(pixels[None])[0])


@formats
def test_pad_keeps_the_whole_image_in_the_middle(shape, painted):
    pixels = noise(shape)
    given, placement = square(painted(pixels), max(shape), "pad")
    inside = placement.inside(max(shape))
    assert np.array_equal(given[inside], pixels)
    outside = np.ones_like(given, bool)
    outside[inside] = False
    assert (given[outside] == pixels.min()).all()
    margins = [(part.start, max(shape) - part.stop) for part in inside]
    assert all(abs(before - after) <= 1 for before, after in margins)


@turns
@formats
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_marks_are_found_where_they_were_painted(shape, turn, fit, painted):
    """A mark in the source, seen through the network's square, comes back to its own pixels."""
    source = np.zeros(turn.to_source(np.zeros(shape)).shape, np.float32)
    rows, columns = source.shape
    marks = np.zeros_like(source, bool)
    marks[rows // 2 - 9 : rows // 2 + 3, columns // 2 - 4 : columns // 2 + 11] = True
    radiograph = painted(turn.to_standard(np.where(marks, 1024, -1024)), turn)
    given, placement = square(radiograph, min(shape) if fit == "crop" else max(shape), fit)
    region = placement.mask((given > 0).astype(np.float32))
    assert region.shape == source.shape
    assert np.array_equal(region.matrix(), marks)


@turns
def test_a_mark_at_the_border_keeps_its_corner_when_resized(turn, painted):
    shape = (160, 120)
    standard = np.full(shape, -1024, np.float32)
    standard[20:60, 0:40] = 1024  # at the top left of the square of 120 x 120
    radiograph = painted(standard, turn)
    given, placement = square(radiograph, 60)
    region = placement.mask((given > 0).astype(np.float32))
    assert np.array_equal(region.matrix(), turn.to_source(standard > 0))


@turns
@formats
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_masks_are_those_of_interpolation_to_the_full_square(shape, turn, fit, painted):
    smooth = torch.nn.functional.interpolate(
        torch.from_numpy(np.random.default_rng(3).uniform(0, 1, (1, 1, 7, 5)).astype(np.float32)),
        size=(33, 33),
        mode="bilinear",
    )
    _, placement = square(painted(noise(shape), turn), 33, fit)
    full = torch.nn.functional.interpolate(smooth, size=placement.size, mode="bilinear")[0, 0].numpy() > 0.5
    expected = np.zeros(shape, bool)
    rows = range(max(placement.top, 0), min(placement.top + placement.size[0], shape[0]))
    columns = range(max(placement.left, 0), min(placement.left + placement.size[1], shape[1]))
    expected[np.ix_(rows, columns)] = full[
        np.ix_([r - placement.top for r in rows], [c - placement.left for c in columns])
    ]
    assert 0 < expected.sum() < expected.size
    assert np.array_equal(placement.mask(smooth[0, 0].numpy()).matrix(), turn.to_source(expected))


def test_a_mask_touches_its_bounding_box_only(painted):
    probabilities = np.zeros((64, 64), np.float32)
    probabilities[40:43, 10:14] = 0.9
    _, placement = square(painted(noise((2000, 1600))), 64)
    region = placement.mask(probabilities)
    assert region.pixels.size < 0.01 * 2000 * 1600
    assert region.pixels[0].any()
    assert region.pixels[:, -1].any()


def test_nothing_probable_gives_an_empty_region(painted):
    _, placement = square(painted(noise((40, 30))), 16)
    assert placement.mask(np.full((16, 16), 0.5, np.float32)).area == 0


@turns
@formats
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_samples_of_a_map_lie_on_the_grid_that_is_stated(shape, turn, fit, painted):
    """Samples are the means of their rectangle: in a picture of its own coordinates they say where they lie."""
    source_shape = turn.to_source(np.zeros(shape)).shape
    rows, columns = np.indices(source_shape, dtype=np.float32)
    for axis, coordinates in enumerate((rows, columns)):
        radiograph = painted(turn.to_standard(coordinates + 0.5), turn)
        given, placement = square(radiograph, max(shape), fit)
        values, grid = placement.to_source(given), placement.grid(given.shape)
        assert values.shape == grid.shape
        lie = (np.arange(grid.shape[axis]) + 0.5) * grid.step[axis] + grid.origin[axis]
        middle = np.take(values, grid.shape[1 - axis] // 2, axis=1 - axis)
        inside = (lie > 2) & (lie < source_shape[axis] - 2)
        inside[:2] = inside[-2:] = False  # the border of a square repeats its last pixel
        assert inside.sum() > 20
        assert np.allclose(middle[inside], lie[inside], atol=1e-3)


def test_a_radiograph_is_cut_once_for_all_models_and_then_forgotten(painted):
    radiograph = painted(noise((40, 30)))
    first, _ = square(radiograph, 16)
    assert square(radiograph, 16)[0] is first
    assert square(radiograph, 16, "pad")[0] is not first
    assert not first.flags.writeable
    kept = weakref.ref(first)
    del radiograph, first
    gc.collect()
    assert kept() is None
