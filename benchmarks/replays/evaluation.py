"""What `evaluate` costs: 100,000 rows against 10,000, in one run, each in a process of its own.

``python -m benchmarks.replays.evaluation`` prints a row for docs/performance.md.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

FEW, MANY = 10_000, 100_000
FINDINGS = 18
_CHILD = """
import resource, sys, time
from pathlib import Path
from cxr_dicom.results.evaluate import evaluate, page, tables
folder = Path(sys.argv[1])
began = time.process_time()
evaluation = evaluate(folder, [folder / "truth.csv"])
tables.write(folder / "EVAL", evaluation)
page.write(folder / "EVAL", evaluation, lambda study, image: None)
print(time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def write(folder: Path, count: int) -> None:
    """Write a run of `count` images, and the truth of each."""
    dice = random.Random(1)
    names = [f"finding_{number}" for number in range(FINDINGS)]
    with (folder / "results.jsonl").open("w") as rows, (folder / "truth.csv").open("w") as truth:
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
                "scores": scores,
            }
            rows.write(json.dumps(row) + "\n")
            truth.write(",".join((uid, *(str(int(label)) for label in labels))) + "\n")


def measure(count: int) -> tuple[float, float]:
    """Seconds of the processor and MiB at most."""
    with tempfile.TemporaryDirectory() as name:
        write(Path(name), count)
        done = subprocess.run([sys.executable, "-c", _CHILD, name], capture_output=True, text=True, check=True)
        seconds, memory = map(float, done.stdout.split())
        return seconds, memory


def main() -> None:
    """Print both, and their ratio."""
    few, many = measure(FEW), measure(MANY)
    print(f"{FEW:,} rows: {few[0]:.1f} s of the processor, {few[1]:.0f} MiB")
    print(f"{MANY:,} rows: {many[0]:.1f} s of the processor, {many[1]:.0f} MiB")
    print(f"ratio: {many[0] / few[0]:.1f} x the time, {many[1] / few[1]:.1f} x the memory, for 10 x the rows")


if __name__ == "__main__":
    main()
