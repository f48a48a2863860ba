"""What is asked of a prediction, and of what is known of its model."""

from dataclasses import replace

import numpy as np
import pytest

from cxr_dicom import synthetic
from cxr_dicom.encode.identity import digest
from cxr_dicom.records import Prediction
from cxr_dicom.records.prediction import NumberError
from tests import painted

OFF = NumberError(measurement="cardiothoracic_ratio", bias=0.03, spread=0.04, against="40 radiographs")


@pytest.fixture
def prediction(selected):
    return painted.anatomy(selected(synthetic.radiograph(96, 80)))


def test_a_structure_is_found_by_its_whole_name(prediction):
    assert prediction.mask("heart") is prediction.masks[2]
    assert prediction.mask("lung") is None


def test_a_prediction_is_itself_only_for_digests_are_kept_by_it(prediction):
    assert {prediction: "its own"}.get(replace(prediction)) is None


def test_bias_and_spread_are_one_number_as_numpy_has_it():
    differences = np.random.default_rng(1).normal(-0.02, 0.05, 1000)
    off = replace(OFF, bias=differences.mean(), spread=differences.std())
    assert off.root_mean_square == pytest.approx(np.sqrt(np.mean(differences**2)))


@pytest.mark.parametrize(
    ("bias", "said"), [(0.03, "0.030 too large"), (-0.03, "0.030 too small"), (0.0004, "0.000 too large")]
)
def test_an_error_says_which_way_the_model_is_off(bias, said):
    assert str(replace(OFF, bias=bias)).startswith(f"{said} on average")


def test_an_error_is_that_of_the_number_that_was_asked_for():
    other = replace(OFF, measurement="heart_area")
    model = replace(painted.model("one"), errors=(other, OFF))
    assert (model.error_of("cardiothoracic_ratio"), model.error_of("heart_area")) == (OFF, other)
    assert model.error_of("heart") is model.error_of("heart_area_of_all") is None
    assert painted.model("one").error_of("heart_area") is None


@pytest.mark.parametrize(
    "learned", [{"errors": (OFF,)}, {"trained_on": "Both"}, {"operating_points": "Us"}, {"failures": ("Two",)}]
)
def test_what_was_learned_of_a_model_later_makes_no_other_object(learned):
    model = painted.model("one")
    assert digest(Prediction(model=replace(model, **learned))) == digest(Prediction(model=model))
    assert digest(Prediction(model=replace(model, weights_sha256="ff" * 32))) != digest(Prediction(model=model))
