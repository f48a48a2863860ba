"""An evaluation as JSON and as tables for spreadsheets."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from cxr_dicom.results.evaluate import Evaluation
from cxr_dicom.results.evaluate.findings import metrics_of
from cxr_dicom.results.evaluate.statistics import Estimate
from cxr_dicom.results.tables import as_text
from cxr_dicom.system import atomic

JSON = "evaluation.json"


def write(folder: Path, evaluation: Evaluation) -> None:
    """Write ``evaluation.json``, and one table each of findings, groups, cases, structures and measurements."""
    with atomic.open_text(folder / JSON) as file:
        json.dump(evaluation.as_dict(), file, ensure_ascii=False, allow_nan=False, indent=1)
    for name, columns, rows in (
        ("findings", ("finding", "metric", "value", "low", "high", "n", "why"), _findings(evaluation)),
        (
            "groups",
            ("finding", "by", "group", "n", "positives", "metric", "value", "low", "high", "differs", "why"),
            _groups(evaluation),
        ),
        (
            "cases",
            ("finding", "line", "sop_instance_uid", "truth", "score", "operating_point", "wrong_by"),
            _cases(evaluation),
        ),
        ("structures", ("structure", "metric", "value", "low", "high", "n", "missed"), _structures(evaluation)),
        (
            "measurements",
            ("measurement", "unit", "n", "bias", "low", "high", "lower_limit", "upper_limit"),
            _measurements(evaluation),
        ),
    ):
        _write(folder / f"{name}.csv", columns, rows)


def _write(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with atomic.open_text(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(map(as_text, row) for row in rows)


def _estimate(estimate: Estimate) -> tuple[float | None, float | None, float | None]:
    return estimate.value, estimate.low, estimate.high


def _findings(evaluation: Evaluation) -> Iterator[Sequence[Any]]:
    for finding in evaluation.findings:
        for name, estimate in {"prevalence": finding.prevalence, **metrics_of(finding)}.items():
            yield finding.name, name, *_estimate(estimate), estimate.n, estimate.why
        brier = Estimate(value=finding.reliability.brier, n=finding.n, why=finding.reliability.error.why)
        for name, estimate in (("expected_calibration_error", finding.reliability.error), ("brier_score", brier)):
            yield finding.name, name, *_estimate(estimate), estimate.n, estimate.why


def _groups(evaluation: Evaluation) -> Iterator[Sequence[Any]]:
    for finding in evaluation.findings:
        for group in finding.groups:
            for name, estimate in (
                ("auroc", group.auroc),
                ("sensitivity", group.sensitivity),
                ("specificity", group.specificity),
                ("auroc less that of the rest", group.difference),
            ):
                if estimate is not None:
                    differs = group.differs if estimate is group.difference else None
                    head = (finding.name, group.by, group.value, group.n, group.positives)
                    yield *head, name, *_estimate(estimate), differs, estimate.why


def _cases(evaluation: Evaluation) -> Iterator[Sequence[Any]]:
    for finding in evaluation.findings:
        for case in finding.cases:
            yield (
                finding.name,
                case.line,
                case.sop_instance_uid,
                int(case.truth),
                case.score,
                case.operating_point,
                case.wrong_by,
            )


def _structures(evaluation: Evaluation) -> Iterator[Sequence[Any]]:
    for structure in evaluation.anatomy.structures:
        for name, estimate in (
            ("dice", structure.dice),
            ("mean_distance_mm", structure.mean_distance_mm),
            ("p95_distance_mm", structure.p95_distance_mm),
        ):
            yield structure.name, name, *_estimate(estimate), estimate.n, structure.missed


def _measurements(evaluation: Evaluation) -> Iterator[Sequence[Any]]:
    for measurement in evaluation.anatomy.measurements:
        yield (
            measurement.name,
            measurement.unit,
            measurement.n,
            *_estimate(measurement.bias),
            *(measurement.limits or (None, None)),
        )
