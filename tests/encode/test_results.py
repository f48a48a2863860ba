"""Which objects an image gets, and what stands in each: decided once, for those that write and those that cite."""

from dataclasses import replace

import numpy as np
import pytest
from pydicom.uid import EnhancedSRStorage, ParametricMapStorage

from cxr_dicom.dicom import codes
from cxr_dicom.encode.numbers import is_line, is_of_structure, structure_numbers
from cxr_dicom.encode.results import (
    mapped,
    pictured,
    presented,
    results,
    shown,
    structure_predictions,
)
from cxr_dicom.records import Code, Mask, Measurement, Prediction, Presence
from cxr_dicom.records.plane import Region
from tests import painted

LINE = ((1.0, 2.0), (30.0, 2.0))


def number(name, value=1.0, unit=codes.RATIO, code="AREA", points=()):
    code = Code(value=code, scheme="99TEST", meaning=code.capitalize())
    return Measurement(name=name, code=code, value=value, unit=unit, points=points, reason="no lungs")


@pytest.fixture
def mask(image):
    def make(name, is_empty=False):
        inside = np.zeros(image.shape, bool)
        inside[10:20, 10:20] = not is_empty
        return Mask(structure=painted.structure(name), region=Region.from_matrix(inside))

    return make


def predicted(name="one", **parts):
    return Prediction(model=painted.model(name), **{part: tuple(each) for part, each in parts.items()})


def names(numbers):
    return {mask.structure.name: [each.name for each in of_it] for mask, of_it in numbers.items()}


# --- numbers of structures -----------------------------------------------------------------------


def test_a_number_is_of_the_structure_with_the_longest_name_that_its_own_begins_with(image, mask):
    prediction = predicted(
        masks=[mask("lung"), mask("lung_zone")],
        measurements=[number("lung_area"), number("lung_zone_area"), number("lungs_area"), number("area_of_lung_area")],
    )
    analysis = painted.analysis(image, (prediction,))
    assert names(structure_numbers(analysis, prediction)) == {"lung": ["lung_area"], "lung_zone": ["lung_zone_area"]}
    assert [is_of_structure(each, prediction, analysis) for each in prediction.measurements] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize(
    "measurement",
    [number("heart_width", points=LINE), number("heart_area", value=None), number("spine_area")],
    ids=["a line", "not measurable", "not outlined"],
)
def test_what_is_no_number_of_an_outlined_structure_is_left_out(image, mask, measurement):
    prediction = predicted(masks=[mask("heart"), mask("spine", is_empty=True)], measurements=[measurement])
    analysis = painted.analysis(image, (prediction,))
    assert structure_numbers(analysis, prediction) == {}
    assert not is_of_structure(measurement, prediction, analysis)


def test_a_number_is_of_the_outline_of_its_own_model_and_else_of_the_first(image, mask):
    first, second = (predicted(name, masks=[mask("heart")], measurements=[number("heart_area")]) for name in "ab")
    third = predicted("c", measurements=[number("heart_density", code="DENSITY")])
    analysis = painted.analysis(image, (first, second, third))
    assert list(structure_numbers(analysis, first).values()) == [[*first.measurements, *third.measurements]]
    assert list(structure_numbers(analysis, second).values()) == [list(second.measurements)]
    assert structure_predictions(analysis, first) == [first, third]
    assert structure_predictions(analysis, second) == [second]


def test_the_structure_with_most_numbers_comes_first_and_gives_all_their_order(image, mask):
    prediction = predicted(
        masks=[mask("left_lung"), mask("right_lung"), mask("heart")],
        measurements=[
            number("left_lung_density", code="DENSITY"),
            number("left_lung_area"),
            number("right_lung_area"),
            number("right_lung_height", code="HEIGHT"),
            number("right_lung_density", code="DENSITY"),
        ],
    )
    found = names(structure_numbers(painted.analysis(image, (prediction,)), prediction))
    assert list(found.items()) == [
        ("right_lung", ["right_lung_area", "right_lung_height", "right_lung_density"]),
        ("left_lung", ["left_lung_area", "left_lung_density"]),
    ]


# --- maps ----------------------------------------------------------------------------------------


