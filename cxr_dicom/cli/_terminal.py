"""What a run shows on a terminal: progress on standard error, a summary on standard output."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cxr_dicom.cohort import Progress
    from cxr_dicom.tally import Tally

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


def summary(tally: Tally, out: Path) -> str:
    """Say in a few lines what was made, what was not and why, and where to look."""
    images = tally.images
    lines = [
        f"{images['processed']} processed, {images['skipped']} skipped, {images['failed']} failed; "
        f"{tally.objects} DICOM objects",
        *(f"  {outcome}: {count} x {reason}" for (outcome, reason), count in sorted(tally.reasons.items())),
    ]
    if tally.models:
        lines.append(f"models: {', '.join(dict.fromkeys(name for name, _, _ in tally.models))}")
        if not tally.has_scores:
            lines.append("no finding scores: fetch a classifier with `cxr-dicom models pull xrv-densenet121-all`")
    lines.append(f"report: {out / 'report.html'}")
    return "\n".join(lines)


def _line(progress: Progress) -> None:
    if done := progress.latest:
        outcomes = Counter({outcome: 0 for outcome, _ in done.outcomes})
        for (outcome, _), count in done.outcomes.items():
            outcomes[outcome] += count
        counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        kept = ", kept from an earlier run" if done.is_reused else ""
        click.echo(f"[{progress.tally.done}/{progress.tally.total}] {done.key}: {counts}{kept}", err=True)


@contextmanager
def _bar() -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        yield lambda progress: bar.update(
            task, description="studies", completed=progress.tally.done, total=progress.tally.total
        )
