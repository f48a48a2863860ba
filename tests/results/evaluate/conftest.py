"""Output folders and tables of truth that tests make."""

import csv
import json
import random

import pytest

from tests.cohort_rows import processed


def row(number, scores=None, **changes):
    """A processed image with raw scores, an operating point of 0.5, and UIDs from its number."""
    made = {
        name: {
            "probability": raw,
            "raw": raw,
            "operating_point": 0.5,
            "call": "present" if raw is not None and raw >= 0.5 else "absent",
            "model": "one",
        }
        for name, raw in (scores or {}).items()
    }
    return processed(
        sop_instance_uid=f"1.2.3.{number}",
        study_instance_uid=f"1.2.{number}",
        path=f"archive/p{number}/image{number}.dcm",
        scores=made,
        statements={},
        measurements={},
        **changes,
    )


@pytest.fixture
def run(tmp_path):
    """Write rows to an output folder."""

    def write(rows):
        out = tmp_path / "OUT"
        out.mkdir(exist_ok=True)
        (out / "results.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
        return out

    return write


@pytest.fixture
def table(tmp_path):
    """Write a table of truth."""

    def write(columns, rows, name="truth.csv", **options):
        path = tmp_path / name
        with path.open("w", newline="", encoding=options.get("encoding", "utf-8")) as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(rows)
        return path

    return write


@pytest.fixture
def noisy():
    """Scores of ``n`` images with a known difference between those with and without the finding."""

    def make(n, shift=1.5, share=0.3, seed=1):
        dice = random.Random(seed)
        truth = [dice.random() < share for _ in range(n)]
        return truth, [min(1.0, max(0.0, 0.4 + 0.1 * dice.gauss(shift * each, 1))) for each in truth]

    return make
