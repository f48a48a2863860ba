"""The ratio is called only where its model's error leaves no doubt on which side of the limit it lies."""

from dataclasses import replace

import pytest

from cxr_dicom.measure import measure, withheld
from cxr_dicom.records import NumberError, Prediction, Presence
from tests.test_measure import MODEL, chest_image, drawn


def with_heart(width: int, *errors: NumberError) -> Prediction:
    """A heart so wide under a thorax of 160 columns, as a model says it with these errors."""
    boxes = {"right_lung": (20, 90, 20, 80), "left_lung": (20, 90, 120, 180), "spine": (0, 0, 0, 0)}
    return replace(drawn(**boxes, heart=(60, 90, 20, 20 + width)), model=replace(MODEL, errors=errors))


KNOWN = NumberError(measurement="cardiothoracic_ratio", bias=-0.03, spread=0.04, against="outlines of a test")


@pytest.mark.parametrize(
    ("width", "errors", "call"),
    [
        (71, (KNOWN,), Presence.ABSENT),  # 0.444: more than 0.05 below
        (73, (KNOWN,), Presence.INDETERMINATE),
        (80, (KNOWN,), Presence.INDETERMINATE),  # 0.5
        (82, (KNOWN,), Presence.INDETERMINATE),
        (87, (KNOWN,), Presence.INDETERMINATE),
        (89, (KNOWN,), Presence.PRESENT),
        (76, (replace(KNOWN, bias=0.0, spread=0.02),), Presence.ABSENT),  # a better model may say it
        (84, (replace(KNOWN, bias=0.0, spread=0.02),), Presence.PRESENT),
        (71, (replace(KNOWN, bias=0.06),), Presence.INDETERMINATE),  # and a worse one may not
        (71, (), Presence.ABSENT),
        (76, (), Presence.INDETERMINATE),  # without a stated error 0.05 is assumed
        (84, (replace(KNOWN, measurement="heart_area", spread=0.0, bias=0.0),), Presence.INDETERMINATE),
        (89, (), Presence.PRESENT),
    ],
)
def test_a_ratio_within_the_error_of_its_model_is_not_called(width, errors, call):
    (statement,) = measure(chest_image(), with_heart(width, *errors)).statements
    assert statement.call is call
    assert ("No call" in statement.rule) == (call is Presence.INDETERMINATE)


def test_the_reason_says_whose_error_it_is_and_how_large():
    (known,), (unknown,) = (measure(chest_image(), with_heart(80, *e)).statements for e in ((KNOWN,), ()))
    assert known.rule.endswith(" No call: the ratio is within 0.050 of the limit, this model's error.")
    assert unknown.rule.endswith("0.050 of the limit, what is assumed for a model that states no error.")


def test_an_error_is_said_in_words():
    assert str(KNOWN) == (
        "0.030 too small on average, standard deviation 0.040, root mean square 0.050, against outlines of a test"
    )
    assert str(replace(KNOWN, bias=0.03)).startswith("0.030 too large on average")


def test_what_was_measured_on_a_doubtful_image_is_not_called():
    called = measure(chest_image(), with_heart(89))
    other = replace(called.statements[0], name="of_another", measurement="asked elsewhere")
    kept, without = withheld(
        replace(called, statements=(other, *called.statements)), "the picture is upside down", findings=False
    ).statements
    assert kept == other
    assert without.call is Presence.INDETERMINATE
    assert without.rule == f"{called.statements[0].rule} No call: the picture is upside down."


def test_the_reason_why_there_is_no_call_stays():
    uncalled = measure(chest_image(view="AP"), with_heart(89))
    assert withheld(uncalled, "the picture is upside down", findings=True).statements == uncalled.statements
