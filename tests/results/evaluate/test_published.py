"""Figures that others published of data that they printed."""

import numpy as np
import pytest

from cxr_dicom.results.compare import differences
from cxr_dicom.results.evaluate import statistics as ours
from cxr_dicom.results.evaluate.anatomy import mean


def test_the_area_and_delongs_error_of_the_ct_readings_of_hanley_and_mcneil():
    """Radiology 1982;143:29-36, table 1; area 0.8932, error 0.0307 of DeLong by Stata's ``roctab`` (its manual)."""
    normal, abnormal = (33, 6, 6, 11, 2), (3, 2, 2, 11, 33)
    ratings = np.repeat(np.tile(np.arange(5.0), 2), normal + abnormal)
    truth = np.arange(109) >= 58
    found = ours.area(truth, ratings, np.arange(109))
    assert found.value == pytest.approx(0.8932, abs=5e-5)
    assert np.sqrt(found.variance) == pytest.approx(0.0307, abs=5e-5)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_of_newcombe(hits, n, low, high):
    """Stat Med 1998;17:857-872, table I, method 3."""
    found = ours.proportion(np.arange(n) < hits, np.arange(n))
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_the_two_flow_meters_of_bland_and_altman():
    """Lancet 1986;327:307-310: mean difference -2.1 l/min, interval -22.0 to 17.8, standard deviation 38.8."""
    large = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
    small = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]
    change = differences(np.array(small, float), np.array(large, float))
    assert change.sd == pytest.approx(38.8, abs=0.05)
    assert change.limits_of_agreement == pytest.approx((-2.1 - 1.96 * 38.8, -2.1 + 1.96 * 38.8), abs=0.1)
    found = mean(np.subtract(large, small).astype(float), np.arange(17))
    assert (found.value, found.low, found.high) == pytest.approx((-2.1, -22.0, 17.8), abs=0.1)
