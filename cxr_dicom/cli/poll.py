"""``cxr-dicom poll``: fetch what is new, process it, deliver it; for cron, and by hand for a list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cxr_dicom.cli import EXIT_FAILED, Refused
from cxr_dicom.cli._service import config_option, config_path, person

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cxr_dicom.ingest.polling import Round

_list = click.Path(exists=True, dir_okay=False, path_type=Path)


_CODES = (
    "Exit codes: 0 done, 2 cannot start (also: another service has the spool), 3 an archive failed, or none has what"
    " was listed."
)


@click.command(epilog=_CODES)
@config_option
@click.option("--once", is_flag=True, help="One round; then process and deliver what came, and end.")
@click.option("--uids", type=_list, help="File of Study Instance UIDs, one a line: fetch these, once.")
@click.option("--accessions", type=_list, help="File of accession numbers, one a line: fetch these, once.")
@click.option("--json", "as_json", is_flag=True, help="Log in JSON lines.")
@click.option("-v", "--verbose", is_flag=True, help="Log what happens.")
def poll(
    config: Path | None, once: bool, uids: Path | None, accessions: Path | None, as_json: bool, verbose: bool
) -> None:
    """Ask the archives of [poller] for studies, and fetch the images that are missing.

    Needs the spool for itself: a running `serve` polls on its own. Two runs never overlap.
    """
    from cxr_dicom.config import load
    from cxr_dicom.errors import CxrDicomError
    from cxr_dicom.ingest.folder import is_uid
    from cxr_dicom.service import service
    from cxr_dicom.system import telemetry

    telemetry.configure(int(verbose), as_json=as_json)
    path = config_path(config)
    listed = [
        _listed(uids, is_uid, "a Study Instance UID"),
        _listed(accessions, _is_accession_number, "an accession number without wildcards"),
    ]
    try:
        if once or uids or accessions:
            rounds = service.poll_once(load(path), *map(list, listed), person=person())
        else:
            service.serve(lambda: service.polling_only(load(path)))
            return
    except CxrDicomError as error:
        raise Refused(str(error)) from error
    print_rounds(rounds)
    missing = _missing(rounds, *listed)
    for line in missing:
        click.echo(line)
    has_failed = any(made.error or made.failed for made in rounds)
    raise click.exceptions.Exit(EXIT_FAILED if has_failed or missing else 0)


def _missing(rounds: Sequence[Round], uids: Mapping[str, str], accessions: Mapping[str, str]) -> list[str]:
    """Say which lines of the lists no archive has a study of; an accession number is not repeated."""
    lines = [f"{line}: {uid}: no archive has it" for uid, line in uids.items() if _is_missing(rounds, uid)]
    return lines + [f"{line}: no archive has it" for number, line in accessions.items() if _is_missing(rounds, number)]


def _is_missing(rounds: Sequence[Round], key: str) -> bool:
    """Whether every archive was asked for it, and answered that it has none."""
    return all(any(key in (each.study_instance_uid, each.accession_number) for each in made.missing) for made in rounds)


def _listed(path: Path | None, is_one: Callable[[str], bool], what: str) -> dict[str, str]:
    """Read a list, each with where it stands.

    A line that is none of it, or an empty list, would ask archives for far more than was meant.
    """
    if path is None:
        return {}
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    for number, line in lines:
        if not is_one(line):
            raise Refused(f"{path}: line {number}: expected {what}")
    if not lines:
        raise Refused(f"{path}: expected {what} a line, found none")
    return {line: f"{path}: line {number}" for number, line in lines}


def _is_accession_number(text: str) -> bool:
    return not set(text) & set("*?\\")


def print_rounds(rounds: Sequence[Round]) -> None:
    """Say what each archive gave, and what it was asked for where that was nothing."""
    for made in rounds:
        counts = f"{made.studies} studies, {made.instances} images, {made.refused} refused, {made.failed} not given"
        counts += f", {made.put_off} studies put off" if made.put_off else ""
        if not made.studies and not made.error:
            match = f"{made.found} studies match, nothing of them is new" if made.found else "no study matches"
            counts += f"; asked for {made.asked}: {match}"
        click.echo(f"{made.archive}: {counts}{'; ' if made.error else ''}{made.error}")
