"""``cxr-dicom check``: try the settings here."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from cxr_dicom.cli import EXIT_FAILED, Refused
from cxr_dicom.cli._service import config_option, load_settings, other_user


@click.command(epilog="Exit codes: 0 all is well, 2 the settings cannot be read, 3 something is wrong.")
@config_option
@click.option("--models/--no-models", default=True, show_default=True, help="Load the models too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(config: Path | None, models: bool, as_json: bool) -> None:
    """Try everything that the settings name: addresses, TLS, disk, permissions, models.

    Other machines are tried by C-ECHO and QIDO-RS. The only change: weights that are used for the first time are
    converted and recorded. A ledger of an older version stays as it is until `serve` or `poll` uses it.
    """
    settings = load_settings(config)
    if stranger := other_user(settings.spool.folder.absolute()):
        raise Refused(stranger)
    from cxr_dicom.service import checks
    from cxr_dicom.system import telemetry

    telemetry.configure(-1)
    answers = list(checks.check(settings, models=models))
    if as_json:
        click.echo(json.dumps([asdict(answer) for answer in answers], indent=1))
    else:
        for answer in answers:
            click.echo(f"{answer.level:8} {answer.key}: {answer.text}")
    if any(answer.level is checks.Level.WRONG for answer in answers):
        raise click.exceptions.Exit(EXIT_FAILED)
