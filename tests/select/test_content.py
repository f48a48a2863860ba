"""Eligibility by content: lungs that are not there, and a lateral view that the header does not tell."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from cxr_dicom.dicom import codes
from cxr_dicom.records import (
    ChestImage,
    Mask,
    Measurement,
    ModelInfo,
    Prediction,
    Spacing,
    SpacingSource,
    StoredInstance,
    Structure,
)
from cxr_dicom.records.plane import Orientation, Region
from cxr_dicom.select.content import implausible_lungs, lateral_by_content

ROWS, COLUMNS = 100, 200
LUNGS = ("right_lung", "left_lung")


def chest_image(view: str = "PA") -> ChestImage:
    header = Dataset()
    header.Rows, header.Columns = ROWS, COLUMNS
    instance = StoredInstance(
        path=Path("x"), study_instance_uid="1", series_instance_uid="2", sop_instance_uid="3", sop_class_uid="4"
    )
    spacing = Spacing(rows_mm=0.5, columns_mm=0.5, source=SpacingSource.CALIBRATED)
    return ChestImage(instance=instance, header=header, view=view, orientation=Orientation(), spacing=spacing)


def model(*predicts: str) -> ModelInfo:
    return ModelInfo(
        name="painted",
        version="1",
        title="painted by hand",
        predicts=predicts,
        input_size=None,
        manufacturer="test",
        licence="none",
        citation="none",
    )


def outlined(**pixels: int) -> Prediction:
    """What a model says that knows both lungs and outlines so many pixels of each."""
    masks = []
    for name, count in pixels.items():
        matrix = np.zeros((ROWS, COLUMNS), bool)
        matrix.flat[:count] = True
        structure = Structure(
            name=name, title=name, category=codes.ORGAN, type=codes.LUNG, laterality=None, colour=(1, 2, 3)
        )
        masks.append(Mask(structure=structure, region=Region.from_matrix(matrix)))
    return Prediction(model=model(*LUNGS), masks=tuple(masks))


def test_lungs_are_plausible_when_one_model_found_both():
    both, right = outlined(right_lung=4000, left_lung=4000), outlined(right_lung=4000)
    assert implausible_lungs(chest_image(), [both]) == ""
    assert implausible_lungs(chest_image(), [right, both]) == ""
    assert implausible_lungs(chest_image(), [right]) == "left lung covers 0.0% of the image, expected 1% to 50%"


@pytest.mark.parametrize(
    ("pixels", "problem"),
    [
        (199, "right lung covers 1.0% of the image, expected 1% to 50%"),
        (200, ""),
        (10_000, ""),
        (10_001, "right lung covers 50.0% of the image, expected 1% to 50%"),
    ],
)
def test_a_lung_covers_one_to_fifty_percent_of_the_image(pixels, problem):
    assert implausible_lungs(chest_image(), [outlined(right_lung=pixels, left_lung=4000)]) == problem


@pytest.mark.parametrize("predicts", [(), ("heart",), ("right_lung",)])
def test_a_model_that_does_not_look_for_both_lungs_says_nothing_against_the_image(predicts):
    assert implausible_lungs(chest_image(), [Prediction(model=model(*predicts))]) == ""


@pytest.mark.parametrize(
    ("view", "probability", "problem"),
    [
        ("", 0.9, "expected a frontal view, model painted sees a lateral one"),
        ("", 0.2, ""),
        ("", 0.5, ""),
        ("", None, ""),
        ("PA", 0.9, ""),
    ],
)
def test_a_view_model_is_asked_only_where_the_image_does_not_state_its_view(view, probability, problem):
    said = Measurement(name="view_lateral", code=codes.AREA, value=probability, unit=codes.RATIO)
    prediction = Prediction(model=model("view_lateral"), measurements=(said,))
    assert lateral_by_content(chest_image(view=view), [prediction]) == problem
