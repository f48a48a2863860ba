"""What the ledger keeps of each image so that a change can be seen: scores, calls, measurements, origin; UIDs only.

A row goes when its study is forgotten (``retention.rows_days``), but for those of the reference period (``[monitor]``).
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom import Dataset

from cxr_dicom.dicom.files import machine_name
from cxr_dicom.records import ChestImage, InstanceResult, ModelInfo, Prediction, Reason, StudyResult

if TYPE_CHECKING:
    from cxr_dicom.store.ledger import Ledger

Model = tuple[str, str, str]  # name, version, SHA-256 of the weights or ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One image, once: the latest result counts."""

    sop_instance_uid: str
    study_instance_uid: str
    received_at: float  # seconds since 1970, UTC
    observed_at: float
    delivered_at: float | None  # when a destination last took an object of the study; None: not all are there
    sender: str
    station: str  # Station Name
    device: str  # Manufacturer and model
    view: str
    outcome: str
    reason: str
    scores: Mapping[str, tuple[float, str]]  # finding -> network's output, call
    measurements: Mapping[str, float | None]
    warnings: int
    plausible: bool | None  # None: no anatomy was looked for
    models: tuple[Model, ...]


class Observations:
    """See the module."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def record(self, connection: sqlite3.Connection, result: StudyResult, models: Sequence[ModelInfo]) -> None:
        """Keep what was found of each image of a study, by ``models``; on a route by those that saw it."""
        now = time.time()
        for instance in result.instances:
            if instance.instance:
                ran = _identified(models if instance.route is None else [p.model for p in _predictions(instance)])
                connection.execute(
                    "INSERT OR REPLACE INTO observations (sop_instance_uid, study_instance_uid, observed_at, station,"
                    " device, view, scores, measurements, warnings, plausible, models)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (instance.instance.sop_instance_uid, result.study_instance_uid, now, *_found(instance), ran),
                )

    def between(self, since: float, until: float) -> Iterator[Observation]:
        """Yield images observed in a time, the oldest first."""
        rows = self._ledger.rows(
            "SELECT o.*, i.received_at, i.sender, i.outcome, i.reason, d.delivered_at FROM observations o"
            " JOIN instances i USING (sop_instance_uid)"
            " LEFT JOIN (SELECT b.study_instance_uid, max(v.changed_at) delivered_at FROM objects b"
            "  JOIN deliveries v ON v.sop_instance_uid = b.sop_instance_uid GROUP BY b.study_instance_uid"
            "  HAVING sum(v.state IN ('waiting', 'refused')) = 0) d ON d.study_instance_uid = o.study_instance_uid"
            " WHERE o.observed_at >= ? AND o.observed_at < ? ORDER BY o.observed_at",
            since,
            until,
        )
        for row in rows:
            yield Observation(
                sop_instance_uid=row["sop_instance_uid"],
                study_instance_uid=row["study_instance_uid"],
                received_at=row["received_at"],
                observed_at=row["observed_at"],
                delivered_at=row["delivered_at"],
                sender=row["sender"] or "",
                station=row["station"],
                device=row["device"],
                view=row["view"],
                outcome=row["outcome"] or "",
                reason=row["reason"] or "",
                scores={name: (raw, call) for name, (raw, call) in json.loads(row["scores"]).items()},
                measurements=json.loads(row["measurements"]),
                warnings=row["warnings"],
                plausible=None if row["plausible"] is None else bool(row["plausible"]),
                models=tuple((name, version, digest) for name, version, digest in json.loads(row["models"])),
            )

    def first(self) -> float | None:
        """When the oldest was observed."""
        (row,) = self._ledger.rows("SELECT min(observed_at) t FROM observations")
        first: float | None = row["t"]
        return first


def _predictions(result: InstanceResult) -> Sequence[Prediction]:
    return result.analysis.predictions if result.analysis else ()


def _identified(models: Iterable[ModelInfo]) -> str:
    return json.dumps([(model.name, model.version, model.weights_sha256 or "") for model in models])


def _found(result: InstanceResult) -> tuple[str, str, str, str, str, int, int | None]:
    image, analysis = result.image, result.analysis
    header = image.header if image else Dataset()
    predictions = _predictions(result)
    scores: dict[str, tuple[float, str]] = {}
    measurements: dict[str, float | None] = {}
    for prediction in predictions:
        for finding in prediction.findings:
            scores.setdefault(finding.name, (round(finding.raw, 6), str(finding.call)))
        for measurement in prediction.measurements:
            measurements.setdefault(measurement.name, measurement.value)
    looked = [prediction for prediction in predictions if prediction.masks]
    plausible = None
    if result.reason in (Reason.NOT_A_CHEST_CONTENT, Reason.WRONG_WAY_ROUND) or (
        analysis and analysis.content and not analysis.content.passed
    ):
        plausible = 0
    elif looked:
        plausible = int(all(mask.region.area for mask in looked[0].masks))
    device = " ".join(
        filter(None, (machine_name(header, "Manufacturer"), machine_name(header, "ManufacturerModelName")))
    )
    warnings = len(analysis.warnings) if analysis else 0
    view = image.view if isinstance(image, ChestImage) else ""
    return (
        machine_name(header, "StationName"),
        device,
        view,
        json.dumps(scores),
        json.dumps(measurements),
        warnings,
        plausible,
    )
