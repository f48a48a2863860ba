"""``cxr-dicom check``: try the settings here."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cxr_dicom.cli import EXIT_FAILED, Refused
from cxr_dicom.cli._service import DEFAULT_CONFIG, config_option, config_path, load_settings, other_user
from cxr_dicom.cli._words import wrapped

if TYPE_CHECKING:
    from cxr_dicom.service.checks import Check


@click.command(epilog="Exit codes: 0 all is well, 2 the settings cannot be read, 3 something is wrong.")
@config_option
@click.option("--models/--no-models", default=True, show_default=True, help="Load the models too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(config: Path | None, models: bool, as_json: bool) -> None:
    """Try everything that the settings name, and whether they fit each other: addresses, TLS, disk, rules, models.

    Other machines are tried by C-ECHO and QIDO-RS; a DICOM destination is asked for each SOP class that will be sent.
    While the service runs, it is asked how it is. The only change: weights that are used for the first time are
    converted and recorded. A ledger of an older version stays as it is until `serve` or `poll` uses it.
    """
    settings = load_settings(config)
    if stranger := other_user(settings.spool.folder.absolute()):
        raise Refused(stranger)
    from cxr_dicom.service import checks
    from cxr_dicom.system import telemetry

    telemetry.configure(-1)
    answers = []
    for answer in chain([_source(config)], checks.check(settings, with_models=models)):
        answers.append(answer)
        if not as_json:
            click.echo("\n".join(wrapped(f"{answer.key}: {answer.text}", first=f"{answer.level:9}", rest=" " * 9)))
    if as_json:
        click.echo(json.dumps([asdict(answer) for answer in answers], indent=1))
    if any(answer.level is checks.Level.WRONG for answer in answers):
        raise click.exceptions.Exit(EXIT_FAILED)


def _source(config: Path | None) -> Check:
    """Say where the settings come from."""
    from cxr_dicom.config import ENVIRONMENT_PREFIX
    from cxr_dicom.service.checks import Check, Level

    path = config_path(config)
    named = sorted(name for name in os.environ if name.upper().startswith(ENVIRONMENT_PREFIX))
    text = str(path.absolute()) if path else f"no file: there is no {DEFAULT_CONFIG} in {Path.cwd()}, and no --config"
    text += f"; and from the environment: {', '.join(named)}" if named else ""
    return Check(key="settings", level=Level.OK if path else Level.WARNING, text=text)
