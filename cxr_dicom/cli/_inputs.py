"""What is processed and where: options of ``run``, and what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cxr_dicom.cli._options import Function, add

if TYPE_CHECKING:
    from cxr_dicom.cohort.engine import Engine
    from cxr_dicom.cohort.options import Options
    from cxr_dicom.config import Settings
    from cxr_dicom.config.service import HttpAccess
    from cxr_dicom.ingest.manifest import Manifest

_INPUTS = (
    click.option("--wrap", is_flag=True, help="Take PNG and JPEG radiographs too, as DX instances."),
    click.option(
        "--from", "origin", metavar="URL", help="DICOMweb server that has the studies; or an archive of [poller]."
    ),
    click.option(
        "--query", multiple=True, metavar="KEY=VALUE", help="Ask that server, e.g. StudyDate=20240101-20241231."
    ),
)
_ENGINE = (
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        help="Worker processes. Default: up to 100 studies in this process, else one for each core; with Ray"
        " as many as find room.",
    ),
    click.option("--engine", metavar="NAME", help="here, local, ray, or one of an installed package."),
    click.option("--address", help="Ray: of an existing cluster; default: this machine."),
    click.option("--gpus-per-worker", type=click.FloatRange(min=0), help="Ray: GPUs of a worker, or a part of one."),
)


def input_options(function: Function) -> Function:
    """Add the options that say what is processed."""
    return add(_INPUTS, function)


def engine_options(function: Function) -> Function:
    """Add the options that say where it is processed."""
    return add(_ENGINE, function)


def access(origin: str | None, settings: Settings) -> HttpAccess | None:
    """Find the archive of this name in the settings; else it is a URL that lets everybody in."""
    from pydantic import ValidationError

    from cxr_dicom.config.service import DicomwebArchive, HttpAccess

    named = {archive.name: archive for archive in settings.poller.archives if isinstance(archive, DicomwebArchive)}
    if origin is None or origin in named:
        return named[origin] if origin else None
    if not origin.startswith(("http://", "https://")):
        known = ", ".join(named) or "none"
        raise click.BadParameter(f"{origin!r} is neither a URL nor a DICOMweb archive of [poller]: {known}")
    try:
        return HttpAccess(url=origin)
    except ValidationError:
        raise click.BadParameter("--from: expected a URL without user and password: [poller] has them") from None


def keys_and_values(given: Sequence[str]) -> dict[str, str]:
    """Split a query into keys and values."""
    if wrong := [text for text in given if "=" not in text]:
        raise click.BadParameter(f"--query {wrong[0]}: expected KEY=VALUE")
    return dict(text.split("=", 1) for text in given)


def estimate(
    manifest: Manifest, out: Path, settings: Settings, options: Options, engine: Engine, *, as_json: bool
) -> None:
    """Print how much there is to process."""
    from cxr_dicom.cli._terminal import estimated
    from cxr_dicom.cohort import estimate as estimates
    from cxr_dicom.cohort.run import without_own_output
    from cxr_dicom.cohort.task import check

    check(settings, options)
    workers = engine.description.workers or 1
    found = estimates.estimate(without_own_output(manifest, out), settings, workers)
    click.echo(json.dumps(asdict(found) | {"workers": workers}) if as_json else estimated(found, workers))
