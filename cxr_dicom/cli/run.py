"""``cxr-dicom run``: files and folders in, DICOM objects, results and a report out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxr_dicom.cli import Refused, _options

if TYPE_CHECKING:
    from cxr_dicom.cohort.tally import Tally
    from cxr_dicom.config import Settings


@click.command(epilog="Exit codes: 0 all eligible images processed, 2 usage, 3 some failed, 4 nothing eligible.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Output folder.")
@_options.pipeline_options
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Worker processes.")
@_options.run_options
def run(
    paths: tuple[Path, ...],
    out: Path,
    jobs: int,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
    **given: Any,
) -> None:
    """Process chest radiographs in files and folders.

    Folders are searched through, whatever the files are called. Objects go to OUT, one folder per
    study, beside results.jsonl, tables and report.html.
    """
    from cxr_dicom.errors import CxrDicomError
    from cxr_dicom.system import telemetry

    telemetry.configure(-1 if quiet else verbose, as_json=as_json)
    try:
        tally = process(paths, out, _options.settings(**given), jobs=jobs, force=force, is_quiet=quiet or as_json)
    except CxrDicomError as error:
        raise Refused(str(error)) from error
    _options.show(tally, out, as_json=as_json, quiet=quiet)
    raise click.exceptions.Exit(_options.exit_code(tally))


def process(
    paths: Sequence[Path], out: Path, settings: Settings, *, jobs: int = 1, force: bool = False, is_quiet: bool = False
) -> Tally:
    """Process files and folders, and show how far it is."""
    from cxr_dicom.cli._terminal import progress
    from cxr_dicom.cohort import run as cohort_run
    from cxr_dicom.cohort.engines.here import Here
    from cxr_dicom.cohort.engines.local import Local
    from cxr_dicom.cohort.task import Options
    from cxr_dicom.ingest import manifest

    with progress(is_quiet=is_quiet) as tell:
        engine = Local(jobs) if jobs > 1 else Here()
        return cohort_run.run(manifest.read(paths), out, settings, engine, options=Options(force=force), tell=tell)
