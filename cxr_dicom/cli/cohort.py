"""``cxr-dicom cohort``: many studies, wherever they are, on one machine or many."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxr_dicom.cli import Refused, Stopped, _options

if TYPE_CHECKING:
    from cxr_dicom.cohort.engine import Engine
    from cxr_dicom.config import Settings
    from cxr_dicom.config.service import HttpAccess
    from cxr_dicom.ingest.manifest import Manifest


@click.command(
    epilog="Exit codes: 0 all eligible images processed, 2 usage, 3 some failed, 4 nothing eligible,"
    " 5 stopped because the destination is down."
)
@click.argument("manifest", required=False, metavar="[MANIFEST]")
@click.option("-o", "--out", required=True, type=click.Path(file_okay=False, path_type=Path), help="Output folder.")
@click.option(
    "--from", "origin", metavar="URL", help="DICOMweb server that has the studies; or an archive of [poller]."
)
@click.option("--query", multiple=True, metavar="KEY=VALUE", help="Ask that server, e.g. StudyDate=20240101-20241231.")
@click.option("--wrap", is_flag=True, help="Take PNG and JPEG radiographs too, as DX instances.")
@click.option(
    "--engine", metavar="NAME", default="local", show_default=True, help="local, ray, here, or that of a plugin."
)
@click.option(
    "--workers", type=click.IntRange(min=1), help="Worker processes; default: one for each core, or GPU with Ray."
)
@click.option("--address", help="Ray: of an existing cluster; default: this machine.")
@click.option("--gpus-per-worker", type=click.FloatRange(min=0), help="Ray: GPUs of a worker, or a part of one.")
@click.option("--also", metavar="FORMAT,...", help="Write masks and pictures too: png, npz, nifti, coco.")
@click.option("--to", "destination", metavar="NAME", help="Send the objects to this one of [[destinations]].")
@click.option("--retry-failed", is_flag=True, help="Process again what failed or was set aside.")
@click.option("--dry-run", is_flag=True, help="Say what there is, and how long and large it will be; then end.")
@_options.pipeline_options
@_options.run_options
def cohort(
    manifest: str | None,
    out: Path,
    origin: str | None,
    query: tuple[str, ...],
    wrap: bool,
    engine: str,
    workers: int | None,
    address: str | None,
    gpus_per_worker: float | None,
    also: str | None,
    destination: str | None,
    retry_failed: bool,
    dry_run: bool,
    force: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
    **given: Any,
) -> None:
    """Process a cohort of chest radiographs.

    MANIFEST is a folder, a CSV or Parquet table with paths or UIDs, an idc-index or s5cmd manifest, or a list of
    Study Instance UIDs; what it is, is recognised. Killed and started again, it goes on where it was.
    """
    from cxr_dicom.cli._terminal import progress
    from cxr_dicom.cohort import run as cohorts
    from cxr_dicom.cohort.delivery import DestinationDownError
    from cxr_dicom.cohort.engine import EngineOptions, build_engine
    from cxr_dicom.cohort.task import Options, check
    from cxr_dicom.errors import CxrDicomError
    from cxr_dicom.ingest.manifest import read
    from cxr_dicom.system import telemetry

    telemetry.configure(-1 if quiet else verbose, as_json=as_json)
    try:
        if wrap and destination:
            raise click.UsageError("--wrap makes instances that the destination does not have: send OUT yourself")
        settings = _options.settings(**given)
        access = _access(origin, settings)
        found = read(manifest or "", origin=access, query=_query(query), wrap=wrap)
        chosen = build_engine(engine, EngineOptions(workers=workers, address=address, gpus_per_worker=gpus_per_worker))
        options = Options(
            force=force,
            has_figures=False,
            retry_failed=retry_failed,
            also=tuple(_options.split(also) or ()),
            destination=destination,
            access=access,
        )
        if dry_run:
            check(settings, options)
            _estimate(cohorts.without_own_output(found, out), settings, chosen, as_json=as_json)
            return
        with progress(is_quiet=quiet or as_json) as tell:
            tally = cohorts.run(found, out, settings, chosen, options=options, tell=tell)
    except DestinationDownError as error:
        raise Stopped(str(error)) from error
    except CxrDicomError as error:
        raise Refused(str(error)) from error
    _options.show(tally, out, as_json=as_json, quiet=quiet)
    raise click.exceptions.Exit(_options.exit_code(tally))


def _access(origin: str | None, settings: Settings) -> HttpAccess | None:
    """Find the archive of this name in the settings; else it is a URL that lets everybody in."""
    from pydantic import ValidationError

    from cxr_dicom.config.service import DicomwebArchive, HttpAccess

    named = {each.name: each for each in settings.poller.archives if isinstance(each, DicomwebArchive)}
    if origin is None or origin in named:
        return named[origin] if origin else None
    if not origin.startswith(("http://", "https://")):
        known = ", ".join(named) or "none"
        raise click.BadParameter(f"{origin!r} is neither a URL nor a DICOMweb archive of [poller]: {known}")
    try:
        return HttpAccess(url=origin)
    except ValidationError:
        raise click.BadParameter("--from: expected a URL without user and password: [poller] has them") from None


def _query(given: tuple[str, ...]) -> dict[str, str]:
    if wrong := [each for each in given if "=" not in each]:
        raise click.BadParameter(f"--query {wrong[0]}: expected KEY=VALUE")
    return dict(each.split("=", 1) for each in given)


def _estimate(manifest: Manifest, settings: Settings, engine: Engine, *, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from cxr_dicom.cli._terminal import estimated
    from cxr_dicom.cohort.estimate import estimate

    workers = int(str(engine.description.get("workers") or 1))
    found = estimate(manifest, settings, workers)
    click.echo(json.dumps(asdict(found) | {"workers": workers}) if as_json else estimated(found, workers))
