"""What a result leaves in the ledger: what became of each image, the run, its objects, and what is observed."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_dicom.records import EncodedObject, ModelInfo, Outcome, Reason, StudyResult, StudyState

if TYPE_CHECKING:
    from cxr_dicom.store.ledger import Ledger


@dataclass(frozen=True, kw_only=True, slots=True)
class Dispatch:
    """What of a study goes to one destination."""

    destination: str
    verify: bool  # delivered is not enough
    objects: frozenset[str] | None = None  # SOP Instance UIDs; None: all that were made


class Results:
    """See the module."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def record(self, connection: sqlite3.Connection, result: StudyResult, models: Sequence[ModelInfo]) -> None:
        """Keep a result whose objects lie durably in the spool, and the ``models`` that made it."""
        self.record_outcomes(connection, result)
        self._ledger.observations.record(connection, result, models)
        for instance in result.instances:
            self._ledger.count("images", outcome=instance.outcome, reason=instance.reason or "")
            if instance.route:
                self._ledger.count("routed_images", route=instance.route)
        job_id = self._record_job(connection, result, models)
        for made in objects(result).values():
            self._record_object(connection, result.study_instance_uid, job_id, made)

    def record_outcomes(self, connection: sqlite3.Connection, result: StudyResult) -> None:
        """Keep what became of each image, and its route."""
        for instance in result.instances:
            if instance.instance:
                became = (instance.outcome, instance.reason, instance.detail, instance.route)
                connection.execute(
                    "UPDATE instances SET outcome = ?, reason = ?, detail = ?, route = ? WHERE sop_instance_uid = ?",
                    (*became, instance.instance.sop_instance_uid),
                )

    def _record_job(self, connection: sqlite3.Connection, result: StudyResult, models: Sequence[ModelInfo]) -> int:
        outcomes = {instance.outcome for instance in result.instances}
        outcome = next((outcome for outcome in Outcome if outcome in outcomes), Outcome.SKIPPED)
        described = [{"name": m.name, "version": m.version, "weights_sha256": m.weights_sha256} for m in models]
        seconds = _total_seconds(result)
        for stage, value in seconds.items():
            self._ledger.count("stage_seconds", value, stage=stage)
        cursor = connection.execute(
            "INSERT INTO jobs (study_instance_uid, job_key, outcome, models, seconds, finished_at)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (
                result.study_instance_uid,
                result.job_key,
                outcome,
                json.dumps(described),
                json.dumps(seconds),
                time.time(),
            ),
        )
        return int(cursor.lastrowid or 0)

    def _record_object(self, connection: sqlite3.Connection, uid: str, job_id: int, made: EncodedObject) -> None:
        connection.execute(
            "INSERT INTO objects (sop_instance_uid, study_instance_uid, series_instance_uid, sop_class_uid, job_id,"
            " kind, model, sources, path) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (sop_instance_uid) DO UPDATE SET job_id = excluded.job_id,"
            " path = coalesce(path, excluded.path)",
            (
                made.sop_instance_uid,
                uid,
                made.series_instance_uid,
                made.sop_class_uid,
                job_id,
                made.kind,
                made.model,
                json.dumps(made.source_sop_instance_uids),
                self._ledger.stored(made.path),
            ),
        )


def objects(result: StudyResult) -> dict[str, EncodedObject]:
    """Return the objects of a study by SOP Instance UID; a report belongs to several of its images."""
    return {made.sop_instance_uid: made for instance in result.instances for made in instance.objects}


def state_after(result: StudyResult) -> tuple[StudyState, str]:
    """Return the state of a study that has this result, and why it is in it."""
    if objects(result):
        return StudyState.ENCODED, ""
    failed = [f"{i.reason}: {i.detail}" for i in result.instances if i.outcome is Outcome.FAILED]
    if failed:
        return StudyState.DEAD, failed[0]
    has_no_models = any(instance.reason is Reason.NO_MODELS for instance in result.instances)
    return StudyState.IGNORED, "no model runs on its route" if has_no_models else "nothing eligible"


def _total_seconds(result: StudyResult) -> Mapping[str, float]:
    total = dict(result.seconds)
    for instance in result.instances:
        for stage, seconds in (instance.analysis.seconds if instance.analysis else {}).items():
            total[stage] = total.get(stage, 0.0) + seconds
    return {stage: round(seconds, 3) for stage, seconds in total.items()}
