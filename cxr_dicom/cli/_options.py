"""Options that commands share, and what becomes of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from cxr_dicom.cohort.tally import Tally
    from cxr_dicom.config import Settings

Function = TypeVar("Function", bound=Callable[..., Any])


class _Output(click.Path):
    """A path to write to. A URL is refused: as a path, ``s3://bucket`` is a local folder called ``s3:``."""

    what = "file"
    why = "files that are replaced whole need a file system; copy it afterwards"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path."""
        if url := re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", str(value)):
            self.fail(f"expected a {self.what}, found a URL ({url[0]}): {self.why}", param, ctx)
        return super().convert(value, param, ctx)


class OutputFile(_Output):
    """A file to write."""

    def __init__(self) -> None:
        super().__init__(dir_okay=False, path_type=Path)


class OutputFolder(_Output):
    """A folder to write to."""

    what = "folder"
    why = "locks, and files that are replaced whole, need a file system; copy the folder afterwards"

    def __init__(self) -> None:
        super().__init__(file_okay=False, path_type=Path)


_PIPELINE = (
    click.option(
        "--models",
        metavar="NAME,...",
        help="Models in the order in which they run; auto, the default, takes what is installed.",
    ),
    click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="Settings file (TOML)."),
    click.option(
        "--geometry",
        type=click.Choice(["viewer", "strict", "picture"]),
        help="viewer: with a synthetic Frame of Reference; strict: without; picture: as viewer, and pictures of the "
        "radiograph with what was found, for viewers that do not show the radiograph itself.",
    ),
    click.option("--device", metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps."),
)
_LOG = (
    click.option("--force", is_flag=True, help="Process finished studies again."),
    click.option("--json", "as_json", is_flag=True, help="Print the rows of results.jsonl; log in JSON lines."),
    click.option("-q", "--quiet", is_flag=True, help="Only errors."),
    click.option("-v", "--verbose", count=True, help="Log what happens; twice for everything."),
)


def add(options: tuple[Callable[[Function], Function], ...], function: Function) -> Function:
    """Add options to a command, the first on top."""
    for option in reversed(options):
        function = option(function)
    return function


def pipeline_options(function: Function) -> Function:
    """Add the options that change what a pipeline does; see `settings`."""
    return add(_PIPELINE, function)


def run_options(function: Function) -> Function:
    """Add the options that say how a run shows itself."""
    return add(_LOG, function)


def settings(config: Path | None, models: str | None, geometry: str | None, device: str | None) -> Settings:
    """Read the settings; what was given on the command line counts most."""
    from cxr_dicom.config import load

    overrides: dict[str, dict[str, Any]] = {
        "models": {"names": split(models), "device": device},
        "encode": {"geometry": geometry},
    }
    given = {table: {key: v for key, v in keys.items() if v is not None} for table, keys in overrides.items()}
    return load(config, {table: keys for table, keys in given.items() if keys})


@contextmanager
def refusals() -> Iterator[None]:
    """End the command with one line and its exit code, where the library says why it cannot go on."""
    from cxr_dicom.cli import Refused, Stopped
    from cxr_dicom.cohort.delivery import DestinationDownError
    from cxr_dicom.errors import CxrDicomError, WantError

    try:
        yield
    except (DestinationDownError, WantError) as error:
        raise Stopped(str(error)) from error
    except CxrDicomError as error:
        raise Refused(str(error)) from error


def split(names: str | None) -> list[str] | None:
    """Split a list at its commas."""
    return [name.strip() for name in names.split(",") if name.strip()] if names is not None else None


def exit_code(tally: Tally) -> int:
    """Return the exit code of a run."""
    from cxr_dicom.cli import EXIT_FAILED, EXIT_NOTHING

    if tally.images["failed"]:
        return EXIT_FAILED
    return 0 if tally.images["processed"] else EXIT_NOTHING


def show(tally: Tally, out: Path, *, as_json: bool, quiet: bool) -> None:
    """Print the outcome of a run."""
    from cxr_dicom.cli._terminal import summary

    if as_json and not tally.unfinished_parts:
        with (out / "results.jsonl").open(encoding="utf-8") as rows:
            for row in rows:
                click.echo(row, nl=False)
    elif not (quiet or as_json):
        click.echo(summary(tally, out))
