"""``cxr-dicom jobs``: what became of each study, and what a person can do about it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cxr_dicom.cli import Refused
from cxr_dicom.cli._service import config_option, load_settings, open_actions, open_ledger, person

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cxr_dicom.store.ledger import Ledger

    Row = dict[str, Any]

STATES = ("RECEIVING", "COMPLETE", "RUNNING", "ENCODED", "SENT", "COMMITTED", "IGNORED", "HELD", "DEAD")

_study = click.argument("study", metavar="STUDY")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def jobs() -> None:
    """See and steer the studies of the service.

    STUDY is a Study Instance UID.
    """


@jobs.command("list")
@config_option
@click.option("--state", type=click.Choice(STATES, case_sensitive=False), help="Only studies in this state.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@_json
def list_(config: Path | None, state: str | None, limit: int, as_json: bool) -> None:
    """List studies, the latest change first."""
    with open_ledger(config) as ledger:
        rows = ledger.stories.summaries(state, limit=limit)
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    _table(
        ("Study", "State", "Images", "Objects", "Changed", "Reason"),
        (
            (r["study_instance_uid"], r["state"], r["instances"], r["objects"], _when(r["changed_at"]), r["reason"])
            for r in rows
        ),
    )


@jobs.command()
@config_option
@_study
@_json
def show(config: Path | None, study: str, as_json: bool) -> None:
    """Tell the whole story of a study."""
    with open_ledger(config) as ledger:
        story = _story(ledger, study)
    if as_json:
        click.echo(json.dumps(story, indent=1))
        return
    click.echo(f"{study}: {story['state']} {story['reason']}".rstrip())
    click.echo(f"received {_when(story['received_at'])}, changed {_when(story['changed_at'])}")
    _table(("Image", "From", "Outcome", "Why"), (_image(row) for row in story["instances"]))
    _table(("Run", "Outcome", "Models", "Seconds"), (_run(row) for row in story["jobs"]))
    _table(
        ("Object", "Kind", "Destination", "State", "Said", "Attempts", "Next"),
        (line for row in story["objects"] for line in _object(row)),
    )


@jobs.command()
@config_option
@_study
def retry(config: Path | None, study: str) -> None:
    """Send again what was refused or waits; run again a study that is DEAD, HELD or IGNORED."""
    with open_actions(config) as actions:
        actions.retry(study)
    click.echo(f"{study}: will be tried again")


@jobs.command()
@config_option
@_study
def complete(config: Path | None, study: str) -> None:
    """Close a study that still waits for images."""
    with open_actions(config) as actions:
        actions.complete(study)
    click.echo(f"{study}: complete")


@jobs.command()
@config_option
@_study
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(config: Path | None, study: str, yes: bool) -> None:
    """Delete a study from ledger and spool, delivered or not, at work or not. Destinations keep what they have."""
    with open_ledger(config) as ledger:
        state = _story(ledger, study)["state"]
    yes or click.confirm(f"Delete {study} ({state}) from this machine?", abort=True)
    with open_actions(config) as actions:
        actions.forget(study)
    click.echo(f"{study}: forgotten")


@jobs.command()
@config_option
@click.option("--destination", required=True, help="Its name, in the settings or formerly there.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def withdraw(config: Path | None, destination: str, yes: bool) -> None:
    """Give up all that waits for a destination, to be sent or verified. Nothing brings it back."""
    with open_ledger(config) as ledger:
        waiting = ledger.deliveries.open().get(destination, 0)
    yes or not waiting or click.confirm(f"Give up {waiting} objects that wait for {destination}?", abort=True)
    with open_actions(config) as actions:
        withdrawn = actions.withdraw(destination)
    click.echo(f"{destination}: {withdrawn} objects withdrawn")


@jobs.command()
@config_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def rebuild(config: Path | None, yes: bool) -> None:
    """Make a new ledger of the files in the spool, when the old one is damaged; stop the service first.

    The old ledger stays beside the new one. Every image is processed again, and what is made of it is sent again.
    """
    from cxr_dicom.errors import CxrDicomError
    from cxr_dicom.service import recovery
    from cxr_dicom.store.audit import AuditTrail
    from cxr_dicom.store.spool import Spool

    settings = load_settings(config)
    yes or click.confirm(f"Process and deliver all images in {settings.spool.folder} again?", abort=True)
    try:
        spool = Spool(settings)
        spool.lock()
        try:
            found = recovery.rebuild(spool)
            told = person()
            AuditTrail(spool.folder).write("ledger_rebuilt", files=found.taken_in, by=told.name, via=told.via)
        finally:
            spool.unlock()
    except CxrDicomError as error:
        raise Refused(str(error)) from error
    click.echo(f"{found.taken_in} images taken in, {found.set_aside} files set aside in {spool.folder / 'unknown'}")


def _story(ledger: Ledger, study: str) -> Row:
    story = ledger.stories.show(study)
    if story is None:
        raise Refused(f"{study}: not in the ledger; `cxr-dicom jobs list` shows what is")
    return story


def _image(row: Row) -> tuple[object, ...]:
    why = f"{row['reason']}: {row['detail']}" if row["reason"] else ""
    return row["sop_instance_uid"], row["sender"] or "", row["outcome"] or "waits", why


def _run(row: Row) -> tuple[object, ...]:
    names = ", ".join(model["name"] for model in row["models"])
    return _when(row["finished_at"]), row["outcome"], names, round(sum(row["seconds"].values()), 1)


def _object(row: Row) -> Iterable[tuple[object, ...]]:
    head = (row["sop_instance_uid"], row["kind"])
    if not row["deliveries"]:
        yield (*head, "none", "", "", "", "")
    for delivery in row["deliveries"]:
        answer = f"{delivery['status']} {delivery['detail']}".strip()
        due = _when(delivery["next_attempt_at"]) if delivery["next_attempt_at"] else ""
        yield (*head, delivery["destination"], delivery["state"], answer, delivery["attempts"], due)


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _table(columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> None:
    from rich.table import Column, Table

    from cxr_dicom.cli._terminal import console

    table = Table(*(Column(name, overflow="fold") for name in columns))
    for row in rows:
        table.add_row(*map(str, row))
    console().print(table, markup=False)
