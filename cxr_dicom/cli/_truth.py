"""Options of the commands that read a truth, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cxr_dicom.cli import Refused
from cxr_dicom.cli._service import load_settings

if TYPE_CHECKING:
    from cxr_dicom.config import Settings
    from cxr_dicom.config.service import ArchiveTable
    from cxr_dicom.results.evaluate import Reading

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--map", "columns", metavar="COLUMN=NAME", multiple=True, help="What a column of the table holds."),
    click.option("--patient", metavar="COLUMN", help="Column that says whose an image is; default: by study."),
    click.option(
        "--uncertain",
        type=click.Choice(["leave-out", "positive", "negative"]),
        default="leave-out",
        show_default=True,
        help="What a label of -1 counts as.",
    ),
    click.option(
        "--blank",
        type=click.Choice(["leave-out", "negative"]),
        default="leave-out",
        show_default=True,
        help="What a cell without a label counts as.",
    ),
)


def table_options(function: Function) -> Function:
    """Add the options that say how a table of truth is read; see `reading`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def reading(
    columns: tuple[str, ...], patient: str | None, uncertain: Any, blank: Any, by: tuple[str, ...] = ()
) -> Reading:
    """Return how a table is to be read."""
    from cxr_dicom.results.evaluate import Reading

    pairs = [text.rpartition("=") for text in columns]
    if wrong := [text for text, (name, _, target) in zip(columns, pairs, strict=True) if not (name and target)]:
        raise click.UsageError(f"--map: expected COLUMN=NAME, found {wrong[0]!r}")
    return Reading(
        columns={name: target for name, _, target in pairs}, patient=patient, by=by, uncertain=uncertain, blank=blank
    )


@contextmanager
def fetched_truth(out: Path, origin: str | None, config: Path | None) -> Iterator[tuple[Path, ...]]:
    """Give a folder with what experts say of the studies of ``out`` in an archive, while the block runs; or none."""
    if origin is None:
        yield ()
        return
    from cxr_dicom.cohort import experts
    from cxr_dicom.errors import CxrDicomError
    from cxr_dicom.results.evaluate.scored import read

    settings = load_settings(config)
    described = _archive(origin, settings)
    with TemporaryDirectory(prefix="cxr-dicom-") as place:
        folder = Path(place) / described.name
        folder.mkdir()
        try:
            refused = experts.fetch(described, settings, dict.fromkeys(read(out).studies), folder)
        except CxrDicomError as error:
            raise Refused(str(error)) from error
        for why, count in refused.items():
            click.echo(f"{count} instances {why}", err=True)
        yield (folder,)


def _archive(origin: str, settings: Settings) -> ArchiveTable:
    from pydantic import ValidationError

    from cxr_dicom.config.service import DicomwebArchive

    named = {archive.name: archive for archive in settings.poller.archives}
    if origin in named:
        return named[origin]
    if not origin.startswith(("http://", "https://")):
        raise click.BadParameter(
            f"--from: {origin!r} is neither a URL nor an archive of [poller]: {', '.join(named) or 'none'}"
        )
    try:
        return DicomwebArchive(kind="dicomweb", name="archive", url=origin)
    except ValidationError:
        raise click.BadParameter("--from: expected a URL without user and password: [poller] has them") from None
