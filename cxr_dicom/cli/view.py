"""``cxr-dicom view``: an output folder in a browser."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_dicom.cli import Refused


@click.command(epilog="Exit codes: 0 ended, 2 cannot start. Ctrl-C ends it.")
@click.argument("out", metavar="OUT", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port of this machine; default: one that is free.")
@click.option("--open/--no-open", "opens", default=True, help="Open the browser of this machine.  [default: open]")
@click.option(
    "--ohif",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder of another build of OHIF.  [default: what `viewer install` brought, if anything]",
)
@click.option(
    "--tokens-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="File with the tokens of machines that may ask, as `web.tokens_file`.",
)
def view(out: Path, port: int | None, opens: bool, ohif: Path | None, tokens_file: Path | None) -> None:
    """Show what `run` wrote to OUT in a browser: its studies, pictures, numbers and objects.

    Nothing is changed. Only this machine reaches the pages, and only with the link that is printed.
    """
    from cxr_dicom.errors import CxrDicomError

    try:
        from cxr_dicom.web import view as viewing
    except ImportError as error:
        from cxr_dicom.errors import how_to_install

        raise Refused(f"the pages need starlette and uvicorn ({how_to_install('web')})") from error
    try:
        viewing.view(out, port, ohif, tokens_file, lambda link: _say(link, opens=opens))
    except CxrDicomError as error:
        raise Refused(str(error)) from error


def _say(link: str, *, opens: bool) -> None:
    click.echo(f"Open {link}\nIt is for you only: it shows pictures of patients. Ctrl-C ends it.")
    if opens:
        click.launch(link)
