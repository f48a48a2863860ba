"""How often the intervals of `evaluate` hold what is true: scores whose figures are known, 500 times.

``python -m benchmarks.replays.coverage`` prints the table of docs/how-to/evaluate.md. A 95 % interval should hold the
truth in 95 % of repeats; of 500, chance alone moves that between 93 % and 97 %.
"""

from __future__ import annotations

import sys

import numpy as np
from scipy.special import expit
from scipy.stats import norm

from cxr_dicom.results.evaluate import statistics
from cxr_dicom.results.evaluate.reliability import reliability

REPEATS = 500
PATIENTS = 200
SHIFT = 1.5  # standard deviations between images with and without the finding
SHARE = 0.25  # of patients with the finding
POINT = 1.0
AREA = float(norm.cdf(SHIFT / np.sqrt(2)))
TRUE = {
    "AUROC": AREA,
    "sensitivity": float(norm.sf(POINT - SHIFT)),
    "specificity": float(norm.cdf(POINT)),
    "difference of AUROC": 0.0,
    "difference of AUROC, a group of 10 with and 10 without": 0.0,
    "calibration error, scores right": 0.0,
    "calibration error, 1 of 100 wrong and sure": 0.01,
}
TOO_HIGH = 0.5  # on the logit scale


def images(dice: np.random.Generator, patients: int, each: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, score and patient of images: half of the variance is the patient's, so images of one are alike."""
    sick = dice.random(patients) < SHARE
    whose = np.repeat(np.arange(patients), each)
    own, shared = dice.normal(size=whose.size), dice.normal(size=patients)
    spread = (own + shared[whose]) / np.sqrt(2) if each > 1 else own
    return sick[whose], spread + SHIFT * sick[whose], whose


def probabilities(dice: np.random.Generator, patients: int, each: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth of images, scores that are its probability, and scores that are too high; images of one patient alike."""
    whose = np.repeat(np.arange(patients), each)
    own, shared = dice.normal(size=whose.size), dice.normal(size=patients)
    spread = (own + shared[whose]) / np.sqrt(2) if each > 1 else own
    logit = 1.2 * spread - 1.5
    return dice.random(patients)[whose] < expit(logit), expit(logit), expit(logit + TOO_HIGH)


def small_group(dice: np.random.Generator, each: int) -> statistics.Estimate:
    """Difference of the area in a small group and in the rest; both are 0.95, so that a small group may have 1."""
    groups = ((True, True, 10), (True, False, 10), (False, True, 60), (False, False, 140))
    chosen, sick = (np.repeat([group[at] for group in groups], [group[2] for group in groups]) for at in (0, 1))
    whose = np.repeat(np.arange(sick.size), each)
    own, shared = dice.normal(size=whose.size), dice.normal(size=sick.size)
    spread = (own + shared[whose]) / np.sqrt(2) if each > 1 else own
    scores = spread + np.sqrt(2) * norm.ppf(0.95) * sick[whose]
    parts = [chosen[whose], ~chosen[whose]]
    areas = [(part, statistics.area(sick[whose][part], scores[part], whose[part])) for part in parts]
    return statistics.difference(*areas, whose).estimate(0.95)


def sure(dice: np.random.Generator, patients: int, each: int) -> statistics.Estimate:
    """Calibration error of scores that are 0 or 1."""
    scores = np.repeat(dice.random(patients) < SHARE, each)
    wrong = np.repeat(dice.random(patients) < TRUE["calibration error, 1 of 100 wrong and sure"], each)
    return reliability(scores ^ wrong, scores.astype(float), np.repeat(np.arange(patients), each)).error


def calibration_error() -> float:
    """Expected calibration error of infinitely many images whose scores are too high, from one large sample."""
    truth, _, scores = probabilities(np.random.default_rng(1), 2_000_000, 1)
    value = reliability(truth, scores, np.arange(truth.size)).error.value
    assert value is not None
    return value


def precision() -> float:
    """Average precision of infinitely many images, from one large sample."""
    truth, scores, _ = images(np.random.default_rng(1), 2_000_000, 1)
    value = statistics.average_precision(truth, scores)
    assert value is not None
    return value


def intervals(dice: np.random.Generator, each: int) -> dict[str, statistics.Estimate]:
    """One sample's estimates."""
    truth, scores, whose = images(dice, PATIENTS, each)
    half = whose % 2 == 0
    parts = [(half, truth[half], scores[half], whose[half]), (~half, truth[~half], scores[~half], whose[~half])]
    areas = [(flags, statistics.area(y, s, w)) for flags, y, s, w in parts]
    sick, likely, likelier = probabilities(dice, PATIENTS, each)
    further = dice.spawn(1)[0]
    return {
        "AUROC": statistics.auroc(truth, scores, whose),
        "average precision": statistics.precision(truth, scores, whose),
        "sensitivity": statistics.proportion(scores[truth] >= POINT, whose[truth]),
        "specificity": statistics.proportion(scores[~truth] < POINT, whose[~truth]),
        "difference of AUROC": statistics.difference(*areas, whose).estimate(0.95),
        "difference of AUROC, a group of 10 with and 10 without": small_group(further, each),
        "calibration error, scores too high": reliability(sick, likelier, whose).error,
        "calibration error, scores right": reliability(sick, likely, whose).error,
        "calibration error, 1 of 100 wrong and sure": sure(further, PATIENTS, each),
    }


def main() -> None:
    """Print the table."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else REPEATS
    true = TRUE | {"average precision": precision(), "calibration error, scores too high": calibration_error()}
    print("| figure | true value | one image each | three images each |")
    print("|---|---|---|---|")
    held: dict[str, list[float]] = {}
    for each in (1, 3):
        dice = np.random.default_rng(each)
        found = [intervals(dice, each) for _ in range(repeats)]
        for name in found[0]:
            inside = [one[name].low <= true[name] <= one[name].high for one in found]  # type: ignore[operator]
            held.setdefault(name, []).append(float(np.mean(inside)))
    for name, (alone, many) in held.items():
        print(f"| {name} | {true[name]:.3f} | {alone:.1%} | {many:.1%} |")


if __name__ == "__main__":
    main()
