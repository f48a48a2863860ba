"""``cxr-dicom monitor``: does it still work."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cxr_dicom.cli import EXIT_FAILED, Refused
from cxr_dicom.cli._service import config_option, load_settings, open_ledger

if TYPE_CHECKING:
    from datetime import datetime

    from cxr_dicom.results.monitor import Report

_day = click.DateTime(["%Y-%m-%d"])


@click.command(epilog="Exit codes: 0 nothing changed, 2 usage, or too few days to compare, 3 an alarm.")
@config_option
@click.option("--reference", "reference_from", type=_day, help="First day of the reference period.")
@click.option("--reference-days", type=int, help="Its length: whole weeks.")
@click.option("--until", type=_day, help="Day after the last one that is compared; default: today (UTC).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def monitor(
    config: Path | None,
    reference_from: datetime | None,
    reference_days: int | None,
    until: datetime | None,
    as_json: bool,
) -> None:
    """Compare the last day and week of `serve` with a period in which all was well.

    Volume, refusals, views, calls, scores, the cardiothoracic ratio, implausible anatomy, time to delivery, models. The
    reference period is that of [monitor] in the settings; without it, the first 56 days.
    """
    from cxr_dicom.results.monitor import NotEnoughError

    try:
        report = _report(
            config, reference_from.date() if reference_from else None, reference_days, until.date() if until else None
        )
    except NotEnoughError as error:
        raise Refused(str(error)) from error
    if as_json:
        click.echo(json.dumps(report.as_dict(), ensure_ascii=False, allow_nan=False, indent=1))
    else:
        _show(report)
    if report.alarms:
        raise click.exceptions.Exit(EXIT_FAILED)


def _report(config: Path | None, reference_from: date | None, reference_days: int | None, until: date | None) -> Report:
    from pydantic import ValidationError

    from cxr_dicom.results.monitor import monitor, wanted

    given = {"reference": reference_from, "reference_days": reference_days}
    settings = load_settings(config).monitor
    try:
        settings = settings.model_validate(
            settings.model_dump() | {key: value for key, value in given.items() if value is not None}
        )
    except ValidationError as error:
        problem = error.errors()[0]
        raise Refused(f"{problem['loc'][0]}: {problem['msg']}") from error
    with open_ledger(config) as ledger:
        images = wanted(ledger, settings, until=until)
    return monitor(images, settings, until=until)


def _show(report: Report) -> None:
    begin, end = report.reference
    click.echo(
        f"{report.day}: {report.images['1']} images in a day, {report.images['7']} in 7 days;"
        f" reference {begin} to {end}, {report.reference_images} images"
    )
    for alarm in report.alarms:
        click.echo(f"ALARM since {alarm.since}: {alarm.text}")
    if not report.alarms:
        click.echo(f"nothing changed in {report.tests} tests")
    for what, why in report.skipped.items():
        click.echo(f"not tested: {what}: {why}", err=True)
