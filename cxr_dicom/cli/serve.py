"""``cxr-dicom serve``: the service."""

from __future__ import annotations

from pathlib import Path

import click

from cxr_dicom.cli import Refused
from cxr_dicom.cli._service import config_option, config_path


@click.command(epilog="Exit codes: 0 stopped, 2 cannot start.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Log in JSON lines.")
@click.option("-q", "--quiet", is_flag=True, help="Log only warnings.")
@click.option("-v", "--verbose", is_flag=True, help="Log everything.")
def serve(config: Path | None, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Receive, process and deliver until SIGTERM; SIGHUP reads the settings again."""
    from cxr_dicom.config import load
    from cxr_dicom.errors import CxrDicomError
    from cxr_dicom.service import service
    from cxr_dicom.system import telemetry

    telemetry.configure(0 if quiet else 1 + verbose, as_json=as_json)
    path = config_path(config)
    try:
        service.serve(lambda: load(path))
    except CxrDicomError as error:
        raise Refused(str(error)) from error
