"""What is processed and where: options of ``run``, and what becomes of them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxr_dicom.cli._options import Function, add

if TYPE_CHECKING:
    from cxr_dicom.cohort.engine import Engine
    from cxr_dicom.cohort.options import Options
    from cxr_dicom.config import Settings
    from cxr_dicom.config.service import HttpAccess
    from cxr_dicom.ingest.manifest import Manifest


class Workers(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions only
    """How many workers: a number, or bounds as ``2..16``; gives both bounds, the second None for a number."""

    name = "workers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int | None]:
        """Return the bounds."""
        if isinstance(value, tuple):
            return value
        found = re.fullmatch(r"([0-9]{1,6})(?:\.\.([0-9]{1,6}))?", str(value))
        least = int(found[1]) if found else 0
        most = int(found[2]) if found and found[2] else None
        if max(least, 1) > (least if most is None else most):
            self.fail(f"expected a number of 1 or more, or bounds as 2..16, found {value!r}", param, ctx)
        return least, most


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
        type=Workers(),
        metavar="N|A..B",
        help="Worker processes. Default: up to 100 studies in this process, else one for each core; with Ray"
        " as many as find room, also on machines that join later, and A..B: at least A and at most B of these.",
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
    from cxr_dicom.cli._terminal import estimated, told
    from cxr_dicom.cohort import estimate as estimates
    from cxr_dicom.cohort.engine import Machines
    from cxr_dicom.cohort.run import without_own_output
    from cxr_dicom.cohort.task import EntryTask, check
    from cxr_dicom.errors import CxrDicomError

    check(settings, options)
    if isinstance(engine, Machines):
        asked = engine.roll_call(manifest.entries, EntryTask(settings=settings, out=out, options=options))
        for worker in asked:
            click.echo(told(worker), err=as_json)
        if asked and all(worker.refused for worker in asked):
            raise CxrDicomError("no machine can work")
    workers = engine.description.workers or 1
    found = estimates.estimate(without_own_output(manifest, out), settings, workers)
    click.echo(json.dumps(asdict(found) | {"workers": workers}) if as_json else estimated(found, workers))
