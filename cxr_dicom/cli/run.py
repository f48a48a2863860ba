"""``cxr-dicom run``: radiographs in, wherever they are; DICOM objects, results and a report out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cxr_dicom.cli import _inputs, _options


@click.command(
    epilog="Exit codes: 0 all eligible images processed, 2 the command cannot start, 3 some failed,"
    " 4 nothing eligible, 5 stopped because the destination is down or the disk full, 130 interrupted."
)
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option("-o", "--out", required=True, type=_options.OutputFolder(), help="Output folder.")
@_inputs.input_options
@_options.pipeline_options
@_inputs.engine_options
@click.option("--also", metavar="FORMAT,...", help="Write masks and pictures too: png, npz, nifti, coco.")
@click.option("--to", "destination", metavar="NAME", help="Send the objects to this one of [[destinations]].")
@click.option(
    "--part",
    "part_text",
    metavar="I/N",
    help="Only this of N parts of the input, each a command; the last writes the tables.",
)
@click.option("--dry-run", is_flag=True, help="Only count the images, and estimate time and size.")
@click.option("--retry-failed", is_flag=True, help="Process again what failed in an earlier run.")
@click.option("--take-over", is_flag=True, help="Take OUT over from a run on another machine that is gone.")
@_options.run_options
def run(
    inputs: tuple[str, ...],
    out: Path,
    origin: str | None,
    query: tuple[str, ...],
    wrap: bool,
    engine: str | None,
    workers: tuple[int, int | None] | None,
    address: str | None,
    gpus_per_worker: float | None,
    also: str | None,
    destination: str | None,
    part_text: str | None,
    dry_run: bool,
    retry_failed: bool,
    take_over: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
    **given: Any,
) -> None:
    """Process chest radiographs: one, or a hundred thousand.

    INPUT is a DICOM file; a folder, searched to any depth; a table (CSV, TSV, Parquet) or a list of paths, URLs
    or UIDs; an idc-index or s5cmd manifest; or the URL of a study or a bucket. The kind is recognised from the
    content, and kinds can be mixed. Without INPUT, --from and --query ask a server.

    Objects go to OUT, one folder per study, beside results.jsonl, tables and report.html. An
    interrupted run continues where it stopped.
    """
    from cxr_dicom.cli._terminal import progress
    from cxr_dicom.cohort import engine as engines
    from cxr_dicom.cohort import run as cohort_run
    from cxr_dicom.cohort.options import Options
    from cxr_dicom.cohort.session import Part
    from cxr_dicom.ingest import manifest
    from cxr_dicom.system import telemetry

    if wrap and destination:
        raise click.UsageError("--wrap makes instances that the destination does not have: send OUT yourself")
    telemetry.configure(-1 if quiet else verbose, as_json=as_json)
    with _options.refusals(), progress(is_quiet=quiet or as_json or dry_run) as report_progress:
        settings = _options.settings(**given)
        if given["models"] is None:
            settings.expect_one_way()
        access = _inputs.access(origin, settings)
        part = Part.parse(part_text) if part_text else None
        found = manifest.read(inputs, origin=access, query=_inputs.keys_and_values(query), wrap=wrap)
        share = part.share(found) if part else found
        least, most = workers or (None, None)
        worker_options = engines.EngineOptions(
            workers=least, most_workers=most, address=address, gpus_per_worker=gpus_per_worker
        )
        chosen = engines.build_engine(
            engine or engines.default_engine(len(share.entries), worker_options), worker_options
        )
        formats = tuple(_options.split(also) or ())
        options = Options(force=force, retry_failed=retry_failed, also=formats, destination=destination, access=access)
        if dry_run:
            return _inputs.estimate(share, out, settings, options, chosen, as_json=as_json)
        tally = cohort_run.run(
            found,
            out,
            settings,
            chosen,
            options=options,
            report_progress=report_progress,
            part=part,
            take_over=take_over,
        )
    _options.show(tally, out, as_json=as_json, quiet=quiet)
    is_empty = part is not None and not share.entries
    raise click.exceptions.Exit(0 if is_empty else _options.exit_code(tally))
