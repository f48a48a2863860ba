"""A year of images that never were, watched day by day: what `monitor` finds, how soon, and how often it is wrong.

``python -m benchmarks.replays.drift`` prints the table of docs/how-to/monitor.md. About 20,000 images a year, fewer at
weekends, from two senders; in each scenario one thing changes on one day.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np

from cxr_dicom.results.monitor import REFERENCE_DAYS, replay
from cxr_dicom.store.ledger import Observation

BEGIN = datetime(2025, 1, 6, tzinfo=UTC)  # a Monday
A_DAY = (66, 66, 66, 66, 66, 24, 20)  # images, Monday to Sunday: 19,500 a year
MODEL = ("xrv-densenet121-all", "1", "ab" * 32)
FINDINGS = {
    "atelectasis": (1.5, 6.0),
    "cardiomegaly": (1.2, 9.0),
    "pleural_effusion": (0.8, 6.0),
    "lung_opacity": (2.0, 5.0),
    "pneumothorax": (0.6, 12.0),
}
POINT = 0.3

Turn = Callable[[Observation, np.random.Generator], Observation | None]  # None: the image never came


def stream(days: int, seed: int, change_at: int | None = None, turn: Turn | None = None) -> Iterator[Observation]:
    """Yield images of so many days; from day ``change_at`` on each goes through ``turn``."""
    dice = np.random.default_rng(seed)
    number = 0
    for day in range(days):
        for _ in range(dice.poisson(A_DAY[day % 7])):
            number += 1
            made = _image(dice, BEGIN + timedelta(days=day, hours=float(dice.uniform(0, 24))), number)
            if turn and change_at is not None and day >= change_at:
                turned = turn(made, dice)
                if turned is None:
                    continue
                made = turned
            yield made


def _image(dice: np.random.Generator, when: datetime, number: int) -> Observation:
    is_first = dice.random() < 0.65
    refused = dice.random() < 0.1
    view = "AP" if dice.random() < (0.15 if is_first else 0.5) else "PA"
    scores = {} if refused else {name: _scored(float(dice.beta(a, b))) for name, (a, b) in FINDINGS.items()}
    ratio = float(dice.normal(0.46 + 0.04 * (view == "AP"), 0.05))
    taken = float(dice.lognormal(4.5, 0.4))
    return Observation(
        sop_instance_uid=f"1.2.{number}.1",
        study_instance_uid=f"1.2.{number}",
        received_at=when.timestamp() - taken,
        observed_at=when.timestamp(),
        delivered_at=None if refused else when.timestamp() + 5,
        sender="ER" if is_first else "WARD",
        station="ROOM1" if is_first else "MOBILE",
        device="Maker A" if is_first else "Maker B",
        view="" if refused else view,
        outcome="skipped" if refused else "processed",
        reason="NOT_FRONTAL" if refused else "",
        scores=scores,
        measurements={} if refused else {"cardiothoracic_ratio": ratio},
        warnings=0,
        plausible=None if refused else bool(dice.random() > 0.01),
        models=() if refused else (MODEL,),
    )


def _scored(raw: float) -> tuple[float, str]:
    return raw, "present" if raw >= POINT else "absent"


def detector(made: Observation, dice: np.random.Generator) -> Observation:
    """A detector was swapped: pictures of one room are brighter, and its scores higher: 0.6 on the logit scale."""
    if made.sender != "ER":
        return made
    return replace(made, scores={name: _scored(_higher(raw)) for name, (raw, _) in made.scores.items()})


def _higher(raw: float) -> float:
    return float(1 / (1 + np.exp(-(np.log(raw / (1 - raw)) + 0.6))))


def views(made: Observation, dice: np.random.Generator) -> Observation:
    """More bedside images: AP instead of PA in every third."""
    return replace(made, view="AP") if made.view == "PA" and dice.random() < 0.33 else made


def model(made: Observation, dice: np.random.Generator) -> Observation:
    """Other weights of the same model."""
    return replace(made, models=((*MODEL[:2], "cd" * 32),)) if made.models else made


def sender(made: Observation, dice: np.random.Generator) -> Observation | None:
    """The ward is silent."""
    return None if made.sender == "WARD" else made


def refusals(made: Observation, dice: np.random.Generator) -> Observation:
    """A room forgets to state the view: 15 % more are refused."""
    if made.reason or dice.random() > 0.15:
        return made
    refused = replace(made, outcome="skipped", reason="UNKNOWN_VIEW", scores={}, measurements={})
    return replace(refused, plausible=None, models=())


SCENARIOS: dict[str, tuple[Turn, str]] = {
    "a detector is swapped": (detector, "score of"),
    "the mix of views changes": (views, "view"),
    "a model is exchanged": (model, "model"),
    "a sender is lost": (sender, "volume of sender WARD"),
    "more is refused": (refusals, "refused as UNKNOWN_VIEW"),
}


def found_after(turn: Turn, expected: str, seed: int, days: int = 8) -> int | None:
    """Days until the change is an alarm that bears its name; None where it is not within ``days``."""
    change_at = REFERENCE_DAYS + 14 + seed % 7
    images = list(stream(change_at + days, seed, change_at, turn))
    for day, alarms in replay(images):
        number = (day - BEGIN.date()).days - change_at + 1
        if number >= 1 and any(each.startswith(expected) for each in alarms):
            return number
    return None


def false_alarms(seed: int, days: int = REFERENCE_DAYS + 365) -> int:
    """Alarms of a year in which nothing changes; one that lasts several days counts once."""
    count, before = 0, set[str]()
    for _, alarms in replay(list(stream(days, seed))):
        count += len(set(alarms) - before)
        before = set(alarms)
    return count


def main() -> None:
    """Print the table."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    years = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    print("| what changes | found, of streams | days until then: median, most |")
    print("|---|---|---|")
    for name, (turn, expected) in SCENARIOS.items():
        after = [found_after(turn, expected, seed) for seed in range(repeats)]
        known = [each for each in after if each is not None]
        print(f"| {name} | {len(known)} of {repeats} | {np.median(known):.0f}, {max(known)} |")
    wrong = [false_alarms(100 + seed) for seed in range(years)]
    print(f"| nothing, for a year | false alarms in {years} years: {wrong} | |")


if __name__ == "__main__":
    main()
