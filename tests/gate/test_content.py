"""Eligibility by content: what is no frontal chest, how a picture is stored, and a lateral view that nobody told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from cxr_dicom.dicom import codes
from cxr_dicom.gate import shape
from cxr_dicom.gate.content import doubt, lateral_by_content, likeliest, looked
from cxr_dicom.records import (
    WAYS,
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

ROWS, COLUMNS = 100, 200


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


RIGHT, LEFT, HEART = (10, 90, 20, 80), (12, 88, 120, 180), (50, 85, 85, 125)  # top, bottom, left, right: a chest
PLAIN = 5.0  # a logit of the network that sees the whole picture


def outlined(right=RIGHT, left=LEFT, heart=HEART, undecided=0.2, predicts=("right_lung", "left_lung", "heart")):
    """What a model says that draws boxes; None where it finds nothing."""
    masks = []
    for name, box in zip(("right_lung", "left_lung", "heart"), (right, left, heart), strict=True):
        if box is None:
            continue
        matrix = np.zeros((ROWS, COLUMNS), bool)
        matrix[box[0] : box[1], box[2] : box[3]] = True
        structure = Structure(
            name=name, title=name, category=codes.ORGAN, type=codes.LUNG, laterality=None, colour=(1, 2, 3)
        )
        masks.append(Mask(structure=structure, region=Region.from_matrix(matrix)))
    return Prediction(model=model(*predicts), masks=tuple(masks), undecided=undecided)


def test_an_image_is_plausible_when_one_model_found_a_chest():
    both, right = outlined(), outlined(left=None)
    assert doubt(chest_image(), [both], PLAIN) == ""
    assert doubt(chest_image(), [right, both], PLAIN) == ""
    assert doubt(chest_image(), [right], PLAIN) == "left lung covers 0.0% of the image, expected 1% to 50%"


@pytest.mark.parametrize(
    ("right", "problem"),
    [
        ((10, 19, 20, 42), "right lung covers 1.0% of the image, expected 1% to 50%"),
        ((0, 100, 0, 101), "right lung covers 50.5% of the image, expected 1% to 50%"),
    ],
)
def test_a_lung_covers_one_to_fifty_percent_of_the_image(right, problem):
    assert doubt(chest_image(), [outlined(right)], PLAIN) == problem


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"right": LEFT, "left": RIGHT}, "gap -"),  # on each other's side
        ({"right": (0, 20, 20, 80), "left": (60, 100, 120, 180)}, "the lungs share no row"),
        ({"right": (10, 90, 20, 80), "left": (75, 90, 120, 180)}, "height ratio"),
        ({"heart": (50, 85, 0, 15)}, "heart across"),
        ({"undecided": 1.7}, "uncertain (1.7 doubtful pixels for each outlined one)"),
    ],
)
def test_one_witness_refuses_what_no_chest_can_be(changes, text):
    assert text in doubt(chest_image(), [outlined(**changes)], PLAIN)


@pytest.mark.parametrize(
    ("changes", "seen", "refused"),
    [
        ({}, 0.4, False),  # one that finds it odd
        ({}, -1.6, True),  # and one that is sure
        ({"undecided": 0.9}, PLAIN, False),
        ({"undecided": 0.9}, 0.4, True),  # two
        ({"heart": None}, PLAIN, False),
        ({"heart": None, "undecided": 0.9}, PLAIN, True),
        ({"undecided": None}, 0.4, False),  # a model that does not tell
    ],
)
def test_two_witnesses_refuse_what_one_finds_odd(changes, seen, refused):
    assert bool(doubt(chest_image(), [outlined(**changes)], seen)) == refused


def test_the_shapes_of_chests_hold_for_the_model_that_they_were_measured_on():
    boxes = outlined(heart=(30, 60, 85, 125))
    ours = replace(boxes, model=replace(boxes.model, name="offline-anatomy"))
    assert doubt(chest_image(), [boxes], PLAIN) == ""
    assert "no shape of a chest (distance" in doubt(chest_image(), [ours], PLAIN)


def test_shape_and_place_are_the_same_at_every_size():
    small, large = (
        shape.numbers(*(prediction.mask(name).region for name in ("right_lung", "left_lung", "heart")))
        for prediction in (outlined(), outlined())
    )
    assert small == large
    fourfold = [
        Region.from_matrix(np.kron(outlined().mask(name).region.matrix(), np.ones((8, 8), bool)))
        for name in ("right_lung", "left_lung", "heart")
    ]
    assert shape.numbers(*fourfold) == pytest.approx(small, abs=0.01)
    assert small["gap"] == 40 / 160
    assert small["overlap"] == 1
    assert small["heart_width"] == 40 / 160
    assert small["heart_across"] == pytest.approx((104.5 - 100) / 160)


def scores(**logits):
    """Every way is unlikely but those named by their words."""
    return {way: logits.get("_".join(way.words) or "as_declared", -5.0) for way in WAYS}


@pytest.mark.parametrize(
    ("logits", "words"),
    [
        ({"as_declared": 4.0}, None),
        ({"turned_90": 4.0}, ("turned_90",)),
        ({"turned_270": 4.0, "as_declared": 2.0}, ("turned_270",)),
        ({"turned_90": 0.9}, None),  # not likely
        ({"turned_90": 4.0, "turned_180": 3.5}, None),  # not clear
        ({"inverted": 4.0}, ("inverted",)),
        ({"mirrored": 4.0, "as_declared": 0.5}, ("mirrored",)),
        ({"mirrored": 4.0, "as_declared": 1.5}, None),  # a mirror must be clear
        ({"mirrored_turned_90": 4.0, "turned_90": 2.0}, ("turned_90",)),  # the head is, whatever the sides are
        ({"mirrored_turned_90": 4.0}, ("mirrored", "turned_90")),
        ({"mirrored_turned_180_inverted": 4.0}, ("mirrored", "turned_180", "inverted")),
    ],
)
def test_a_way_round_is_named_where_it_is_clear(logits, words):
    way = likeliest(scores(**logits))
    assert (way.words if way else None) == words


@pytest.mark.parametrize("predicts", [(), ("heart",), ("right_lung",)])
def test_a_model_that_does_not_look_for_both_lungs_says_nothing_against_the_image(predicts):
    assert doubt(chest_image(), [Prediction(model=model(*predicts))], -9.0) == ""
    assert not looked([Prediction(model=model(*predicts))])


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
