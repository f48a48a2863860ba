"""Are the scores right here? A run's results against what experts say of the same images.

The truth is a table of labels and numbers (`truth`, `layouts`), or outlines and numbers in DICOM (`experts`).
Nothing but UIDs, finding names and numbers comes out; no network is needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from cxr_dicom import __version__
from cxr_dicom.results.evaluate.anatomy import (
    AnatomyEvaluation,
    MeasurementEvaluation,
    evaluate_measurements,
    evaluate_structures,
)
from cxr_dicom.results.evaluate.experts import Experts, dicom_files, read_experts
from cxr_dicom.results.evaluate.findings import FindingEvaluation, evaluate_findings, metrics_of
from cxr_dicom.results.evaluate.layouts import read_table
from cxr_dicom.results.evaluate.scored import Matched, Results, match, read
from cxr_dicom.results.evaluate.statistics import CONFIDENCE
from cxr_dicom.results.evaluate.truth import Reading, Truth, TruthError, is_table

__all__ = [
    "AnatomyEvaluation",
    "Evaluation",
    "FindingEvaluation",
    "Matched",
    "MeasurementEvaluation",
    "Reading",
    "Source",
    "TruthError",
    "evaluate",
    "failures",
    "metrics",
    "read_matched",
]


@dataclass(frozen=True, kw_only=True)
class Source:
    """How far one source of truth could be used."""

    name: str  # of the file or folder
    layout: str
    key: str
    stated: int  # images, studies or files that it covers
    repeated: int
    unmatched: dict[str, int]  # why there is no processed image -> truths
    conflicts: dict[str, int]  # finding -> images labelled both ways
    uncertain: dict[str, int]  # finding -> images labelled uncertain
    unused: list[str]  # columns that name nothing of the results


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A run against the truth."""

    package_version: str
    models: list[tuple[str, str, str | None]]  # name, version, SHA-256 of the weights
    sources: list[Source]
    images: int  # processed images with a truth
    images_without_truth: int
    patients: int
    grouped_by: str  # what stands for a patient
    uncertain: str  # what was made of uncertain labels
    blank: str
    confidence: float
    findings: list[FindingEvaluation]
    anatomy: AnatomyEvaluation
    missing: list[str] = field(default_factory=list)  # findings of the results without truth

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON knows it."""
        return asdict(self)


def evaluate(
    out: Path,
    truths: Sequence[Path],
    reading: Reading | None = None,
    report_progress: Callable[[str], None] = lambda what: None,
) -> Evaluation:
    """Evaluate the results in ``out``.

    Parameters
    ----------
    out
        Output folder of `run`.
    truths
        At most one table, and any number of files and folders of DICOM.
    reading
        How the table is read.
    tell
        Called with the name of each step when it begins.

    Raises
    ------
    CxrDicomError
        If one of them cannot be read, or the truth says nothing of the results.
    """
    reading = reading or Reading()
    results, truth, experts = _read(out, truths, reading, report_progress)
    report_progress("matching")
    matched = match(results, truth, reading.patient)
    report_progress("findings")
    findings = evaluate_findings(matched)
    report_progress("measurements and outlines")
    outlined = evaluate_structures(results, experts) if experts else AnatomyEvaluation()
    anatomy = AnatomyEvaluation(
        structures=outlined.structures,
        measurements=evaluate_measurements(matched),
        outlined_images=outlined.outlined_images,
        unused=outlined.unused,
    )
    return Evaluation(
        package_version=__version__,
        models=sorted(results.models, key=str),
        sources=list(_sources(matched, experts)),
        images=max(len(matched.rows), outlined.outlined_images),
        images_without_truth=len(results.uids) - max(len(matched.rows), outlined.outlined_images),
        patients=matched.patient_count,
        grouped_by=matched.grouped_by,
        uncertain=reading.uncertain,
        blank=reading.blank,
        confidence=CONFIDENCE,
        findings=findings,
        anatomy=anatomy,
        missing=sorted(results.scores.keys() - {finding.name for finding in findings}),
    )


def read_matched(out: Path, truth: Path, reading: Reading) -> Matched:
    """Read results and a table, and find the images that each truth is about; as `evaluate`."""
    results, table, _ = _read(out, [truth], reading, lambda what: None)
    return match(results, table, reading.patient)


def metrics(evaluation: Evaluation) -> Iterator[tuple[str, str, float | None]]:
    """Yield what a limit can be set for: name of a finding or structure, metric, value."""
    for finding in evaluation.findings:
        yield from ((finding.name, name, figure.value) for name, figure in metrics_of(finding).items())
    for structure in evaluation.anatomy.structures:
        yield structure.name, "dice", structure.dice.value


def failures(evaluation: Evaluation, limits: Sequence[tuple[str | None, str, float]]) -> Iterator[str]:
    """Say which figures are below a limit; an undefined figure counts as below.

    Parameters
    ----------
    limits
        Finding or structure (None: each), metric, lowest value that is accepted.
    """
    found = list(metrics(evaluation))
    for wanted, metric, limit in limits:
        values = [(name, value) for name, key, value in found if key == metric and wanted in (None, name)]
        if not values:
            yield f"{wanted or 'all'}: no {metric} to compare with {limit}"
        for name, value in values:
            if value is None or not value >= limit:
                yield f"{name}: {metric} {'is not defined' if value is None else f'{value:.4f}'} is below {limit}"


def _read(
    out: Path, truths: Sequence[Path], reading: Reading, report_progress: Callable[[str], None]
) -> tuple[Results, Truth, Experts | None]:
    tables = [path for path in truths if is_table(path)]
    folders = [path for path in truths if path not in tables]
    if len(tables) > 1:
        raise TruthError(f"expected at most one table of truth, found {len(tables)}")
    report_progress("results")
    results = read(out)
    report_progress("truth")
    experts = None
    if folders:
        name = ", ".join(path.name for path in folders)
        experts = read_experts((file for path in folders for file in dicom_files(path)), name)
    if tables:
        names = {name.partition("__")[0] for name in results.scores}
        measured = {name.partition("__")[0] for name in results.measurements}
        truth = read_table(tables[0], reading, names, measured)
    else:
        truth = Truth(source=experts.source if experts else "", layout="DICOM", key="sop_instance_uid")
    if experts and experts.numbers:
        if tables:
            raise TruthError("expected numbers in a table or in reports, found both: evaluate them one after the other")
        _take_numbers(experts, truth, results)
    return results, truth, experts


def _take_numbers(experts: Experts, truth: Truth, results: Results) -> None:
    """Make columns of the numbers of reports: by what is measured, where, and in which unit."""
    found: dict[str, dict[str, list[float]]] = {}
    for uid, numbers in experts.numbers.items():
        for meaning, unit, value in numbers:
            name = _measurement_name(meaning, unit, results)
            if name:
                found.setdefault(name, {}).setdefault(uid, []).append(value)
            else:
                experts.unnamed["a measurement that the run does not make, or not in this unit"] += 1
    truth.rows = sorted({uid for by_uid in found.values() for uid in by_uid})
    for name, by_uid in found.items():
        truth.numbers[name] = np.array([np.mean(by_uid[uid]) if uid in by_uid else nan for uid in truth.rows])


def _measurement_name(meaning: tuple[str, str, str], unit: str, results: Results) -> str | None:
    """Return the measurement of a meaning; one that states neither site nor side needs to be the only one."""
    same = [
        name
        for name, by_unit in results.measurements.items()
        if "__" not in name and {unit, {"1": "{ratio}"}.get(unit, unit)} & by_unit.keys()
    ]
    exact = [name for name in same if results.meanings[name] == meaning]
    names = exact or [name for name in same if results.meanings[name][0] == meaning[0]]
    return names[0] if len(names) == 1 else None


def _sources(matched: Matched, experts: Experts | None) -> Iterator[Source]:
    truth = matched.truth
    if truth.layout != "DICOM":
        yield Source(
            name=truth.source,
            layout=truth.layout,
            key=truth.key,
            stated=len(truth.rows),
            repeated=truth.repeated,
            unmatched=dict(matched.unmatched.most_common()),
            conflicts=dict(truth.conflicts),
            uncertain=dict(truth.uncertain),
            unused=truth.unused,
        )
    if experts:
        yield Source(
            name=experts.source,
            layout="DICOM",
            key="sop_instance_uid",
            stated=experts.files,
            repeated=0,
            unmatched=dict(Counter(experts.unread).most_common()),
            conflicts={},
            uncertain={},
            unused=[],
        )
