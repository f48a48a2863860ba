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
    Measurement,
    ModelInfo,
    Prediction,
    Presence,
    Spacing,
    SpacingSource,
    Statement,
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


def lungs(right: dict[int, tuple[int, int]], left: dict[int, tuple[int, int]]) -> Prediction:
    """Make lungs of 60 rows between columns 70 and 80, and 120 and 130; other rows reach from one column to another."""
    matrices = {"right_lung": np.zeros((ROWS, COLUMNS), bool), "left_lung": np.zeros((ROWS, COLUMNS), bool)}
    for matrix, usual, others in zip(matrices.values(), ((70, 80), (120, 130)), (right, left), strict=True):
        for row in range(20, 80):
            begin, end = others.get(row, usual)
            matrix[row, begin:end] = True
    masks = [replace(painted().mask(name), region=Region.from_matrix(matrix)) for name, matrix in matrices.items()]
    return replace(painted(), masks=tuple(masks))


@pytest.mark.parametrize(
    ("right", "left", "line"),
    [
        ({60: (20, 80)}, {60: (120, 165), 30: (120, 180)}, ((20, 60.5), (165, 60.5))),  # not where the left reaches out
        ({60: (35, 80), 30: (20, 80)}, {60: (120, 180)}, ((35, 60.5), (180, 60.5))),  # nor where the right does
        ({50: (10, 80)}, {50: (0, 0)}, ((70, 20.5), (130, 20.5))),  # a row that only the right has
        ({50: (0, 0)}, {50: (120, 190)}, ((70, 20.5), (130, 20.5))),  # and one that only the left has
    ],
)
def test_the_thorax_is_drawn_on_the_row_where_it_is_widest(right, left, line):
    assert measured(chest_image(), lungs(right, left))["thoracic_width"].points == line


OBLONG = Spacing(rows_mm=2.0, columns_mm=0.5, source=SpacingSource.CALIBRATED)
OF_NO_SIZE = Spacing(rows_mm=1.0, columns_mm=1.0, source=SpacingSource.NONE)
HEART_WIDTH = codes.private("CARDIAC_WIDTH", "Greatest transverse cardiac diameter")
THORAX_WIDTH = codes.private("THORACIC_WIDTH", "Greatest inner transverse thoracic diameter")
DANZER = "greatest transverse cardiac diameter over greatest inner transverse thoracic diameter (Danzer 1919)"


@pytest.mark.parametrize(
    ("spacing", "line_unit", "area_unit", "pixel", "square"),
    [
        (OBLONG, codes.MILLIMETRE, codes.SQUARE_MILLIMETRE, 0.5, 1.0),
        (OF_NO_SIZE, codes.PIXELS, codes.PIXELS, 1.0, 1.0),
    ],
)
def test_a_measurement_says_what_it_is_of_what_and_where(spacing, line_unit, area_unit, pixel, square):
    line = {"unit": line_unit, "method": "horizontal extent of the outline"}
    area = {"code": codes.AREA, "unit": area_unit, "method": "pixels of the outline; the box is its extent"}
    assert measure(chest_image(spacing=spacing), painted()).measurements == (
        Measurement(
            name="cardiac_width",
            code=HEART_WIDTH,
            value=60 * pixel,
            site=codes.HEART,
            points=((80, 70.5), (140, 70.5)),
            **line,
        ),
        Measurement(
            name="thoracic_width",
            code=THORAX_WIDTH,
            value=160 * pixel,
            site=codes.THORAX,
            points=((20, 90.5), (180, 90.5)),
            **line,
        ),
        Measurement(
            name="cardiothoracic_ratio",
            code=codes.private("CTR", "Cardiothoracic ratio"),
            value=0.375,
            unit=codes.RATIO,
            site=codes.THORAX,
            derived_from=("cardiac_width", "thoracic_width"),
            method=DANZER,
        ),
        Measurement(
            name="spine_centre_distance",
            code=codes.private("SPINE_CENTRE", "Distance of spine from centre of thorax"),
            value=1 * pixel,
            site=codes.SPINE,
            points=((101, 90.5), (100, 90.5)),
            **line,
        ),
        Measurement(
            name="right_lung_area",
            value=4100 * square,
            site=codes.LUNG,
            laterality=codes.RIGHT,
            points=((20, 20), (80, 20), (80, 100), (20, 100), (20, 20)),
            **area,
        ),
        Measurement(
            name="left_lung_area",
            value=4100 * square,
            site=codes.LUNG,
            laterality=codes.LEFT,
            points=((120, 20), (180, 20), (180, 100), (120, 100), (120, 20)),
            **area,
        ),
        Measurement(
            name="heart_area",
            value=(35 * 45 + 10 * 15) * square,
            site=codes.HEART,
            points=((80, 60), (140, 60), (140, 95), (80, 95), (80, 60)),
            **area,
        ),
    )


