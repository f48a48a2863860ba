"""What became of the inputs: objects on the disk, rows, and what destinations said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cxr_dicom.records.prediction import ImageAnalysis
from cxr_dicom.records.study import ChestImage, Skipped, StoredInstance, WrittenObject
from cxr_dicom.records.words import DeliveryStatus, Outcome, Reason


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodedObject(WrittenObject):
    """One with its file, which is written once."""

    path: Path
    model: str | None  # None when it speaks of several


@dataclass(frozen=True, kw_only=True, eq=False)
class InstanceResult:
    """What became of one input: a line of ``results.jsonl``, and its pictures."""

    path: Path
    outcome: Outcome
    instance: StoredInstance | None = None
    reason: Reason | None = None
    detail: str = ""
    image: ChestImage | None = None  # None unless eligible
    analysis: ImageAnalysis | None = None  # None unless processed
    objects: tuple[EncodedObject, ...] = ()
    route: str | None = None  # that it took; None where the settings have none

    @classmethod
    def without(cls, skipped: Skipped) -> InstanceResult:
        """Return what became of an input that has no result: what `Skipped` says, and nothing else."""
        return cls(
            path=skipped.path,
            outcome=skipped.outcome,
            instance=skipped.instance,
            reason=skipped.reason,
            detail=skipped.detail,
            image=skipped.image,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class StudyResult:
    """What became of one study."""

    study_instance_uid: str
    job_key: str  # the same key never runs twice unless forced
    instances: tuple[InstanceResult, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)  # of the stages that serve the whole study


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """What one destination said about one object."""

    sop_instance_uid: str
    destination: str  # its name in the config
    delivery_status: DeliveryStatus
    status: str  # "0x0000", "HTTP 200", or a word: "TIMEOUT"
    detail: str = ""  # without patient data
    retry_after: float | None = None  # seconds, when the destination said so
    more_follow: bool = False  # receipts of the same answer, which are lost where nobody takes them
