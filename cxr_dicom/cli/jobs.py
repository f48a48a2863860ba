"""``cxr-dicom jobs``: what became of each study, and what a person can do about it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cxr_dicom.cli import Refused, _story
from cxr_dicom.cli._options import split
from cxr_dicom.cli._service import config_option, load_settings, open_actions, open_ledger, person
from cxr_dicom.cli._study import Naming, naming, since

STATES = ("RECEIVING", "COMPLETE", "RUNNING", "ENCODED", "SENT", "COMMITTED", "IGNORED", "HELD", "DEAD")
_SHOWN = 5  # reasons of many

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.group()
def jobs() -> None:
    """See and steer the studies of the service.

    STUDY is a Study Instance UID, or the beginning of one that begins no other.
    """


@jobs.command("list")
@config_option
@click.option("--state", type=click.Choice(STATES, case_sensitive=False), help="Only studies in this state.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True)
@_json
def list_(config: Path | None, state: str | None, limit: int, as_json: bool) -> None:
    """List studies, the latest change first, and say why each waits."""
    with open_ledger(config) as ledger:
        found = ledger.stories.summaries(state, limit=limit + 1)
    rows = found[:limit]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    for row in rows:
        click.echo("\n".join(_story.summary(row)))
    if len(found) > limit:
        click.echo(f"there are more than {limit}; --limit shows them", err=True)
    elif not rows:
        click.echo(f"no study{f' is {state}' if state else ' yet'}", err=True)


@jobs.command()
@config_option
@naming
@_json
def show(config: Path | None, naming: Naming, as_json: bool) -> None:
    """Tell the whole story of a study."""
    with open_ledger(config) as ledger:
        story = ledger.stories.show(naming.find(ledger)) or {}
    click.echo(json.dumps(story, indent=1) if as_json else "\n".join(_story.story(story)))


@jobs.command()
@config_option
@naming
@click.option(
    "--all", "is_all", is_flag=True, help="Every study that pauses, waits for a destination, or is DEAD or HELD."
)
@click.option("--state", type=click.Choice(STATES, case_sensitive=False), help="Every such study in this state.")
@click.option("--destination", metavar="NAME", help="Only send, and only to this destination.")
@click.option(
    "--since", metavar="TIME", callback=since, help="Every such study that changed since: 2026-11-28, 90min, 36h, 3d."
)
def retry(
    config: Path | None,
    naming: Naming,
    is_all: bool,
    state: str | None,
    destination: str | None,
    since: float | None,
) -> None:
    """Try again at once: send what was refused or waits, run what is DEAD, HELD or IGNORED.

    Without STUDY: all studies that the options name. IGNORED ones only with --state ignored.
    """
    if naming and (is_all or state or since):
        raise click.UsageError("expected one study, or --all, --state and --since, got both")
    if not naming and not (is_all or state or destination or since):
        raise click.UsageError("expected STUDY, --accession, --last, --all, --state, --destination or --since")
    from cxr_dicom.records import StudyState

    if destination:
        _expect_destination(destination, config)
    with open_actions(config) as (actions, ledger):
        if naming:
            study = naming.find(ledger)
            actions.retry(study, destination)
            click.echo(f"{study}: will be tried again")
            return
        found = actions.retry_all([StudyState(state)] if state else [], destination, since)
    for error in found.refused[:_SHOWN]:
        click.echo(str(error), err=True)
    if left := len(found.refused):
        click.echo(f"{left} cannot be tried again", err=True)
    click.echo(f"{_story.count(len(found.studies), 'study', 'studies')} will be tried again")


@jobs.command()
@config_option
@naming
@click.option("--destination", metavar="NAME", help="Only to this destination.")
def resend(config: Path | None, naming: Naming, destination: str | None) -> None:
    """Send the objects of a study once more, also those that were taken: the same instances, byte for byte."""
    if destination:
        _expect_destination(destination, config)
    with open_actions(config) as (actions, ledger):
        study = naming.find(ledger)
        actions.resend(study, destination)
    click.echo(f"{study}: will be sent again")


@jobs.command()
@config_option
@naming
@click.option(
    "--models",
    metavar="NAME,...",
    help="Models in the order in which they run, also for images that come later; default: those of the settings.",
)
def reprocess(config: Path | None, naming: Naming, models: str | None) -> None:
    """Process a study again, whatever became of it, with the models of the settings or with others.

    Its images must still be in the spool. What is made takes the place of what was made, and is sent likewise.
    """
    from cxr_dicom.infer.catalogue import expect_runnable

    names = split(models) or []
    with open_actions(config) as (actions, ledger):
        study = naming.find(ledger)
        expect_runnable(names, load_settings(config))
        actions.reprocess(study, names)
    click.echo(f"{study}: will be processed again")


@jobs.command()
@config_option
@naming
def complete(config: Path | None, naming: Naming) -> None:
    """Close a study that still waits for images."""
    with open_actions(config) as (actions, ledger):
        study = naming.find(ledger)
        actions.complete(study)
    click.echo(f"{study}: complete")


@jobs.command()
@config_option
@naming
@_yes
def forget(config: Path | None, naming: Naming, yes: bool) -> None:
    """Delete a study from ledger and spool, delivered or not, at work or not. Destinations keep what they have."""
    with open_actions(config) as (actions, ledger):
        study = naming.find(ledger)
        _expect_yes(yes, f"Delete {study} ({ledger.stories.state(study)}) from this machine?")
        actions.forget(study)
    click.echo(f"{study}: forgotten")


@jobs.command()
@config_option
@click.option("--destination", required=True, help="Its name, in the settings or formerly there.")
@_yes
def withdraw(config: Path | None, destination: str, yes: bool) -> None:
    """Give up all that waits for a destination, to be sent or verified. Nothing brings it back."""
    with open_actions(config) as (actions, ledger):
        waiting = ledger.deliveries.open().get(destination, 0)
        _expect_yes(yes or not waiting, f"Give up {waiting} objects that wait for {destination}?")
        withdrawn = actions.withdraw(destination)
    click.echo(f"{destination}: {withdrawn} objects withdrawn")


@jobs.command()
@config_option
@click.option("--destination", required=True, help="Its name in the settings.")
def pause(config: Path | None, destination: str) -> None:
    """Send nothing to a destination until `resume`; what waits for it is not given up meanwhile."""
    _expect_destination(destination, config)
    with open_actions(config) as (actions, _):
        actions.pause(destination)
    click.echo(f"{destination}: paused")


@jobs.command()
@config_option
@click.option("--destination", required=True, help="Its name, in the settings or formerly there.")
def resume(config: Path | None, destination: str) -> None:
    """Send to a paused destination again."""
    with open_actions(config) as (actions, _):
        actions.resume(destination)
    click.echo(f"{destination}: resumed")


@jobs.command()
@config_option
@_yes
def rebuild(config: Path | None, yes: bool) -> None:
    """Make a new ledger of the files in the spool, when the old one is damaged; stop the service first.

    The old ledger stays beside the new one. Every image is processed again, and what is made of it is sent again.
    """
    from cxr_dicom.errors import CxrDicomError
    from cxr_dicom.service import recovery
    from cxr_dicom.store.audit import AuditTrail
    from cxr_dicom.store.spool import Spool

    settings = load_settings(config)
    _expect_yes(yes, f"Process and deliver all images in {settings.spool.folder} again?")
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


def _expect_destination(name: str, config: Path | None) -> None:
    """Refuse a destination that the settings do not name: to no other can anything be sent."""
    known = [each.name for each in load_settings(config).destinations]
    if name not in known:
        raise Refused(f"--destination: expected one of {', '.join(known) or 'those in the settings, which has none'}")


def _expect_yes(is_said: bool, question: str) -> None:
    """Ask a person; end the command where the answer is no, or nobody is there to give one."""
    try:
        if is_said or click.confirm(question):
            return
    except click.Abort:
        click.echo(err=True)
        raise Refused("nothing was done, for nobody said yes; --yes says it") from None
    raise Refused("nothing was done")
