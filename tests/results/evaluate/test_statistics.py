"""Figures of merit against scikit-learn and scipy, and intervals against their definitions."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from cxr_dicom.results.evaluate import statistics as ours


def sample(n=400, shift=1.0, ties=False, share=0.3):
    dice = np.random.default_rng(n)  # of its own: what one test draws is nothing to another
    truth = dice.random(n) < share
    scores = 1 / (1 + np.exp(-(dice.normal(size=n) + shift * truth)))
    return truth, np.round(scores, 1) if ties else scores


def alone(truth):
    return np.arange(truth.size)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("shift", [0.0, 1.0, -0.7])
def test_area_and_average_precision_are_those_of_scikit_learn(ties, shift):
    truth, scores = sample(shift=shift, ties=ties)
    assert ours.auroc(truth, scores, alone(truth)).value == pytest.approx(
        metrics.roc_auc_score(truth, scores), abs=1e-12
    )
    assert ours.average_precision(truth, scores) == pytest.approx(
        metrics.average_precision_score(truth, scores), abs=1e-12
    )
    found = ours.precision(truth, scores, alone(truth))
    assert found.low < found.value < found.high


def test_the_variance_is_that_of_delong_which_is_the_jackknife_of_scikit_learns_area():
    """Leave one out: the area is linear in each class, so its pseudo-values are the placements of DeLong."""
    truth, scores = sample(60, ties=True)
    whole = metrics.roc_auc_score(truth, scores)
    variance = 0.0
    for kind in (True, False):
        members = np.flatnonzero(truth == kind)
        rest = [metrics.roc_auc_score(np.delete(truth, i), np.delete(scores, i)) for i in members]
        pseudo = members.size * whole - (members.size - 1) * np.array(rest)
        variance += pseudo.var(ddof=1) / members.size
    found = ours.area(truth, scores, alone(truth))
    assert found.variance == pytest.approx(variance, abs=1e-12)


def test_images_of_one_patient_do_not_make_the_interval_narrow():
    truth, scores = sample(300)
    patients = alone(truth)
    one = ours.area(truth, scores, patients)
    copied = ours.area(*(np.repeat(each, 5) for each in (truth, scores, patients)))
    assert copied.value == pytest.approx(one.value, abs=1e-12)
    assert copied.variance == pytest.approx(one.variance, rel=1e-9)
    assert ours.area(np.repeat(truth, 5), np.repeat(scores, 5), np.arange(1500)).variance < one.variance / 4
    share = ours.proportion(truth, patients)
    many = ours.proportion(np.repeat(truth, 5), np.repeat(patients, 5))
    assert (many.low, many.high) == pytest.approx((share.low, share.high), abs=1e-3)


def test_few_patients_with_several_images_have_the_quantile_of_student():
    """Ten with and thirty without the finding, three images each that score alike: t of 9 degrees of freedom."""
    truth, scores = np.arange(40) < 10, sample(40)[1]
    one = ours.auroc(truth, scores, alone(truth))
    three = ours.auroc(*(np.repeat(each, 3) for each in (truth, scores, alone(truth))))
    wide, narrow = (logit(each.high) - logit(each.low) for each in (three, one))
    assert wide / narrow == pytest.approx(stats.t.ppf(0.975, 9) / stats.norm.ppf(0.975), rel=1e-12)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (3, 10), (10, 10), (1, 1), (97, 400)])
def test_a_share_has_wilsons_interval_as_scipy_has_it(hits, n):
    found = ours.proportion(np.arange(n) < hits, np.arange(n))
    wanted = stats.binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-12)


def test_the_error_of_the_average_precision_is_that_of_scipys_bootstrap_over_patients():
    """Patients have three images each that score alike; the interval is the same for one of each."""
    truth, scores = sample(200, shift=1.5, ties=True)
    blocks = np.repeat(np.arange(200), 3)
    found = ours.precision(truth[blocks], scores[blocks], blocks)
    one = ours.precision(truth, scores, alone(truth))
    assert (found.low, found.high) == pytest.approx((one.low, one.high), abs=1e-12)
    wanted = stats.bootstrap(
        (np.arange(200),),
        lambda at: metrics.average_precision_score(truth[at], scores[at]),
        vectorized=False,
        n_resamples=2000,
        rng=1,
    )
    error = (logit(found.high) - logit(found.low)) / 2 / ours.Z * found.value * (1 - found.value)
    assert error == pytest.approx(wanted.standard_error, rel=0.08)


def logit(share):
    return np.log(share / (1 - share))


def test_average_precision_gains_what_scikit_learn_says_when_an_image_weighs_more():
    truth, scores = sample(60, ties=True)
    value, step = metrics.average_precision_score(truth, scores), 1e-6
    gains = []
    for place in range(60):
        weights = np.ones(60)
        weights[place] += step
        gains.append((metrics.average_precision_score(truth, scores, sample_weight=weights) - value) / step)
    found = ours.precision(truth, scores, alone(truth))
    variance = 60 / 59 * np.square(gains).sum()
    assert (found.low, found.high) == pytest.approx(ours.logit_interval(value, variance), abs=1e-5)


def test_one_class_only_is_said_and_not_made_up():
    truth, scores = np.ones(5, bool), np.linspace(0, 1, 5)
    assert ours.auroc(truth, scores, alone(truth)).why == "all 5 images are positive"
    assert ours.auroc(~truth, scores, alone(truth)).why == "all 5 images are negative"
    assert ours.average_precision(~truth, scores) is None
    none = np.zeros(0, bool)
    assert ours.auroc(none, scores[:0], alone(none)).why == "no image to count"
    assert ours.proportion(none, alone(none)).value is None
    assert ours.precision(~truth, scores, alone(truth)).value is None
    assert ours.precision(truth, scores, alone(truth)).why == "all 5 images are positive"


def test_a_perfect_area_has_an_interval_with_width():
    truth = np.arange(40) < 12
    found = ours.auroc(truth, truth * 1.0, alone(truth))
    assert (found.value, found.high) == (1, 1)
    assert 0.7 < found.low < 0.99
    worst = ours.auroc(truth, 1.0 - truth, alone(truth))
    assert (worst.value, worst.low) == (0, 0)
    first = ours.precision(truth, truth * 1.0, alone(truth))
    assert (first.value, first.high) == (1, 1)
    assert first.low == pytest.approx(stats.binomtest(12, 12).proportion_ci(0.95, "wilson").low, abs=1e-12)
    assert worst.high == pytest.approx(1 - found.low, abs=1e-9)
    same = ours.auroc(truth, np.full(40, 0.5), alone(truth))
    assert same.value == 0.5
    assert 0.2 < same.low < 0.4 < 0.6 < same.high < 0.8
    assert same.low + same.high == pytest.approx(1, abs=1e-9)


def test_a_difference_of_parts_is_zero_with_itself_and_known_between_independent_ones():
    truth, scores = sample(500)
    first = np.arange(500) < 200
    areas = [(part, ours.area(truth[part], scores[part], np.flatnonzero(part))) for part in (first, ~first)]
    found = ours.difference(*areas, alone(truth)).estimate(0.95)
    spread = (found.high - found.low) / 2 / ours.Z
    assert spread == pytest.approx(np.sqrt(areas[0][1].variance + areas[1][1].variance), rel=0.02)
    same = ours.difference(areas[0], areas[0], alone(truth)).estimate(0.95)
    assert (same.value, same.low + same.high) == (0, 0)
    assert same.high < spread / 2


@pytest.mark.parametrize("true", [0.9, 0.98])
def test_a_small_group_that_is_all_in_order_is_not_called_different(true):
    """Of ten with and ten without, an area of 1 is no wonder: Hanley and McNeil's error there is 0.03 to 0.07."""
    dice = np.random.default_rng(0)
    sick = np.repeat([True, False, True, False], [10, 10, 60, 140])
    group = np.arange(sick.size) < 20
    called = 0
    for _ in range(200):
        scores = dice.normal(np.sqrt(2) * stats.norm.ppf(true) * sick)
        areas = [(part, ours.area(sick[part], scores[part], np.flatnonzero(part))) for part in (group, ~group)]
        found = ours.difference(*areas, alone(sick)).estimate(0.95)
        called += not found.low <= 0 <= found.high
    assert called <= 20  # 10 expected of 200; 36 to 70 where the group's own error alone is counted


def test_the_interval_of_a_difference_is_as_wide_as_both_areas_allow():
    """Zou and Donner (2008), by hand: nobody is in both parts."""
    truth, scores = sample(300, shift=2.0)
    first = np.arange(300) < 60
    areas = [(part, ours.area(truth[part], scores[part], np.flatnonzero(part))) for part in (first, ~first)]
    found = ours.difference(*areas, alone(truth)).estimate(0.95)
    (a, b), (one, other) = ((each.value for _, each in areas), (each.estimate() for _, each in areas))
    assert found.low == pytest.approx(a - b - np.hypot(a - one.low, other.high - b), abs=1e-12)
    assert found.high == pytest.approx(a - b + np.hypot(one.high - a, b - other.low), abs=1e-12)


def test_the_curve_has_the_area_of_scikit_learn():
    truth, scores = sample(150)
    x, y = zip(*ours.curve(truth, scores), strict=True)
    assert metrics.auc(x, y) == pytest.approx(metrics.roc_auc_score(truth, scores), abs=1e-12)
