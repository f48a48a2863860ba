"""What an eligible image says of itself."""

from dataclasses import replace

import pytest
from pydicom import Dataset

from cxr_dicom import synthetic
from cxr_dicom.records import Spacing, SpacingSource


@pytest.mark.parametrize("source", SpacingSource)
def test_lengths_are_in_millimetres_wherever_a_spacing_was_stated(source):
    spacing = Spacing(rows_mm=1.0, columns_mm=1.0, source=source)
    assert spacing.is_physical == (source != "none")


def test_the_shape_is_that_of_the_matrix_as_stored(selected):
    image = selected(synthetic.radiograph(96, 80, PatientOrientation=["F", "L"]))
    assert image.orientation.transpose
    assert image.shape == (96, 80)


def test_a_shape_is_two_plain_numbers(selected):
    image = selected(synthetic.radiograph(96, 80))
    header = Dataset.from_json(image.header.to_json())
    assert [type(size) for size in replace(image, header=header).shape] == [int, int]


def test_an_image_is_itself_only_for_results_are_kept_by_it(selected):
    image = selected(synthetic.radiograph(96, 80))
    assert {image: "its own"}.get(replace(image)) is None