@pytest.fixture
def with_maps(image):
    """A model with a map of each finding that has this probability, and of what is none."""

    def make(model, **probabilities):
        score = painted.finding("x", Presence.PRESENT)
        return predicted(
            model,
            findings=[replace(score, name=name, probability=value) for name, value in probabilities.items() if value],
            heatmaps=[replace(painted.heatmap(image), name=name) for name in probabilities],
        )

    return make


def mapped_names(image, *predictions, **encode):
    found = mapped(painted.analysis(image, predictions), painted.settings(**encode))
    return [(prediction.model.name, heatmap.name) for prediction, heatmap in found]


def test_of_all_models_only_the_highest_score_has_its_map_beside_those_of_no_finding(image, with_maps):
    models = with_maps("one", mass=0.7, opacity=None), with_maps("two", mass=0.9, edema=0.8)
    assert mapped_names(image, *models) == [("one", "opacity"), ("two", "mass")]
    assert len(mapped_names(image, *models, maps="all")) == 4


def test_the_first_of_equal_scores_has_its_map(image, with_maps):
    assert mapped_names(image, with_maps("one", mass=0.5, edema=0.5), with_maps("two", mass=0.5)) == [("one", "mass")]


def test_a_score_without_a_map_takes_none_from_another(image, with_maps):
    unmapped = replace(with_maps("two", hernia=0.99), heatmaps=())
    assert mapped_names(image, with_maps("one", mass=0.1), unmapped) == [("one", "mass")]


# --- what is drawn -------------------------------------------------------------------------------


def test_a_line_is_a_value_between_two_points():
    assert is_line(number("width", points=LINE))
    assert not is_line(number("width", value=None, points=LINE))
    assert not is_line(number("area", points=(*LINE, (3.0, 9.0))))
    assert not is_line(number("ratio"))


def test_what_has_nothing_to_draw_or_to_call_is_not_presented(image, mask):
    drawn = [
        predicted(findings=[painted.finding("mass", Presence.ABSENT)]),
        predicted(masks=[mask("spine", is_empty=True), mask("heart")]),
        predicted(measurements=[number("ratio"), number("width", points=LINE)]),
    ]
    not_drawn = [
        predicted(masks=[mask("spine", is_empty=True)]),
        predicted(measurements=[number("ratio"), number("width", value=None, points=LINE)]),
        predicted(heatmaps=[painted.heatmap(image)]),
    ]
    assert presented(painted.analysis(image, (*drawn, *not_drawn))) == drawn


def test_the_picture_of_the_anatomy_comes_before_those_of_the_maps(image, mask):
    analysis = painted.analysis(image, ())
    maps = [painted.heatmap(image)]
    assert pictured(analysis, predicted(masks=[mask("heart")], heatmaps=maps)) == ["anatomy", "pleural_effusion"]
    assert pictured(analysis, predicted(heatmaps=maps)) == ["pleural_effusion"]


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (17_549.0, "mm2", "175.5 cm2"),
        (0.4567, "{ratio}", "0.46"),
        (0.4567, "1", "0.46"),
        (123.6, "mm", "124 mm"),
        (123.4, "{pixels}", "123 pixels"),
        (None, "mm", "not measurable: no lungs"),
        (0.0, "mm", "0 mm"),
    ],
)
def test_a_number_is_shown_as_people_write_it(value, unit, said):
    assert shown(number("x", value=value, unit=Code(value=unit, scheme="UCUM", meaning=unit))) == said


# --- all of an image -----------------------------------------------------------------------------


def test_objects_come_in_the_order_of_the_settings_and_those_on_the_study_and_of_others_not_at_all(image):
    analysis = painted.analysis(image)
    settings = painted.settings(objects=("key-objects", "parametric-map", "sr"))
    kinds = [reference.sop_class_uid for reference in results(painted.study(analysis), settings)]
    assert kinds == [ParametricMapStorage, EnhancedSRStorage, EnhancedSRStorage]


def test_an_image_with_nothing_to_say_gets_no_object(image):
    analysis = painted.analysis(image, (predicted(measurements=[number("ratio")]),))
    assert list(results(painted.study(analysis), painted.settings())) == []
