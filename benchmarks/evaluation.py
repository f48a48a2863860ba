"""What `evaluate` costs: 100,000 rows of 18 findings against 10,000, each in a process of its own."""

from __future__ import annotations

import json
import random
import resource
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from time import process_time

from benchmarks._harness import Plan, Row, folder, in_turn, ratios

FEW, MANY = 10_000, 100_000
FINDINGS = 18


def measure(plan: Plan) -> Iterator[Row]:
    """Yield a row for the time, and one for the memory."""
    with folder() as place:
        few, many = place / "few", place / "many"
        write(few, 100 if plan.is_quick else FEW)
        write(many, 300 if plan.is_quick else MANY)
        pairs = in_turn(partial(plan.apart, cost, str(many)), partial(plan.apart, cost, str(few)), plan.repeats)
        for number, (what, goal) in enumerate((("processor time", 15), ("highest memory", 10))):
            row = f"evaluate: {what}, 100,000 rows against 10,000"
            yield ratios(row, [(first[number], second[number]) for first, second in pairs], at_most=goal)


def cost(name: str) -> tuple[float, float]:
    """Evaluate a folder and write the page; seconds of the processor, and KiB at most."""
    from cxr_dicom.results.evaluate import evaluate, page, tables

    place = Path(name)
    began = process_time()
    evaluation = evaluate(place, [place / "truth.csv"])
    tables.write(place / "EVAL", evaluation)
    page.write(place / "EVAL", evaluation, lambda study, image, line: None)
    return process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def write(place: Path, count: int) -> None:
    """Write a run of `count` images, and the truth of each."""
    place.mkdir()
    dice = random.Random(1)
    names = [f"finding_{number}" for number in range(FINDINGS)]
    with (place / "results.jsonl").open("w") as rows, (place / "truth.csv").open("w") as truth:
        truth.write(",".join(("sop_instance_uid", *names)) + "\n")
        for number in range(count):
            uid = f"2.25.{dice.getrandbits(120)}"
            labels = [dice.random() < 0.1 for _ in names]
            scores = {}
            for name, label in zip(names, labels, strict=True):
                raw = min(1.0, max(0.0, dice.gauss(0.3 + 0.2 * label, 0.15)))
                call = "present" if raw > 0.4 else "absent"
                scores[name] = {"probability": raw, "raw": raw, "operating_point": 0.4, "call": call, "model": "one"}
            row = {
                "path": f"archive/{number // 1000}/{number}.dcm",
                "study_instance_uid": f"{uid}.1",
                "sop_instance_uid": uid,
                "outcome": "processed",
                "view": dice.choice(("PA", "AP")),
                "patient_sex": dice.choice(("F", "M")),
                "patient_age_years": dice.randrange(18, 91),
                "manufacturer": dice.choice(("Maker A", "Maker B")),
                "sender": dice.choice(("ER", "WARD")),
                "scores": scores,
            }
            rows.write(json.dumps(row) + "\n")
            truth.write(",".join((uid, *(str(int(label)) for label in labels))) + "\n")
