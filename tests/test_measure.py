"""Widths, ratio, distance, areas and statements, on shapes whose numbers are known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from cxr_dicom.dicom import codes
from cxr_dicom.measure import measure
from cxr_dicom.records import (
    ChestImage,
    Mask,
    ModelInfo,
    Prediction,
    Presence,
    Spacing,
    SpacingSource,
    StoredInstance,
    Structure,
)
from cxr_dicom.records.plane import Orientation, Region

ROWS, COLUMNS = 120, 200
MODEL = ModelInfo(
    name="painted",
    version="1",
    title="painted by hand",
    predicts=("right_lung", "left_lung", "heart", "spine"),
    input_size=None,
    manufacturer="test",
    licence="none",
    citation="none",
)
AS_STORED = Orientation()
EVERY_TURN = [
    Orientation(transpose=t, flip_rows=r, flip_columns=c)
    for t in (False, True)
    for r in (False, True)
    for c in (False, True)
]


def upright_shapes() -> dict[str, np.ndarray]:
    shapes = {name: np.zeros((ROWS, COLUMNS), bool) for name in ("right_lung", "left_lung", "heart", "spine")}
    shapes["right_lung"][20:100, 30:80] = True
    shapes["right_lung"][90:100, 20:80] = True  # widest below
    shapes["left_lung"][20:100, 120:170] = True
    shapes["left_lung"][90:100, 120:180] = True
    shapes["heart"][60:95, 85:130] = True
    shapes["heart"][70:80, 80:140] = True
    shapes["spine"][:, 96:106] = True
    return shapes


def chest_image(
    orientation: Orientation = AS_STORED, spacing: Spacing | None = None, view: str = "PA", **attributes
) -> ChestImage:
    header = Dataset()
    header.Rows, header.Columns = (COLUMNS, ROWS) if orientation.transpose else (ROWS, COLUMNS)
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    instance = StoredInstance(
        path=Path("x"), study_instance_uid="1", series_instance_uid="2", sop_instance_uid="3", sop_class_uid="4"
    )
    spacing = spacing or Spacing(rows_mm=0.5, columns_mm=0.5, source=SpacingSource.CALIBRATED)
    return ChestImage(instance=instance, header=header, view=view, orientation=orientation, spacing=spacing)


def painted(orientation: Orientation = AS_STORED, without: tuple[str, ...] = ()) -> Prediction:
    masks = tuple(
        Mask(
            structure=Structure(
                name=name, title=name, category=codes.ORGAN, type=codes.LUNG, laterality=None, colour=(1, 2, 3)
            ),
            region=Region.from_matrix(orientation.to_source(shape)),
        )
        for name, shape in upright_shapes().items()
        if name not in without
    )
    return Prediction(model=MODEL, masks=masks)


def measured(image: ChestImage, prediction: Prediction) -> dict[str, object]:
    return {m.name: m for m in measure(image, prediction).measurements}


@pytest.mark.parametrize("orientation", EVERY_TURN)
def test_diameters_and_ratio_are_the_same_however_the_image_is_stored(orientation):
    found = measured(chest_image(orientation), painted(orientation))
    assert found["cardiac_width"].value == pytest.approx(60 * 0.5)
    assert found["thoracic_width"].value == pytest.approx(160 * 0.5)
    assert found["cardiothoracic_ratio"].value == pytest.approx(60 / 160)
    assert found["cardiothoracic_ratio"].derived_from == ("cardiac_width", "thoracic_width")
    assert found["spine_centre_distance"].value == pytest.approx(0.5)  # spine at 101, thorax at 100
    assert found["right_lung_area"].value == pytest.approx((80 * 50 + 10 * 10) * 0.25)


@pytest.mark.parametrize("orientation", EVERY_TURN)
def test_lines_end_on_the_borders_of_the_outline_in_the_source(orientation):
    prediction = painted(orientation)
    line = measured(chest_image(orientation), prediction)["cardiac_width"].points
    box = prediction.mask("heart").region.box
    along, across = (1, 0) if orientation.transpose else (0, 1)
    assert {point[along] for point in line} == (
        {box.top, box.bottom} if orientation.transpose else {box.left, box.right}
    )
    assert line[0][across] == line[1][across]


def test_non_square_pixels_count_in_the_direction_of_the_line():
    spacing = Spacing(rows_mm=1.0, columns_mm=0.25, source=SpacingSource.PIXEL_SPACING)
    assert measured(chest_image(spacing=spacing), painted())["cardiac_width"].value == pytest.approx(60 * 0.25)
    orientation = Orientation(transpose=True)
    assert measured(chest_image(orientation, spacing), painted(orientation))["cardiac_width"].value == pytest.approx(
        60 * 1.0
    )


def test_without_spacing_lengths_are_pixels_and_the_ratio_remains():
    spacing = Spacing(rows_mm=1.0, columns_mm=1.0, source=SpacingSource.NONE)
    found = measured(chest_image(spacing=spacing), painted())
    assert found["cardiac_width"].unit == codes.PIXELS
    assert found["heart_area"].unit == codes.PIXELS
    assert found["cardiothoracic_ratio"].unit == codes.RATIO
    assert found["cardiothoracic_ratio"].value == pytest.approx(0.375)


@pytest.mark.parametrize(
    ("without", "reason"),
    [
        (("heart",), "no heart outlined"),
        (("left_lung",), "not both lungs outlined"),
        (("heart", "left_lung"), "no heart and not both lungs outlined"),
    ],
)
def test_a_missing_mask_makes_the_ratio_not_measurable_with_a_reason(without, reason):
    prediction = measure(chest_image(), painted(without=without))
    ratio = next(m for m in prediction.measurements if m.name == "cardiothoracic_ratio")
    assert ratio.value is None
    assert ratio.reason == reason
    assert prediction.statements == ()


def drawn(**boxes: tuple[int, int, int, int]) -> Prediction:
    prediction = painted()
    masks = []
    for mask in prediction.masks:
        matrix = np.zeros((ROWS, COLUMNS), bool)
        top, bottom, left, right = boxes[mask.structure.name]
        matrix[top:bottom, left:right] = True
        masks.append(replace(mask, region=Region.from_matrix(matrix)))
    return replace(prediction, masks=tuple(masks))


@pytest.mark.parametrize(
    ("rows_of_left", "width"), [((50, 110), 150), ((30, 40), 150), ((70, 110), None), ((0, 0), None)]
)
def test_the_thorax_is_as_wide_as_on_the_rows_that_both_lungs_reach(rows_of_left, width):
    lungs = {"right_lung": (20, 70, 30, 80), "left_lung": (*rows_of_left, 120, 180)}
    found = measured(chest_image(), drawn(**lungs, heart=(60, 90, 80, 140), spine=(65, 120, 90, 100)))
    thorax = found["thoracic_width"]
    assert thorax.value == (width and width / 2)
    assert "spine_centre_distance" not in found  # it begins below the widest row
    if width:
        assert thorax.points == ((30, max(20, rows_of_left[0]) + 0.5), (180, max(20, rows_of_left[0]) + 0.5))


def test_a_prediction_without_anatomy_is_left_alone():
    prediction = Prediction(model=MODEL)
    assert measure(chest_image(), prediction) is prediction


@pytest.mark.parametrize(
    ("image", "call"),
    [
        (chest_image(), Presence.ABSENT),
        (chest_image(PatientAge="045Y"), Presence.ABSENT),
        (chest_image(PatientAge="010Y"), Presence.INDETERMINATE),
        (chest_image(PatientAge="006M"), Presence.INDETERMINATE),
        (chest_image(PatientBirthDate="20150102", StudyDate="20240101"), Presence.INDETERMINATE),
        (chest_image(PatientBirthDate="19500102", StudyDate="20240101"), Presence.ABSENT),
        (chest_image(PatientAge="unknown"), Presence.ABSENT),
        (chest_image(view="AP"), Presence.INDETERMINATE),
        (chest_image(view=""), Presence.INDETERMINATE),
    ],
)
def test_the_ratio_becomes_a_statement_only_on_pa_radiographs_of_adults(image, call):
    (statement,) = measure(image, painted()).statements
    assert statement.call is call
    assert ("No call" in statement.rule) == (call is Presence.INDETERMINATE)
    assert "above 0.5" in statement.rule
    assert "Danzer" in statement.rule


@pytest.mark.parametrize(("attributes", "is_assumed"), [({}, True), ({"PatientAge": "045Y"}, False)])
def test_a_statement_says_that_it_takes_the_patient_for_an_adult(attributes, is_assumed):
    (statement,) = measure(chest_image(**attributes), painted()).statements
    assert ("taken for an adult" in statement.rule) is is_assumed


def test_a_wide_heart_is_called():
    shapes = upright_shapes()
    shapes["heart"][70:80, 60:150] = True
    wide = painted(without=("heart",))
    heart = replace(painted().mask("heart"), region=Region.from_matrix(shapes["heart"]))
    (statement,) = measure(chest_image(), replace(wide, masks=(*wide.masks, heart))).statements
    assert statement.call is Presence.PRESENT
