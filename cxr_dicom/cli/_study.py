"""How a person names a study: a Study Instance UID or its beginning, an accession number, or the latest."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from cxr_dicom.cli import Refused

if TYPE_CHECKING:
    from cxr_dicom.store.ledger import Ledger

_SHOWN = 5  # candidates of an ambiguous name
_AGO = re.compile(r"(\d{1,6})\s*(m|min|h|d)", re.IGNORECASE)
_SECONDS = {"m": 60, "min": 60, "h": 3600, "d": 86400}

_OPTIONS = (
    click.argument("study", metavar="[STUDY]", required=False),
    click.option("--accession", metavar="NUMBER", help="The study with this accession number, read from its files."),
    click.option("--last", "is_last", is_flag=True, help="The study that changed last."),
)


class Naming:
    """What a person said about which study is meant."""

    def __init__(self, study: str | None, accession: str | None, is_last: bool) -> None:
        self._study, self._accession, self._is_last = study, accession, is_last
        if len([each for each in (study, accession, is_last) if each]) > 1:
            raise click.UsageError("expected one of STUDY, --accession and --last, got several")

    def __bool__(self) -> bool:
        return bool(self._study or self._accession or self._is_last)

    def find(self, ledger: Ledger) -> str:
        """Return the Study Instance UID of the one study that is meant."""
        if not self:
            raise click.UsageError("expected STUDY, --accession or --last, got none of them")
        if self._accession:
            found = with_accession_number(ledger, self._accession)
            missing = "no study in the spool has this accession number"
        elif self._is_last:
            found = [row["study_instance_uid"] for row in ledger.stories.summaries(limit=1)]
            missing = "there is no study yet"
        else:
            found = ledger.stories.matching(self._study or "", limit=_SHOWN + 1)
            missing = f"{self._study}: not in the ledger; `cxr-dicom jobs list` shows what is"
        if not found:
            raise Refused(missing)
        if len(found) > 1:
            more = ["..."] if len(found) > _SHOWN else []
            raise Refused("expected one study, found several:\n  " + "\n  ".join([*found[:_SHOWN], *more]))
        return found[0]


def naming(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the argument and the options that name a study; it gets a `Naming`."""

    @wraps(command)
    def named(study: str | None, accession: str | None, is_last: bool, **others: Any) -> None:
        command(naming=Naming(study, accession, is_last), **others)

    for option in reversed(_OPTIONS):
        named = option(named)
    return named


def with_accession_number(ledger: Ledger, number: str) -> list[str]:
    """Return the studies with an accession number, which only their files know: one file of each study is read."""
    from cxr_dicom.dicom.files import has_accession_number

    return [uid for uid, path in ledger.stories.a_file_of_each() if has_accession_number(path, number)]


def since(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Read a time of this place or so long ago; return seconds since 1970."""
    if value is None:
        return None
    if match := _AGO.fullmatch(value.strip()):
        return time.time() - int(match[1]) * _SECONDS[match[2].lower()]
    try:
        return datetime.fromisoformat(value.strip()).timestamp()
    except (ValueError, OverflowError) as error:
        expected = "2026-11-28, '2026-11-28 18:00', 90min, 36h or 3d"
        raise click.BadParameter(f"expected {expected}, got {value!r}") from error
