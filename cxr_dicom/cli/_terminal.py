"""What a run shows on a terminal: progress on standard error, a summary on standard output."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cxr_dicom.cohort import Progress
    from cxr_dicom.results import Row

    Tell = Callable[[Progress], None]


@contextmanager
def progress(*, is_quiet: bool) -> Iterator[Tell]:
    """Give the function that shows how far a run is: a bar on a terminal, else a line per study."""
    if is_quiet:
        yield lambda progress: None
    elif sys.stderr.isatty():
        with _bar() as tell:
            yield tell
    else:
        yield _line


def summary(rows: Sequence[Row], out: Path) -> str:
    """Say in a few lines what was made, what was not and why, and where to look."""
    outcomes = Counter(row["outcome"] for row in rows)
    objects = {each["path"] for row in rows for each in row["objects"]}
    reasons = Counter((row["outcome"], row["reason"]) for row in rows if row["reason"])
    models = dict.fromkeys(model["name"] for row in rows for model in row["models"])
    lines = [
        f"{outcomes['processed']} processed, {outcomes['skipped']} skipped, {outcomes['failed']} failed; "
        f"{len(objects)} DICOM objects",
        *(f"  {outcome}: {count} x {reason}" for (outcome, reason), count in sorted(reasons.items())),
    ]
    if models:
        lines.append(f"models: {', '.join(models)}")
        if not any(row["scores"] for row in rows):
            lines.append("no finding scores: fetch a classifier with `cxr-dicom models pull xrv-densenet121-all`")
    lines.append(f"report: {out / 'report.html'}")
    return "\n".join(lines)


def _line(progress: Progress) -> None:
    if study := progress.latest:
        outcomes = Counter(row["outcome"] for row in study.rows)
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        kept = ", kept from an earlier run" if study.is_reused else ""
        click.echo(f"[{progress.done}/{progress.total}] {study.study_instance_uid}: {counts}{kept}", err=True)


@contextmanager
def _bar() -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda progress: bar.update(task, description="studies", completed=progress.done, total=progress.total)
