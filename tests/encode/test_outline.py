"""Outlines, filled again by a rasteriser that is not ours."""

from itertools import pairwise
from math import hypot

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import binary_fill_holes, gaussian_filter, label

from cxr_dicom.encode.outline import enclosed_area, outlines
from cxr_dicom.records.plane import Region

_FINE = (
    4  # Pillow counts the border of a polygon in: it fills a finer matrix, and the centres of the pixels are compared
)


def filled(polygons, shape):
    matrix = np.zeros(shape, bool)
    for polygon in polygons:
        picture = Image.new("1", (shape[1] * _FINE, shape[0] * _FINE))
        ImageDraw.Draw(picture).polygon([(x * _FINE - 0.5, y * _FINE - 0.5) for x, y in polygon], fill=1)
        matrix ^= np.asarray(picture)[_FINE // 2 :: _FINE, _FINE // 2 :: _FINE]
    return matrix


@pytest.fixture(params=[0, 1, 2])
def blobs(request):
    """Islands with holes, some of which touch the border of the matrix or one another."""
    noise = gaussian_filter(np.random.default_rng(request.param).random((120, 90)), 3)
    return noise > np.median(noise)


def test_without_tolerance_the_outline_is_the_region(blobs):
    assert np.array_equal(filled(outlines(Region.from_matrix(blobs), tolerance=0), blobs.shape), blobs)


def test_pixels_that_touch_at_a_corner_have_an_outline_each():
    checks = np.indices((4, 5)).sum(axis=0) % 2 == 0
    found = outlines(Region.from_matrix(checks))
    assert len(found) == checks.sum()
    assert {enclosed_area(each) for each in found} == {1.0}


@pytest.mark.parametrize("seed", [0, 1])
def test_each_part_has_one_outline_around_it_however_parts_and_holes_touch(seed):
    noise = np.random.default_rng(seed).random((40, 60)) > 0.4
    parts, count = label(noise)
    found = [enclosed_area(each) for each in outlines(Region.from_matrix(noise), tolerance=0)]
    around = [binary_fill_holes(parts == number, np.ones((3, 3))).sum() for number in range(1, count + 1)]
    assert [area for area in found if area > 0] == sorted(around, reverse=True)
    assert sum(found) == noise.sum()


def test_what_is_left_out_lies_within_a_pixel_of_the_line_that_stays(blobs):
    region = Region.from_matrix(blobs)
    corners, thin = outlines(region, tolerance=0)[0], outlines(region)[0]
    assert len(thin) < len(corners)
    assert thin[0] == corners[0]
    at = 0
    for (x0, y0), (x1, y1) in pairwise(thin):
        length, to = hypot(x1 - x0, y1 - y0), corners.index((x1, y1), at + 1)
        assert all(abs((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) <= length for x, y in corners[at:to])
        at = to
    assert at == len(corners) - 1


def test_holes_have_negative_areas_and_all_add_up(blobs):
    found = [enclosed_area(each) for each in outlines(Region.from_matrix(blobs), tolerance=0)]
    assert min(found) < 0
    assert sum(found) == blobs.sum()
    assert [abs(area) for area in found] == sorted((abs(area) for area in found), reverse=True)


def test_a_large_region_needs_few_points():
    y, x = np.mgrid[:1000, :800]
    disc = (y - 500) ** 2 + (x - 400) ** 2 < 350**2
    (outline,) = outlines(Region.from_matrix(disc))
    again = filled([outline], disc.shape)
    assert len(outline) < 200
    assert (again & disc).sum() / (again | disc).sum() > 0.995
    assert outline[0] == outline[-1]


def test_an_empty_region_has_none():
    assert outlines(Region.from_matrix(np.zeros((5, 5), bool))) == []
