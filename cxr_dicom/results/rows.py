"""What a run says of each input: the rows of ``results.jsonl``.

A row is one input, as a plain dict with stable keys (``docs/results.md``, ``docs/results.schema.json``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydicom import Dataset

from cxr_dicom import __version__
from cxr_dicom.config import Settings
from cxr_dicom.dicom.files import values
from cxr_dicom.dicom.patient_age import completed_years
from cxr_dicom.records import (
    ChestImage,
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
from cxr_dicom.system import atomic

Row = dict[str, Any]
RowsOf = Callable[[], Iterator[Row]]  # each call reads all rows again, in order: they need not fit in memory

_OLDEST_STATED = 89  # years; above, an age is said to identify (45 CFR 164.514(b)(2)(i)(C))
_LONGEST_CODE = 16  # of a CS value (PS3.5 6.2); more would be free text

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
        image=skipped.image,
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
    with atomic.open_text(path) as file:
        file.writelines(json_line(row) + "\n" for row in rows)


def read_jsonl(path: Path) -> Iterator[Row]:
    """Read the rows that :func:`write_jsonl` wrote, one at a time."""
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def json_line(row: Row) -> str:
    """Return ``row`` as one line of JSON in UTF-8 text."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


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
        **_header_columns(result.image),
        "models": [],
        "scores": {},
        "measurements": {},
        "statements": {},
        "boxes": {},
        "objects": [],
        "exports": [],
        "warnings": [],
        "seconds": {},
        "geometry": settings.encode.geometry,
        "settings_digest": settings.digest,
        "package_version": __version__,
    }


def _header_columns(image: ChestImage | None) -> Row:
    """What the header says, as it says it; nothing of an image that was not eligible."""
    header = image.header if image else Dataset()
    return {
        "view": image.view or None if image else None,
        "modality": _code(header, "Modality"),
        "body_part_examined": _code(header, "BodyPartExamined"),
        "view_position": _code(header, "ViewPosition"),
        "rows": image.shape[0] if image else None,
        "columns": image.shape[1] if image else None,
        "spacing_mm": [image.spacing.rows_mm, image.spacing.columns_mm]
        if image and image.spacing.is_physical
        else None,
        "patient_age_years": _age(header),
        "patient_sex": sex if (sex := _code(header, "PatientSex")) in ("M", "F", "O") else None,
    }


def _code(header: Dataset, keyword: str) -> str | None:
    found = values(header, keyword)
    return str(found[0]).strip()[:_LONGEST_CODE] or None if found else None


def _age(header: Dataset) -> int | None:
    """Completed years; 90 for all ages above 89."""
    years = completed_years(header)
    return None if years is None else min(years, _OLDEST_STATED + 1)


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
    boxes: Row = {}
    for prediction in analysis.predictions:
        _merge(scores, _scores(prediction), prediction)
        _merge(measurements, {m.name: _measurement(m) for m in prediction.measurements}, prediction)
        _merge(statements, _statements(prediction), prediction)
        _merge(boxes, _boxes(prediction), prediction)
    warnings = [*analysis.warnings, *(text for prediction in analysis.predictions for text in prediction.warnings)]
    return {
        "models": [
            {"name": p.model.name, "version": p.model.version, "weights_sha256": p.model.weights_sha256}
            for p in analysis.predictions
        ],
        "scores": scores,
        "measurements": measurements,
        "statements": statements,
        "boxes": boxes,
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


def _boxes(prediction: Prediction) -> Row:
    """The extent of each structure that was found: left, top, right, bottom."""
    found = [(mask.structure.name, mask.region.box) for mask in prediction.masks if mask.region.area]
    return {name: {"box": [box.left, box.top, box.right, box.bottom]} for name, box in found}


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
