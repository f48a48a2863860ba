"""Shapes of masks and smooth maps, against SciPy: pixel by pixel, and to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import ndimage

from cxr_dicom.infer.offline import shapes


def masks(seed):
    """Noise and blobs, of matrices of one pixel and more."""
    random = np.random.default_rng(seed)
    for _ in range(40):
        shape = tuple(random.integers(1, 50, 2))
        yield random.random(shape) < random.choice([0, 0.1, 0.4, 0.6, 0.9, 1])
        yield ndimage.gaussian_filter(random.random(shape), 2) > 0.5


@pytest.mark.parametrize("seed", range(3))
def test_masks_become_what_scipy_makes_of_them(seed):
    for mask in masks(seed):
        labels, count = shapes.labelled(mask)
        expected, expected_count = ndimage.label(mask)
        assert count == expected_count
        assert_array_equal(labels, expected)
        assert_array_equal(shapes.filled(mask), ndimage.binary_fill_holes(mask))
        for times in (1, 3):
            assert_array_equal(shapes.eroded(mask, times), ndimage.binary_erosion(mask, iterations=times))
            assert_array_equal(shapes.dilated(mask, times), ndimage.binary_dilation(mask, iterations=times))


@pytest.mark.parametrize("deviation", [0.4, 2.7, 5.0, 30.0])
def test_a_part_of_a_map_is_as_smooth_as_the_whole_that_scipy_smooths(deviation):
    values = np.random.default_rng(0).random((61, 47)).astype(np.float32)
    whole = ndimage.gaussian_filter(values, deviation)
    for wanted in ((slice(0, 61), slice(0, 47)), (slice(3, 40), slice(20, 47)), (slice(30, 31), slice(0, 1))):
        assert_array_equal(shapes.smoothed(values, deviation, wanted), whole[wanted])
