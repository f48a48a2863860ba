"""Outlines, filled again by a rasteriser that is not ours."""

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

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