@pytest.mark.parametrize(("spacing", "unit"), [(OBLONG, codes.MILLIMETRE), (OF_NO_SIZE, codes.PIXELS)])
def test_what_cannot_be_measured_says_what_it_would_be_and_why(spacing, unit):
    found = measured(chest_image(spacing=spacing), painted(without=("heart", "left_lung")))
    for name, code, site, reason in (
        ("cardiac_width", HEART_WIDTH, codes.HEART, "no heart outlined"),
        ("thoracic_width", THORAX_WIDTH, codes.THORAX, "not both lungs outlined"),
    ):
        assert found[name] == Measurement(name=name, code=code, value=None, unit=unit, site=site, reason=reason)


@pytest.mark.parametrize(
    ("rows", "columns", "distance"),
    [
        ((0, 90), (96, 106), None),  # ends above the widest row of the thorax, which is row 90
        ((0, 91), (96, 106), 1),
        ((90, 120), (96, 106), 1),
        ((91, 120), (96, 106), None),
        ((0, 120), (90, 91), 9.5),
    ],
)
def test_the_spine_is_where_it_is_on_the_widest_row(rows, columns, distance):
    matrix = np.zeros((ROWS, COLUMNS), bool)
    matrix[slice(*rows), slice(*columns)] = True
    matrix[0, 0] = distance is None  # the box reaches further up than the spine does
    spine = replace(painted().mask("spine"), region=Region.from_matrix(matrix))
    others = painted(without=("spine",))
    found = measured(chest_image(), replace(others, masks=(*others.masks, spine)))
    assert ("spine_centre_distance" in found) is (distance is not None)
    if distance is not None:
        assert found["spine_centre_distance"].value == distance * 0.5


@pytest.mark.parametrize(("column", "ratio"), [(48, None), (49, None), (50, 60)])
def test_a_thorax_without_width_gives_no_ratio(column, ratio):
    boxes = {"right_lung": (20, 90, 50, 60), "left_lung": (20, 90, column, column + 1), "spine": (0, 0, 0, 0)}
    found = measured(chest_image(), drawn(**boxes, heart=(60, 90, 80, 140)))["cardiothoracic_ratio"]
    assert (found.value, found.reason) == (ratio, "")


def test_an_empty_heart_is_none():
    boxes = {"right_lung": (20, 90, 20, 80), "left_lung": (20, 90, 120, 180), "spine": (0, 0, 0, 0)}
    empty = drawn(**boxes, heart=(0, 0, 0, 0))
    assert measured(chest_image(), empty)["cardiac_width"].reason == "no heart outlined"


def test_what_was_measured_and_stated_before_remains():
    earlier = Measurement(name="earlier", code=codes.AREA, value=1.0, unit=codes.RATIO)
    stated = Statement(name="earlier", concept=codes.AREA, call=Presence.ABSENT, rule="none", measurement="earlier")
    prediction = measure(chest_image(), replace(painted(), measurements=(earlier,), statements=(stated,)))
    assert (prediction.measurements[0], prediction.statements[0]) == (earlier, stated)
    assert (len(prediction.measurements), len(prediction.statements)) == (8, 2)


RULE = "Cardiothoracic ratio above 0.5 on a PA radiograph of an adult (Danzer CS, Am J Med Sci 1919;157:513-521)."


@pytest.mark.parametrize(
    ("image", "more"),
    [
        (chest_image(PatientAge="018Y"), ""),
        (chest_image(), " The age is not stated: taken for an adult."),
        (chest_image(PatientAge="017Y"), " No call: the patient is no adult."),
        (chest_image(view="AP"), " No call: the view is AP, which magnifies the heart."),
        (chest_image(view=""), " No call: the view is not stated to be PA."),
    ],
)
def test_a_statement_says_its_rule_and_what_it_takes_for_granted(image, more):
    assert measure(image, painted()).statements == (
        Statement(
            name="cardiothoracic_ratio_above_limit",
            concept=codes.private("CTR_RAISED", "Cardiothoracic ratio above limit"),
            call=Presence.INDETERMINATE if "No call" in more else Presence.ABSENT,
            rule=RULE + more,
            measurement="cardiothoracic_ratio",
        ),
    )


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


def test_a_wide_heart_is_called():
    shapes = upright_shapes()
    shapes["heart"][70:80, 60:150] = True
    wide = painted(without=("heart",))
    heart = replace(painted().mask("heart"), region=Region.from_matrix(shapes["heart"]))
    (statement,) = measure(chest_image(), replace(wide, masks=(*wide.masks, heart))).statements
    assert statement.call is Presence.PRESENT
