"""What a run shows on a terminal: progress on standard error, a summary on standard output."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cxr_dicom.cli._words import counts, duration, size

if TYPE_CHECKING:
    from rich.console import Console

    from cxr_dicom.cohort.estimate import Estimate
    from cxr_dicom.cohort.finished import Done
    from cxr_dicom.cohort.run import Progress
    from cxr_dicom.cohort.tally import Tally
    from cxr_dicom.cohort.worker import Worker

    ReportProgress = Callable[[Progress], None]


_PLAIN_WIDTH = 240  # characters of a line where there is no terminal: no UID is cut off
EACH_UP_TO = 100  # entries that get a line of their own where there is no terminal
_WRAP = "PNG and JPEG pictures are skipped: --wrap takes them, as DX images"
_LINE_SECONDS = 10.0  # between lines of a larger run


def console() -> Console:
    """Return standard output for tables."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH)


@contextmanager
def progress(*, is_quiet: bool) -> Iterator[ReportProgress]:
    """Yield the function that shows the progress of a run: a live view on a terminal, else lines."""
    if is_quiet:
        yield lambda progress: None
    elif sys.stderr.isatty():
        from cxr_dicom.cli._live import live_view

        with live_view() as report:
            yield report
    else:
        yield _Lines().report


def summary(tally: Tally, out: Path) -> str:
    """Say in a few lines what was made, what was not and why, and where to look."""
    from cxr_dicom.records import Reason

    images = tally.images
    lines = [
        f"{images['processed']} processed, {images['skipped']} skipped, {images['failed']} failed; "
        f"{tally.objects} DICOM objects",
        *(f"  {outcome}: {count} x {reason}" for (outcome, reason), count in sorted(tally.reasons.items())),
    ]
    if any(reason == Reason.NOT_WRAPPED for _, reason in tally.reasons):
        lines.append(_WRAP)
    if images["failed"]:
        lines.append("what failed is not tried again unless you say --retry-failed")
    if tally.models:
        lines.append(f"models: {', '.join(dict.fromkeys(name for name, _, _ in tally.models))}")
        if not tally.has_scores:
            lines.append("no finding scores: fetch a classifier with `cxr-dicom models pull xrv-densenet121-all`")
    lines.append(_where(tally, out))
    return "\n".join(lines)


def _where(tally: Tally, out: Path) -> str:
    if waiting := tally.unfinished_parts:
        count = len(waiting)
        return f"tables and report wait for {count} part{'s' * (count > 1)}, first {waiting[0]}; the last writes them"
    return f"report: {out / 'report.html'}"


class _Lines:
    """A line per entry of a small run; of a large one the first, then a line every few seconds, and the last."""

    def __init__(self) -> None:
        self._printed_at = -_LINE_SECONDS

    def report(self, progress: Progress) -> None:
        tally = progress.tally
        if not progress.latest:
            return
        if tally.total <= EACH_UP_TO:
            click.echo(f"[{tally.done}/{tally.total}] {_outcome(progress.latest)}", err=True)
        elif tally.seconds - self._printed_at >= _LINE_SECONDS or tally.done == tally.total:
            self._printed_at = tally.seconds
            click.echo(f"[{tally.done}/{tally.total}] {', '.join(counts(tally))}", err=True)


def told(worker: Worker) -> str:
    """Say in a line what a machine answered to the roll call."""
    if worker.refused:
        return f"{worker.host}: cannot work: {worker.refused}"
    versions = ", ".join(
        f"{name} {worker.versions[name]}" for name in ("cxr-dicom", "torch") if name in worker.versions
    )
    return f"{worker.host}: can work: {versions}, {worker.instruction_set or 'unknown'} ({worker.processor})"


def estimated(estimate: Estimate, workers: int) -> str:
    """Say in a few lines what a cohort will take."""
    from cxr_dicom.records import Reason

    counted = estimate.survey
    unknown = f", {counted.unknown_instances} studies with an unknown number" if counted.unknown_instances else ""
    modalities = ", ".join(f"{count} {name}" for name, count in sorted(counted.modalities.items())) or "not known"
    lines = [
        f"{counted.entries} studies, {counted.local} of them on this machine; {counted.instances} instances{unknown}",
        f"modalities: {modalities}; {size(counted.bytes)}{' and more' if counted.unknown_bytes else ''}",
        *(f"  not an instance: {count} x {reason}" for reason, count in sorted(counted.skipped.items())),
        *([_WRAP] if Reason.NOT_WRAPPED in counted.skipped else ()),
        f"headers read: {estimate.looked_at} instances, {estimate.eligible} eligible",
        *(f"  not eligible: {count} x {reason}" for reason, count in sorted(estimate.reasons.items())),
        f"expected: {estimate.images} images, {duration(estimate.seconds)} with {workers} worker{'s' * (workers > 1)}, "
        f"{size(estimate.bytes)} of objects; fetching not counted",
        f"  from a trial on {'a synthetic' if estimate.is_synthetic else 'the first eligible'} radiograph",
    ]
    return "\n".join(lines)


def _outcome(done: Done) -> str:
    images: Counter[str] = Counter()
    for (outcome, _), count in done.outcomes.items():
        images[outcome] += count
    counted = ", ".join(f"{count} {outcome}" for outcome, count in sorted(images.items()))
    return f"{done.key}: {counted}{', kept from an earlier run' if done.is_reused else ''}"
