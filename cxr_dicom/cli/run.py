"""``cxr-dicom run``: files and folders in, DICOM objects, results and a report out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxr_dicom.cli import EXIT_FAILED, EXIT_NOTHING, Refused
from cxr_dicom.cli._terminal import progress, summary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cxr_dicom.config import Settings
    from cxr_dicom.tally import Tally

    Overrides = dict[str, dict[str, Any]]  # by table and key; None: not given


@click.command(epilog="Exit codes: 0 all eligible images processed, 2 usage, 3 some failed, 4 nothing eligible.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Output folder.")
@click.option("--models", metavar="NAME,...", help="Models, in the order in which they run; auto: what is installed.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="Settings file (TOML).")
@click.option(
    "--geometry", type=click.Choice(["viewer", "strict"]), help="viewer: with a synthetic Frame of Reference."
)
@click.option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Worker processes.")
@click.option("--force", is_flag=True, help="Process again what is already finished.")
@click.option("--json", "as_json", is_flag=True, help="Print the rows of results.jsonl; log in JSON lines.")
@click.option("-q", "--quiet", is_flag=True, help="Only errors.")
@click.option("-v", "--verbose", count=True, help="Log what happens; twice for everything.")
def run(
    paths: tuple[Path, ...],
    out: Path,
    models: str | None,
    config: Path | None,
    geometry: str | None,
    device: str | None,
    jobs: int,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
) -> None:
    """Process chest radiographs in files and folders.

    Folders are searched through, whatever the files are called. Objects go to OUT, one folder per
    study, beside results.jsonl, results.csv and report.html.
    """
    from cxr_dicom import telemetry

    telemetry.configure(-1 if quiet else verbose, as_json=as_json)
    overrides: Overrides = {"models": {"names": _names(models), "device": device}, "encode": {"geometry": geometry}}
    tally = process(paths, out, config, overrides, jobs=jobs, force=force, is_quiet=quiet or as_json)
    if as_json:
        _print_rows(out)
    elif not quiet:
        click.echo(summary(tally, out))
    raise click.exceptions.Exit(exit_code(tally))


def process(
    paths: Sequence[Path],
    out: Path,
    config: Path | None,
    overrides: Overrides,
    *,
    jobs: int = 1,
    force: bool = False,
    is_quiet: bool = False,
) -> Tally:
    """Run with settings from ``config`` and ``overrides``; a named error becomes a usage error."""
    from cxr_dicom import cohort
    from cxr_dicom.cohort_task import Options
    from cxr_dicom.engine._here import Here
    from cxr_dicom.engine.local import Local
    from cxr_dicom.errors import CxrDicomError
    from cxr_dicom.ingest import manifest

    try:
        settings = _settings(config, overrides)
        with progress(is_quiet=is_quiet) as tell:
            engine = Local(jobs) if jobs > 1 else Here()
            return cohort.run(manifest.read(paths), out, settings, engine, options=Options(force=force), tell=tell)
    except CxrDicomError as error:
        raise Refused(str(error)) from error


def exit_code(tally: Tally) -> int:
    """Tell scripts how a run went."""
    if tally.images["failed"]:
        return EXIT_FAILED
    return 0 if tally.images["processed"] else EXIT_NOTHING


def _names(models: str | None) -> list[str] | None:
    return [name.strip() for name in models.split(",") if name.strip()] if models is not None else None


def _settings(config: Path | None, overrides: Overrides) -> Settings:
    from cxr_dicom.config import load

    given = {table: {key: v for key, v in keys.items() if v is not None} for table, keys in overrides.items()}
    return load(config, {table: keys for table, keys in given.items() if keys})


def _print_rows(out: Path) -> None:
    with (out / "results.jsonl").open(encoding="utf-8") as rows:
        for row in rows:
            click.echo(row, nl=False)
