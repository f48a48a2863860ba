"""The reliability diagram against scikit-learn, and the interval of the calibration error."""

import numpy as np
import pytest
from sklearn import metrics
from sklearn.calibration import calibration_curve

from cxr_dicom.results.evaluate import reliability as ours
from cxr_dicom.results.evaluate.statistics import Z
from tests.results.evaluate.test_statistics import alone, sample


def test_the_reliability_diagram_is_that_of_scikit_learn():
    truth, scores = sample()
    found = ours.reliability(truth, scores, alone(truth))
    observed, predicted = calibration_curve(truth, scores, n_bins=10)
    assert [each.observed.value for each in found.bins] == pytest.approx(observed.tolist(), abs=1e-12)
    assert [each.score for each in found.bins] == pytest.approx(predicted.tolist(), abs=1e-12)
    assert found.brier == pytest.approx(metrics.brier_score_loss(truth, scores), abs=1e-12)
    counts = np.array([each.n for each in found.bins])
    assert found.error.value == pytest.approx(np.abs(observed - predicted) @ counts / counts.sum(), abs=1e-12)


def test_what_chance_alone_would_give_is_no_calibration_error():
    """Scores that are right have an error above 0, and an interval from 0 on; those that are wrong have not."""
    dice = np.random.default_rng(5)
    scores = dice.beta(1, 3, 600)
    right = ours.reliability(dice.random(600) < scores, scores, np.arange(600)).error
    assert right.value > 0.02
    assert right.low == 0
    wrong = ours.reliability(dice.random(600) < scores / 2, scores, np.arange(600)).error
    assert 0 < wrong.low < wrong.value < wrong.high
    truth = dice.random(600) < scores / 2
    one = ours.reliability(truth, scores, np.arange(600)).error
    many = ours.reliability(*(np.repeat(each, 4) for each in (truth, scores, np.arange(600)))).error
    assert (many.low, many.high) == pytest.approx((one.low, one.high), abs=1e-9)
    assert ours.reliability(truth, scores, np.zeros(600, int)).error.why == "an interval needs two patients"


def test_a_calibration_error_of_nothing_has_an_upper_limit():
    """All score 0.5, and half have the finding: right on average, and known only so well."""
    truth = np.arange(100) % 2 == 0
    found = ours.reliability(truth, np.full(100, 0.5), alone(truth)).error
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(Z * np.sqrt(0.25 / 99), rel=1e-6)


def test_of_no_image_nothing_is_said():
    none = np.zeros(0, bool)
    assert ours.reliability(none, np.zeros(0), alone(none)).error.value is None


def test_scores_of_0_and_1_that_are_all_right_are_known_only_so_well():
    """What 200 images do not show may still be: 3 of 200, by the rule of three (Hanley and Lippman-Hand 1983)."""
    truth = np.arange(200) % 2 == 0
    found = ours.reliability(truth, truth.astype(float), alone(truth)).error
    assert (found.value, found.low) == (0, 0)
    assert 0.01 < found.high < 0.03
    alike = ours.reliability(np.ones(200, bool), np.full(200, 0.3), alone(truth)).error
    assert alike.value == pytest.approx(0.7)
    assert alike.low < 0.7 < alike.high


def test_the_interval_holds_the_error_of_scores_that_are_sure_and_seldom_wrong():
    dice = np.random.default_rng(3)
    held = 0
    for _ in range(200):
        scores = dice.random(200) < 0.4
        truth = scores ^ (dice.random(200) < 0.01)
        found = ours.reliability(truth, scores.astype(float), alone(truth)).error
        held += found.low <= 0.01 <= found.high
    assert held >= 186  # 95 % expected; 83 % where images that are all alike have no error
