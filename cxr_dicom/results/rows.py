"""The rows of ``results.jsonl``: what a run found for each input, made, written and read.

`schema` has their keys.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydicom import Dataset

from cxr_dicom import __version__
from cxr_dicom.config import Settings
from cxr_dicom.dicom.files import machine_name, values
from cxr_dicom.dicom.patient_age import completed_years
from cxr_dicom.records import (
    ChestImage,
    EncodedObject,
    Finding,
    ImageAnalysis,
    InstanceResult,
    Measurement,
    Prediction,
    Skipped,
    StudyResult,
)
from cxr_dicom.results.named import named
from cxr_dicom.results.schema import (
    BoxRow,
    DetectionRow,
    HeaderColumns,
    MeasurementRow,
    ModelRow,
    ObjectRow,
    Row,
    ScoreRow,
    StatementRow,
)
from cxr_dicom.system import atomic

Value = TypeVar("Value")

_MAX_STATED_AGE = 89  # years; above, an age is said to identify (45 CFR 164.514(b)(2)(i)(C))
_MAX_CODE_LENGTH = 16  # of a CS value (PS3.5 6.2); more would be free text

STUDY_STAGES = ("select", "encode")  # their seconds are those of the whole study


def study_folder(out: Path, study_instance_uid: str) -> Path:
    """Folder of a study's objects."""
    return out / study_instance_uid


def study_rows(study: StudyResult, settings: Settings, out: Path) -> list[Row]:
    """Make the rows of one study."""
    return [
        _row(
            instance,
            settings,
            objects=[_object(made, out) for made in sorted(instance.objects, key=lambda made: made.path)],
            seconds={**instance.analysis.seconds, **study.seconds} if instance.analysis else {},
        )
        for instance in study.instances
    ]


def skipped_row(skipped: Skipped, settings: Settings) -> Row:
    """Make the row of an input that has no result."""
    return _row(InstanceResult.without(skipped), settings)


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


def _row(
    result: InstanceResult,
    settings: Settings,
    *,
    objects: Sequence[ObjectRow] = (),
    seconds: Mapping[str, float] | None = None,
) -> Row:
    instance, analysis = result.instance, result.analysis
    predictions = analysis.predictions if analysis else ()
    return {
        "path": path_text(result.path),
        "study_instance_uid": instance.study_instance_uid if instance else None,
        "series_instance_uid": instance.series_instance_uid if instance else None,
        "sop_instance_uid": instance.sop_instance_uid if instance else None,
        "outcome": str(result.outcome),
        "reason": str(result.reason) if result.reason else None,
        "detail": result.detail,
        **_header_columns(result.image),  # type: ignore[typeddict-item]  # host: added by who keeps it
        "models": [_model(prediction) for prediction in predictions],
        "scores": _named(predictions, _scores),
        "measurements": _named(predictions, _measurements),
        "statements": _named(predictions, _statements),
        "boxes": _named(predictions, _boxes),
        "detections": _named(predictions, _detections),
        "objects": list(objects),
        "exports": [],
        "content": analysis.content.word if analysis and analysis.content else None,
        "warnings": _warnings(analysis) if analysis else [],
        "seconds": {stage: round(value, 3) for stage, value in (seconds or {}).items()},
        "geometry": settings.encode.geometry,
        "settings_digest": settings.digest,
        "package_version": __version__,
    }


def _header_columns(image: ChestImage | None) -> HeaderColumns:
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
        "manufacturer": machine_name(header, "Manufacturer") or None,
        "sender": _sender(image) if image else None,
    }


def _sender(image: ChestImage) -> str | None:
    """Who sent it: known of what was fetched, and of a file as the program that received it wrote (PS3.10 7.1)."""
    received = getattr(image.header, "file_meta", Dataset())
    return image.instance.sender or machine_name(received, "SourceApplicationEntityTitle") or None


def _code(header: Dataset, keyword: str) -> str | None:
    found = values(header, keyword)
    return str(found[0]).strip()[:_MAX_CODE_LENGTH] or None if found else None


def _age(header: Dataset) -> int | None:
    """Completed years; 90 for all ages above 89."""
    years = completed_years(header)
    return None if years is None else min(years, _MAX_STATED_AGE + 1)


def _named(
    predictions: Iterable[Prediction], values_of: Callable[[Prediction], Mapping[str, Value]]
) -> dict[str, Value]:
    """Combine what the models found in one image."""
    return named((p.model.name, name, value) for p in predictions for name, value in values_of(p).items())


def _model(prediction: Prediction) -> ModelRow:
    model = prediction.model
    return {"name": model.name, "version": model.version, "weights_sha256": model.weights_sha256}


def _scores(prediction: Prediction) -> dict[str, ScoreRow]:
    return {finding.name: _score(finding, prediction.model.name) for finding in prediction.findings}


def _score(finding: Finding, model: str) -> ScoreRow:
    row: ScoreRow = {
        "probability": finding.probability,
        "raw": finding.raw,
        "operating_point": finding.operating_point,
        "call": str(finding.call),
        "model": model,
    }
    if site := finding.site_point:
        row["site_operating_point"] = {
            "file_sha256": site.sha256,
            "upstream_operating_point": site.upstream,
            "probability": site.probability,
        }
    return row


def _measurements(prediction: Prediction) -> dict[str, MeasurementRow]:
    return {
        measurement.name: _measurement(measurement, prediction.model.name) for measurement in prediction.measurements
    }


def _measurement(measurement: Measurement, model: str) -> MeasurementRow:
    return {
        "value": measurement.value,
        "unit": measurement.unit.value,
        "meaning": measurement.code.meaning,
        "site": measurement.site.meaning if measurement.site else None,
        "laterality": measurement.laterality.meaning if measurement.laterality else None,
        "points": [list(point) for point in measurement.points],
        "method": measurement.method,
        "reason": measurement.reason,
        "model": model,
    }


def _statements(prediction: Prediction) -> dict[str, StatementRow]:
    return {
        statement.name: {
            "meaning": statement.concept.meaning,
            "call": str(statement.call),
            "rule": statement.rule,
            "measurement": statement.measurement,
            "model": prediction.model.name,
        }
        for statement in prediction.statements
    }


def _boxes(prediction: Prediction) -> dict[str, BoxRow]:
    """The extent of each structure that was found: left, top, right, bottom."""
    found = [(mask.structure.name, mask.region.box) for mask in prediction.masks if mask.region.area]
    return {
        name: {"box": [box.left, box.top, box.right, box.bottom], "model": prediction.model.name} for name, box in found
    }


def _detections(prediction: Prediction) -> dict[str, list[DetectionRow]]:
    """What was found in boxes, by finding, the highest score first."""
    found: dict[str, list[DetectionRow]] = {}
    for detection in prediction.detections:
        row: DetectionRow = {
            "box": list(detection.box),
            "score": detection.score,
            "model": prediction.model.name,
        }
        found.setdefault(detection.name, []).append(row)
    return found


def _warnings(analysis: ImageAnalysis) -> list[str]:
    of_models = (text for prediction in analysis.predictions for text in prediction.warnings)
    return list(dict.fromkeys([*analysis.warnings, *of_models]))


def _object(encoded: EncodedObject, out: Path) -> ObjectRow:
    return {
        "path": path_text(encoded.path.relative_to(out)),
        "kind": str(encoded.kind),
        "sop_class_uid": encoded.sop_class_uid,
        "sop_instance_uid": encoded.sop_instance_uid,
        "series_instance_uid": encoded.series_instance_uid,
    }
