"""``cxr-dicom compare``: two runs over the same images, side by side."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cxr_dicom.cli import EXIT_FAILED, EXIT_NOTHING, Refused
from cxr_dicom.cli._options import OutputFile
from cxr_dicom.cli._service import config_option, share_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cxr_dicom.results.compare import Comparison

_run = click.Path(exists=True, file_okay=False, path_type=Path)
_part = click.FloatRange(0, 1)


@click.command(epilog="Exit codes: 0 compared, 2 usage, 3 less alike than asked for, 4 no image in both.")
@click.argument("a", metavar="A", type=_run)
@click.argument("b", metavar="B", type=_run)
@click.option("--html", metavar="FILE", type=OutputFile(), help="Write a page.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--masks/--no-masks", default=True, show_default=True, help="Read the segmentations, for Dice.")
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Processes that read them.")
@click.option("--min-agreement", type=_part, help="Lowest agreement of calls that is accepted.")
@click.option("--min-dice", type=_part, help="Lowest Dice of a mask that is accepted.")
def compare(
    a: Path,
    b: Path,
    html: Path | None,
    config: Path | None,
    as_json: bool,
    masks: bool,
    workers: int,
    min_agreement: float | None,
    min_dice: float | None,
) -> None:
    """Compare two output folders of `run`.

    Another model, version, device or setting on the same images: which calls changed, and how
    scores, measurements and masks differ. Differences are B minus A.
    """
    if min_dice is not None and not masks:
        raise click.UsageError("--min-dice needs the masks; leave out --no-masks")
    from cxr_dicom.results.compare import broken_limits

    if html:
        share_output(config)
    comparison = _compare(a, b, masks=masks, workers=workers, html=html)
    if as_json:
        click.echo(json.dumps(comparison.as_dict(), ensure_ascii=False, allow_nan=False, indent=1))
    else:
        from cxr_dicom.cli._comparison import show

        show(comparison)
    if not comparison.images:
        click.echo("no image is in both runs", err=True)
        raise click.exceptions.Exit(EXIT_NOTHING)
    broken = list(broken_limits(comparison, min_agreement, min_dice))
    for line in broken:
        click.echo(line, err=True)
    if broken:
        raise click.exceptions.Exit(EXIT_FAILED)


def _compare(a: Path, b: Path, *, masks: bool, workers: int, html: Path | None) -> Comparison:
    from cxr_dicom.errors import CxrDicomError
    from cxr_dicom.results.compare import compare, match, page

    try:
        runs = match(a, b)
        with _progress() as report_progress:
            comparison = compare(runs, masks=masks, jobs=workers, report_progress=report_progress)
        if html:
            page.write(html, comparison, runs)
    except CxrDicomError as error:
        raise Refused(str(error)) from error
    except OSError as error:
        raise Refused(f"{error.filename}: {error.strerror}") from error
    return comparison


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Yield the function that shows the progress of comparing masks: a bar on a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("comparing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
