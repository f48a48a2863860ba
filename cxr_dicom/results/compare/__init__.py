"""Two runs over the same images, side by side: calls, scores, measurements, masks.

A run is an output folder of ``cxr-dicom run``. Images are matched by SOP Instance UID,
everything else by name. Rows are read one at a time and kept as columns, so that 100,000 images fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from cxr_dicom.results.compare._overlap import MaskAgreement, ReportProgress, StructureAgreement, compare_masks, dice
from cxr_dicom.results.compare._runs import Column, Columns, Matched, Model, Run, match
from cxr_dicom.results.compare._statistics import (
    CallAgreement,
    Differences,
    MeasurementAgreement,
    compare_calls,
    compare_measurements,
    differences,
)

__all__ = [
    "CallAgreement",
    "Comparison",
    "Differences",
    "MaskAgreement",
    "Matched",
    "MeasurementAgreement",
    "StructureAgreement",
    "broken_limits",
    "compare",
    "dice",
    "differences",
    "match",
]


@dataclass(frozen=True)
class Setting:
    """What is not the same in two runs: a version, a setting, a model's weights."""

    key: str
    a: Any  # None: not there
    b: Any


@dataclass(frozen=True)
class Change:
    """An image with another outcome in B."""

    sop_instance_uid: str
    outcome_a: str
    reason_a: str | None
    outcome_b: str
    reason_b: str | None


@dataclass(frozen=True)
class Side:
    """One of the two runs."""

    folder: str
    images: int
    inputs_without_uid: int
    models: list[Model]
    has_settings: bool  # that run.json holds them; else only their digest is known


@dataclass(frozen=True)
class Unmatched:
    """Names of findings, statements and measurements that only one run has."""

    only_a: list[str]
    only_b: list[str]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two runs say of the images that both have."""

    a: Side
    b: Side
    settings: list[Setting]
    images: int  # in both
    processed: int  # in both
    only_a: list[str]  # SOP Instance UIDs
    only_b: list[str]
    changes: list[Change]
    calls: list[CallAgreement]
    measurements: list[MeasurementAgreement]
    names: Unmatched
    masks: MaskAgreement | None  # None: not asked for

    @property
    def knows_settings(self) -> bool:
        """Whether `settings` holds each setting that differs."""
        return self.a.has_settings and self.b.has_settings

    @property
    def moved_calls(self) -> int:
        """Number of calls that are others in B."""
        return sum(sum(call.moved.values()) for call in self.calls)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON knows it."""
        return asdict(self)


def compare(
    runs: Matched, *, masks: bool = True, jobs: int = 1, report_progress: ReportProgress = lambda done, total: None
) -> Comparison:
    """Compare two runs; the order matters for the sign of differences, which are B minus A.

    Parameters
    ----------
    masks
        Whether to read the segmentations.
    jobs
        Number of processes that read segmentations.
    tell
        Called after each image whose masks were compared, with their number and that of all.

    Raises
    ------
    CxrDicomError
        If a process that reads segmentations dies.
    """
    a, b = runs.a, runs.b
    return Comparison(
        a=_side(a),
        b=_side(b),
        settings=list(_settings(a, b)),
        images=len(runs.uids),
        processed=len(runs.processed),
        only_a=[uid for uid in a.rows if uid not in b.rows],
        only_b=[uid for uid in b.rows if uid not in a.rows],
        changes=list(_changes(runs)),
        calls=[
            *(compare_calls("finding", name, scores, runs) for name, scores in _shared(a.scores, b.scores)),
            *(compare_calls("statement", name, values, runs) for name, values in _shared(a.statements, b.statements)),
        ],
        measurements=[
            unit
            for name, values in _shared(a.measurements, b.measurements)
            for unit in compare_measurements(name, values, runs)
        ],
        names=Unmatched(_only(a, b), _only(b, a)),
        masks=compare_masks(runs, jobs=jobs, report_progress=report_progress) if masks else None,
    )


def broken_limits(comparison: Comparison, min_agreement: float | None, min_dice: float | None) -> Iterator[str]:
    """Say what is not as alike as asked for; nothing when no limit is given.

    With any limit, every image must have the same outcome in both runs. With `min_dice`, a structure that
    only one run outlines counts as 0.
    """
    if min_agreement is None and min_dice is None:
        return
    if comparison.only_a or comparison.only_b or comparison.changes:
        yield (
            f"images: {len(comparison.only_a)} only in A, {len(comparison.only_b)} only in B, "
            f"{len(comparison.changes)} with another outcome"
        )
    if min_agreement is not None:
        for call in comparison.calls:
            if call.agreement is not None and call.agreement < min_agreement:
                yield f"{call.name}: agreement {call.agreement:.4f} is below {min_agreement}"
    if min_dice is not None:
        yield from _broken_masks(comparison.masks, min_dice)


def _broken_masks(masks: MaskAgreement | None, min_dice: float) -> Iterator[str]:
    if masks is None or not masks.structures:
        yield "masks: none to compare"
    for problem, images in masks.unread.items() if masks else ():
        yield f"masks of {images} images: {problem}"
    for structure in masks.structures if masks else ():
        lonely = structure.only_a + structure.only_b
        lowest = 0.0 if lonely or structure.minimum is None else structure.minimum
        if lowest < min_dice:
            also = f" ({lonely} images have it in one run only)" if lonely else ""
            yield f"{structure.name}: Dice {lowest:.4f} is below {min_dice}{also}"


def _side(run: Run) -> Side:
    return Side(
        folder=str(run.folder),
        images=len(run.rows),
        inputs_without_uid=run.unnamed,
        models=sorted(run.models, key=str),
        has_settings=any(key.startswith("settings.") for key in run.about),
    )


def _shared(a: dict[str, Column], b: dict[str, Column]) -> Iterator[tuple[str, Columns]]:
    return ((name, (a[name], b[name])) for name in a if name in b)


def _only(run: Run, other: Run) -> list[str]:
    tables = ((run.scores, other.scores), (run.measurements, other.measurements), (run.statements, other.statements))
    return [name for mine, theirs in tables for name in mine if name not in theirs]


def _changes(runs: Matched) -> Iterator[Change]:
    for uid in runs.uids:
        a, b = runs.a.ending(uid), runs.b.ending(uid)
        if a != b:
            yield Change(uid, a.outcome, a.reason, b.outcome, b.reason)


def _settings(a: Run, b: Run) -> Iterator[Setting]:
    """Yield what the rows, and ``run.json`` where both have it, say differently."""
    for key in sorted(a.stamps.keys() | b.stamps.keys()):
        if a.stamps[key] != b.stamps[key]:
            yield Setting(key, *(", ".join(sorted(run.stamps[key])) or None for run in (a, b)))
    for name in sorted({model.name for model in a.models | b.models}):
        of_a, of_b = (sorted(str(_state(m)) for m in run.models if m.name == name) for run in (a, b))
        if of_a != of_b:
            yield Setting(f"model {name}", *(", ".join(of) or None for of in (of_a, of_b)))
    if a.about and b.about:
        for key in sorted((a.about.keys() | b.about.keys()) - a.stamps.keys()):
            if a.about.get(key) != b.about.get(key):
                yield Setting(key, a.about.get(key), b.about.get(key))


def _state(model: Model) -> str:
    return f"version {model.version}, " + (f"weights {model.weights_sha256}" if model.weights_sha256 else "no weights")
