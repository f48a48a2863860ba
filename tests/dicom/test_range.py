"""A radiograph that uses little of its range: quantiles see it, and `intensity = "auto"` mends it, `xrv` never."""

import numpy as np
import pytest

from cxr_dicom import synthetic
from cxr_dicom.config import PixelSettings
from cxr_dicom.dicom.pixels import read

AUTO, XRV, VOI = (PixelSettings(intensity=choice) for choice in ("auto", "xrv", "voi"))
PICTURE = synthetic.frontal_chest(96, 80)


def flat(share, marker=None, **attributes):
    """A radiograph of 16 bits that uses this share of them, but for a marker in its corner."""
    values = PICTURE * share
    if marker is not None:
        values = values.copy()
        values[:5, :5] = marker
    stated = {"bits_stored": 16, "WindowCenter": None, "WindowWidth": None}
    dataset = synthetic.radiograph(96, 80, **stated | attributes)
    dataset.PixelData = np.rint(values * 65535).astype("<u2").tobytes()
    return dataset


def correlation(a, b):
    return np.corrcoef(a[8:].ravel(), b[8:].ravel())[0, 1]


@pytest.mark.parametrize("share", [0.02, 0.05])
@pytest.mark.parametrize("marker", [None, 1.0], ids=["without a marker", "with a marker"])
def test_a_flat_radiograph_is_warned_of_and_spread(selected, share, marker):
    image = selected(flat(share, marker))
    as_stored, mended = read(image, XRV), read(image, AUTO)
    assert ["low dynamic range" in text for text in as_stored.warnings] == [True]
    assert np.ptp(as_stored.pixels[8:]) < 130
    assert ["low dynamic range" in text for text in mended.warnings] == [True, False]
    assert "quantiles" in mended.warnings[1]
    assert np.ptp(mended.pixels[8:]) > 1900
    assert correlation(mended.pixels, PICTURE) > 0.99


def test_it_is_spread_between_the_quantiles_that_numpy_finds(selected):
    stored = np.rint(PICTURE * 0.05 * 65535).astype(np.float32) / np.float32(65535)
    low, high = map(float, np.quantile(stored, (0.005, 0.995)))
    spread = np.clip((stored - low) / (high - low), 0, 1).astype(np.float32)
    np.testing.assert_array_equal(read(selected(flat(0.05)), AUTO).pixels, (2 * spread - 1) * 1024)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_window_is_used_where_it_says_more(selected, photometric):
    window = {"WindowCenter": 0.01 * 65535, "WindowWidth": 0.02 * 65535}
    image = selected(flat(0.02, 1.0, photometric=photometric, **window))
    mended = read(image, AUTO)
    np.testing.assert_array_equal(mended.pixels, read(image, VOI).pixels)
    assert "window" in mended.warnings[-1]


def test_a_window_as_wide_as_the_range_or_one_that_cannot_be_applied_is_not_used(selected):
    for window in ({"WindowCenter": 32768, "WindowWidth": 65536}, {"WindowCenter": 5, "WindowWidth": -1}):
        mended = read(selected(flat(0.02, **window)), AUTO)
        assert "quantiles" in mended.warnings[-1]


@pytest.mark.parametrize("attributes", [{}, {"photometric": "MONOCHROME1"}, {"bits_stored": 10}], ids=str)
def test_auto_is_xrv_to_the_bit_where_the_range_is_used(selected, attributes):
    image = selected(synthetic.radiograph(96, 80, **attributes))
    auto, xrv = read(image, AUTO), read(image, XRV)
    np.testing.assert_array_equal(auto.pixels, xrv.pixels)
    assert auto.warnings == xrv.warnings == ()


def test_one_grey_level_stays_one(selected):
    dataset = flat(0.02)
    dataset.PixelData = b"\7\0" * (96 * 80)
    mended = read(selected(dataset), AUTO)
    assert np.ptp(mended.pixels) == 0
