"""``cxr-dicom viewer``: OHIF, which `cxr-dicom view` then serves."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_dicom.cli import Refused


@click.group(short_help="OHIF for `cxr-dicom view`.")
def viewer() -> None:
    """OHIF, a viewer for DICOM, which `cxr-dicom view` then serves."""


@viewer.command(epilog="Exit codes: 0 it is there, 2 it is not.")
@click.argument("tarball", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def install(tarball: Path | None) -> None:
    """Bring OHIF to this machine, beside the folder of the weights.

    npm fetches it, or TARBALL is what `npm pack` made on a machine with a network. Its digest must be the pinned one.
    """
    from cxr_dicom.config import load
    from cxr_dicom.errors import CxrDicomError
    from cxr_dicom.web.ohif.install import PACKAGE, VERSION
    from cxr_dicom.web.ohif.install import install as bring

    try:
        folder = bring(tarball, load())
    except CxrDicomError as error:
        raise Refused(str(error)) from error
    click.echo(f"{PACKAGE} {VERSION}: {folder}")
