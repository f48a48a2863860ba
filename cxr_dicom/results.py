"""What a run says of each input: ``results.jsonl`` and ``results.csv``.

A row is one input, as a plain dict with stable keys (``docs/results.md``, ``docs/results.schema.json``).
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from cxr_dicom import __version__
from cxr_dicom.config import Settings
from cxr_dicom.records import (
    EncodedObject,
    ImageAnalysis,
    InstanceResult,
    Measurement,
    Outcome,
    Prediction,
    Reason,
    Skipped,
    Study,
    StudyResult,
)

Row = dict[str, Any]

STUDY_STAGES = ("select", "encode")  # their seconds are those of the whole study


def study_folder(out: Path, study_instance_uid: str) -> Path:
    """Folder of a study's objects."""
    return out / study_instance_uid


def study_rows(result: StudyResult, settings: Settings, out: Path) -> list[Row]:
    """Make the rows of one study."""
    return [_instance_row(each, result, settings, out) for each in result.instances]


def skipped_row(skipped: Skipped, settings: Settings) -> Row:
    """Make the row of an input that never became part of a study."""
    result = InstanceResult(
        path=skipped.path,
        outcome=skipped.outcome,
        instance=skipped.instance,
        reason=skipped.reason,
        detail=skipped.detail,
    )
    return _row(result, settings)


def failed_rows(study: Study, detail: str, settings: Settings) -> list[Row]:
    """Make the rows of a study that broke as a whole."""
    return [
        _row(
            InstanceResult(
                path=instance.path,
                outcome=Outcome.FAILED,
                instance=instance,
                reason=Reason.INTERNAL_ERROR,
                detail=detail,
            ),
            settings,
        )
        for instance in study.instances
    ]


def write_jsonl(path: Path, rows: Iterable[Row]) -> None:
    """Write one JSON object per line."""
    with open_atomically(path) as file:
        file.writelines(json_line(row) + "\n" for row in rows)


def json_line(row: Row) -> str:
    """Return ``row`` as one line of JSON in UTF-8 text."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write one flat row per input; a cell is empty where there is no value."""
    flat = [_flatten(row) for row in rows]
    columns = list(dict.fromkeys(column for row in flat for column in row))
    with open_atomically(path) as file:
        writer = csv.DictWriter(file, columns or _flat_base(), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(flat)


@contextmanager
def open_atomically(path: Path) -> Iterator[TextIO]:
    """Open a text file for writing; a reader sees the old file or the whole new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def path_text(path: Path) -> str:
    """Return a path with forward slashes; bytes that are not UTF-8 are written in hexadecimal, after a backslash."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")


def _row(result: InstanceResult, settings: Settings) -> Row:
    instance = result.instance
    return {
        "path": path_text(result.path),
        "study_instance_uid": instance.study_instance_uid if instance else None,
        "series_instance_uid": instance.series_instance_uid if instance else None,
        "sop_instance_uid": instance.sop_instance_uid if instance else None,
        "outcome": str(result.outcome),
        "reason": str(result.reason) if result.reason else None,
        "detail": result.detail,
        "view": None,
        "models": [],
        "scores": {},
        "measurements": {},
        "statements": {},
        "objects": [],
        "exports": [],
        "warnings": [],
        "seconds": {},
        "geometry": settings.encode.geometry,
        "settings_digest": settings.digest,
        "package_version": __version__,
    }


def _instance_row(result: InstanceResult, study: StudyResult, settings: Settings, out: Path) -> Row:
    row = _row(result, settings)
    if result.analysis:
        row |= _analysis_columns(result.analysis)
        row["seconds"] = _rounded({**result.analysis.seconds, **study.seconds})
    row["objects"] = [_object(each, out) for each in sorted(result.objects, key=lambda each: each.path)]
    return row


def _analysis_columns(analysis: ImageAnalysis) -> Row:
    scores: Row = {}
    measurements: Row = {}
    statements: Row = {}
    for prediction in analysis.predictions:
        _merge(scores, _scores(prediction), prediction)
        _merge(measurements, {m.name: _measurement(m) for m in prediction.measurements}, prediction)
        _merge(statements, _statements(prediction), prediction)
    warnings = [*analysis.warnings, *(text for prediction in analysis.predictions for text in prediction.warnings)]
    return {
        "view": analysis.image.view or None,
        "models": [
            {"name": p.model.name, "version": p.model.version, "weights_sha256": p.model.weights_sha256}
            for p in analysis.predictions
        ],
        "scores": scores,
        "measurements": measurements,
        "statements": statements,
        "warnings": list(dict.fromkeys(warnings)),
    }


def _merge(target: Row, values: Row, prediction: Prediction) -> None:
    """Add ``values``; where an earlier model took a name, the later one's value bears the model in its name."""
    for name, value in values.items():
        taken = f"{name}__{prediction.model.name.replace('-', '_')}"
        target[taken if name in target else name] = {**value, "model": prediction.model.name}


def _scores(prediction: Prediction) -> Row:
    return {
        finding.name: {
            "probability": finding.probability,
            "raw": finding.raw,
            "operating_point": finding.operating_point,
            "call": str(finding.call),
        }
        for finding in prediction.findings
    }


def _measurement(measurement: Measurement) -> Row:
    return {
        "value": measurement.value,
        "unit": measurement.unit.value,
        "meaning": measurement.code.meaning,
        "site": measurement.site.meaning if measurement.site else None,
        "laterality": measurement.laterality.meaning if measurement.laterality else None,
        "points": [list(point) for point in measurement.points],
        "method": measurement.method,
        "reason": measurement.reason,
    }


def _statements(prediction: Prediction) -> Row:
    return {
        statement.name: {
            "meaning": statement.concept.meaning,
            "call": str(statement.call),
            "rule": statement.rule,
            "measurement": statement.measurement,
        }
        for statement in prediction.statements
    }


def _object(each: EncodedObject, out: Path) -> Row:
    return {
        "path": path_text(each.path.relative_to(out)),
        "kind": str(each.kind),
        "sop_class_uid": each.sop_class_uid,
        "sop_instance_uid": each.sop_instance_uid,
        "series_instance_uid": each.series_instance_uid,
    }


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(value, 3) for stage, value in seconds.items()}


_FLAT = (
    "path",
    "study_instance_uid",
    "series_instance_uid",
    "sop_instance_uid",
    "outcome",
    "reason",
    "detail",
    "view",
    "geometry",
    "settings_digest",
    "package_version",
)


def _flat_base() -> list[str]:
    return [*_FLAT, "models", "warnings", "objects", "seconds"]


def _flatten(row: Row) -> Row:
    flat = {name: row[name] for name in _FLAT}
    flat["models"] = "; ".join(f"{model['name']} {model['version']}" for model in row["models"])
    flat["warnings"] = "; ".join(row["warnings"])
    flat["objects"] = len(row["objects"])
    flat["seconds"] = round(sum(row["seconds"].values()), 3) if row["seconds"] else None
    return flat | dict(_flat_values(row))


def _flat_values(row: Row) -> Iterator[tuple[str, Any]]:
    for name, measurement in row["measurements"].items():
        yield name, measurement["value"]
        yield f"{name}_unit", measurement["unit"]
    for name, statement in row["statements"].items():
        yield f"{name}_call", statement["call"]
    for name, score in row["scores"].items():
        yield f"{name}_probability", score["probability"]
        yield f"{name}_raw", score["raw"]
        yield f"{name}_operating_point", score["operating_point"]
        yield f"{name}_call", score["call"]
