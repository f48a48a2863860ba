"""Turn and spacing of an eligible image, from every attribute that says them."""

import itertools

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.sequence import Sequence

from cxr_dicom import synthetic
from cxr_dicom.records import SpacingSource
from cxr_dicom.records.plane import Orientation


def small(**attributes):
    return synthetic.radiograph(40, 32, **attributes)


def item(**attributes):
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return Sequence([dataset])


TURNS = [
    Orientation(transpose=t, flip_rows=r, flip_columns=c) for t, r, c in itertools.product((False, True), repeat=3)
]


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_each_patient_orientation_gives_the_turn_to_the_standard_view(selected, stored, turn):
    original = small()
    path = stored(synthetic.turned(original, turn))
    image = selected(path)
    assert image.orientation == turn
    np.testing.assert_array_equal(image.orientation.to_standard(dcmread(path).pixel_array), original.pixel_array)


@pytest.mark.parametrize("orientation", [None, "", ["L"], ["L", "L"], ["X", "Y"]])
def test_an_unknown_orientation_is_taken_as_stored_with_a_warning(selected, orientation):
    image = selected(small(PatientOrientation=orientation))
    assert image.orientation == Orientation()
    assert any("Patient Orientation" in warning for warning in image.warnings)


def test_an_orientation_of_two_letters_counts_by_its_first(selected):
    assert selected(small(PatientOrientation=["RF", "FL"])).orientation == Orientation(flip_columns=True)


SPACINGS = [
    ({"PixelSpacing": [0.2, 0.3], "PixelSpacingCalibrationType": "FIDUCIAL"}, (0.2, 0.3), SpacingSource.CALIBRATED),
    ({"PixelSpacing": [0.2, 0.3], "ImagerPixelSpacing": [0.25, 0.35]}, (0.2, 0.3), SpacingSource.PIXEL_SPACING),
    ({"PixelSpacing": [0.2, 0.3], "ImagerPixelSpacing": None}, (0.2, 0.3), SpacingSource.PIXEL_SPACING),
    ({"PixelSpacing": [0.2, 0.3], "ImagerPixelSpacing": [0.2, 0.3]}, (0.2, 0.3), SpacingSource.IMAGER_PIXEL_SPACING),
    ({"PixelSpacing": None, "ImagerPixelSpacing": [0.2, 0.3]}, (0.2, 0.3), SpacingSource.IMAGER_PIXEL_SPACING),
    ({"PixelSpacing": [0, 0], "ImagerPixelSpacing": [0.2, 0.3]}, (0.2, 0.3), SpacingSource.IMAGER_PIXEL_SPACING),
    ({"PixelSpacing": [-0.2, -0.2], "ImagerPixelSpacing": None}, (1, 1), SpacingSource.NONE),
    ({"PixelSpacing": [0.2, 0], "ImagerPixelSpacing": None}, (1, 1), SpacingSource.NONE),
    ({"PixelSpacing": [200, 200], "ImagerPixelSpacing": None}, (1, 1), SpacingSource.NONE),
    ({"PixelSpacing": 0.2, "ImagerPixelSpacing": None}, (1, 1), SpacingSource.NONE),
    ({"PixelSpacing": None, "ImagerPixelSpacing": None}, (1, 1), SpacingSource.NONE),
]


@pytest.mark.parametrize(("attributes", "lengths", "source"), SPACINGS)
def test_spacing_says_where_its_millimetres_come_from(selected, attributes, lengths, source):
    image = selected(small(**attributes))
    assert (image.spacing.rows_mm, image.spacing.columns_mm) == lengths
    assert image.spacing.source is source
    assert image.spacing.is_physical is (source is not SpacingSource.NONE)
    assert any("lengths are in pixels" in warning for warning in image.warnings) is (source is SpacingSource.NONE)


def test_zero_pixel_spacing_is_reported(selected):
    image = selected(small(PixelSpacing=[0, 0]))
    assert any("Pixel Spacing is not usable" in warning for warning in image.warnings)


def test_bytes_after_the_pixel_data_are_reported(selected):
    pixels = small().PixelData
    assert any("10 bytes more" in warning for warning in selected(small(PixelData=pixels + b"\0" * 10)).warnings)
    odd = synthetic.radiograph(5, 5, bits_allocated=8, bits_stored=8)
    assert selected(odd).warnings == (), "one byte of padding is as it must be"
