"""What ``cxr-dicom evaluate`` prints on a terminal."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from cxr_dicom.cli import _terminal

if TYPE_CHECKING:
    from rich.console import Console

    from cxr_dicom.results.evaluate import Evaluation


def show(evaluation: Evaluation, output: Path | None) -> None:
    """Print an evaluation to standard output."""
    from cxr_dicom.results.evaluate.page import PAGE, estimate

    console = _terminal.console()

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False)

    unit = "studies, for the truth names no patients" if evaluation.grouped_by == "study" else "patients"
    say(f"{evaluation.images} images with a truth, of {evaluation.patients} {unit}")
    for source in evaluation.sources:
        for why, count in source.unmatched.items():
            say(f"{count} of {source.name} not used: {why}")
    _table(
        console,
        ("finding", "n", "positive", "AUROC", "average precision", "sensitivity", "specificity", "calibration error"),
        (
            (
                finding.name,
                finding.n,
                finding.positives,
                estimate(finding.auroc, 3),
                estimate(finding.average_precision, 3),
                estimate(finding.calls.sensitivity if finding.calls else None),
                estimate(finding.calls.specificity if finding.calls else None),
                estimate(finding.reliability.error, 3),
            )
            for finding in evaluation.findings
        ),
    )
    _table(
        console,
        ("differs", "group", "AUROC", "less the rest"),
        (
            (finding.name, f"{group.by} {group.value}", estimate(group.auroc), estimate(group.difference))
            for finding in evaluation.findings
            for group in finding.groups
            if group.differs
        ),
    )
    _table(
        console,
        ("measurement", "unit", "n", "bias", "limits of agreement"),
        (
            (m.name, m.unit, m.n, estimate(m.bias, 3), " to ".join(f"{value:.3g}" for value in m.limits or ()))
            for m in evaluation.anatomy.measurements
        ),
    )
    _table(
        console,
        ("structure", "n", "missed", "Dice", "mean distance mm", "95th percentile mm"),
        (
            (s.name, s.n, s.missed, estimate(s.dice, 3), estimate(s.mean_distance_mm), estimate(s.p95_distance_mm))
            for s in evaluation.anatomy.structures
        ),
    )
    if output:
        say(f"\n{output / PAGE}")


def _table(console: Console, columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    table = Table(box=SIMPLE_HEAD if console.is_terminal else None, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    if table.row_count:
        console.print()
        console.print(table)
