"""Operating points and calibration: against scikit-learn, for what was asked, and refused where too few patients."""

import tomllib

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from cxr_dicom.config import operating_points
from cxr_dicom.errors import CxrDicomError, SettingsError
from cxr_dicom.results.calibrate import Aim, calibrate, file, folds, threshold
from cxr_dicom.results.calibrate.curves import calibrated, fitted
from cxr_dicom.results.evaluate import Reading
from tests.results.evaluate.conftest import row

DICE = np.random.default_rng(3)
WEIGHTS = {"name": "one", "version": "1", "weights_sha256": "ab" * 32}


def sample(n=500, ties=False):
    truth = DICE.random(n) < 0.3
    scores = 1 / (1 + np.exp(-(DICE.normal(size=n) * 0.8 + 1.2 * truth - 2)))
    return truth, np.round(scores, 2) + 0.001 if ties else scores


@pytest.mark.parametrize("ties", [False, True])
def test_platt_is_the_logistic_regression_of_scikit_learn_on_his_targets(ties):
    truth, scores = sample(ties=ties)
    curve = fitted(truth, scores, "platt")
    x = np.log(scores / (1 - scores))[:, None]
    positives, negatives = truth.sum(), (~truth).sum()
    targets = np.where(truth, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    theirs = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-14, max_iter=1000).fit(
        np.vstack([x, x]), np.repeat([1, 0], truth.size), sample_weight=np.concatenate([targets, 1 - targets])
    )
    assert (curve.slope, curve.intercept) == pytest.approx((theirs.coef_[0, 0], theirs.intercept_[0]), abs=1e-8)
    assert calibrated(scores, curve) == pytest.approx(theirs.predict_proba(x)[:, 1], abs=1e-9)


@pytest.mark.parametrize("ties", [False, True])
def test_isotonic_is_that_of_scikit_learn(ties):
    truth, scores = sample(ties=ties)
    curve = fitted(truth, scores, "isotonic")
    theirs = IsotonicRegression(out_of_bounds="clip").fit(scores, truth)
    asked = np.linspace(0, 1, 400)
    assert calibrated(asked, curve) == pytest.approx(theirs.predict(asked), abs=1e-12)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("text", ["sensitivity=0.9", "specificity=0.85", "ppv=0.5", "youden"])
def test_a_threshold_is_the_best_of_all_that_scikit_learn_lists(ties, text):
    truth, scores = sample(ties=ties)
    kind, _, value = text.partition("=")
    point = threshold(truth, scores, Aim(kind=kind, value=float(value) if value else None))
    called = scores >= point
    sensitivity, specificity = called[truth].mean(), (~called[~truth]).mean()
    false_positive, true_positive, _ = roc_curve(truth, scores, drop_intermediate=False)
    if kind == "youden":
        assert sensitivity + specificity - 1 == pytest.approx((true_positive - false_positive).max(), abs=1e-12)
    elif kind == "sensitivity":
        assert 1 - specificity == pytest.approx(false_positive[true_positive >= 0.9].min(), abs=1e-12)
    elif kind == "specificity":
        assert sensitivity == pytest.approx(true_positive[false_positive <= 0.15 + 1e-12].max(), abs=1e-12)
    else:
        assert truth[called].mean() >= 0.5
        assert truth[scores >= np.unique(scores)[np.unique(scores) < point].max()].mean() < 0.5


def test_no_patient_is_in_two_folds_and_the_sick_are_spread():
    patients = DICE.integers(0, 60, 300)
    truth = np.isin(patients, np.arange(20))
    parts = list(folds(truth, patients))
    assert np.sum(parts, axis=0).tolist() == [1] * 300
    inside = [set(patients[part]) for part in parts]
    assert sum(map(len, inside)) == len(set(patients))
    assert {len(each & set(range(20))) for each in inside} <= {3, 4, 5}


@pytest.fixture
def site(run, table):
    """A run whose weights are known, its truth, and what is made of both."""

    def make(n=600, aims=None, seed=1, **options):
        dice = np.random.default_rng(seed)
        truth = dice.random(n) < 0.3
        scores = 1 / (1 + np.exp(-(dice.normal(size=n) * 0.8 + 1.2 * truth - 2)))
        out = run(row(i, {"mass": float(score)}) | {"models": [WEIGHTS]} for i, score in enumerate(scores))
        path = table(("sop_instance_uid", "mass"), [(f"1.2.3.{i}", int(each)) for i, each in enumerate(truth)])
        return calibrate(out, path, Reading(), aims=aims or {}, **options)

    return make


def test_the_file_says_where_it_comes_from_and_is_read_back(site, tmp_path):
    made = site(aims={None: Aim(kind="sensitivity", value=0.9)}, method="isotonic")
    file.write(tmp_path / "site.toml", made.points)
    again = operating_points.read(tmp_path / "site.toml")
    assert again == made.points
    (model,) = again.models
    assert (model.name, model.version, model.weights_sha256) == ("one", "1", "ab" * 32)
    point = model.findings["mass"]
    assert point.upstream == 0.5
    assert point.aim == "sensitivity=0.9"
    assert 0.8 < point.sensitivity[0] < 0.97
    assert point.calibration_error[1] < point.calibration_error[0]
    assert tomllib.loads((tmp_path / "site.toml").read_text())["patients"] == 600


def test_sensitivity_of_other_patients_is_what_was_asked_for(site):
    """On average over many sites: what is chosen on some patients holds on others."""
    found = [site(600, {None: Aim(kind="sensitivity", value=0.85)}, seed, method="none") for seed in range(12)]
    held = [each.points.models[0].findings["mass"].sensitivity for each in found]
    assert np.mean([value for value, _, _ in held]) == pytest.approx(0.85, abs=0.02)
    assert all(low <= 0.85 <= high for _, low, high in held)


def test_too_small_a_sample_is_refused_with_the_number_that_is_needed(site):
    made = site(60, {None: Aim(kind="sensitivity", value=0.9)})
    assert made.points is None
    assert "35 and 30 are needed for sensitivity=0.9" in made.refused[0].why
    assert "100 and 100 are needed for youden with isotonic" in site(200, method="isotonic").refused[0].why
    assert site(600, {None: Aim(kind="ppv", value=0.999)}).refused[0].why.startswith("no operating point reaches")
    assert site(60, findings=["hernia"]).refused[0].why == "the results have no scores of it"


def test_a_run_of_several_weights_is_refused(run, table):
    rows = [row(n, {"mass": 0.5}) | {"models": [WEIGHTS | {"weights_sha256": f"{n}b" * 32}]} for n in (1, 2)]
    path = table(("sop_instance_uid", "mass"), [("1.2.3.1", 1), ("1.2.3.2", 0)])
    with pytest.raises(CxrDicomError, match="expected one version and weights of one"):
        calibrate(run(rows), path, Reading(), aims={})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"format = 2", "format"),
        (b"format = 1\nmade = 'x'", "not operating points"),
        (b"\xff", "expected TOML"),
        (b"[", "expected TOML"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, content, message):
    path = tmp_path / "site.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=message):
        operating_points.read(path)


def test_scores_that_do_not_rise_with_the_finding_get_no_operating_point(run, table):
    """All alike, or the wrong way round: a curve that falls would turn every probability over."""
    path = table(("sop_instance_uid", "mass"), [(f"1.2.3.{n}", n % 2) for n in range(120)])
    for scores in ([0.5] * 120, [0.3 + 0.4 * (n % 2 == 0) + n / 1000 for n in range(120)]):
        out = run(row(n, {"mass": score}) | {"models": [WEIGHTS]} for n, score in enumerate(scores))
        made = calibrate(out, path, Reading(), aims={})
        assert made.points is None
        assert "do not score higher" in made.refused[0].why


def test_scores_of_0_and_1_count(run, table):
    """A network's sigmoid in float32 is 1 from a logit of 17 on."""
    scores = [min(1.0, max(0.0, (n % 2) * 0.8 + (n * 37 % 60) / 100 - 0.2)) for n in range(200)]
    out = run(row(n, {"mass": score}) | {"models": [WEIGHTS]} for n, score in enumerate(scores))
    path = table(("sop_instance_uid", "mass"), [(f"1.2.3.{n}", n % 2) for n in range(200)])
    (model,) = calibrate(out, path, Reading(), aims={None: Aim(kind="sensitivity", value=0.95)}).points.models
    point = model.findings["mass"]
    assert (point.patients_with, point.patients_without) == (100, 100)
    assert 0 < point.operating_point < 1
    assert threshold(np.array([True, False] * 10), np.zeros(20), Aim(kind="sensitivity", value=0.9)) is None
