"""Which instances can be had: those that an output folder leads to, or those in the spool of the service."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cxr_dicom.dicom.files import Header, has_accession_number, read_header
from cxr_dicom.errors import ImageError
from cxr_dicom.ingest.folder import is_uid
from cxr_dicom.results.schema import Row
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.web.folder import Folder

_IDENTITY = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_MOST_CHECKED = 4096  # files whose identity is remembered


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """An instance, whose file says that it is this one."""

    study: str
    series: str
    uid: str
    path: Path

    def header(self, keywords: Sequence[str] = ()) -> Header:
        """Read the header, or some of it; see `read_header`."""
        return read_header(self.path, keywords)


class Holdings(ABC):
    """The instances that can be had.

    A path is believed only where the file there has the UIDs that are said of it: what is at that path may be another
    file by now, and rows of a folder may come from anywhere.
    """

    @abstractmethod
    def studies(self) -> Iterator[str]:
        """Yield Study Instance UIDs, in the order in which searches tell them."""

    def instances(self, study: str, series: str = "", uid: str = "") -> list[Held]:
        """Return instances of a study; with UIDs only those of a series, or one.

        An image that was fetched from elsewhere, or lies there no longer, is not among them.
        """
        found: dict[str, Held] = {}
        for each in self._named(study):
            is_wanted = series in ("", each.series) and uid in ("", each.uid)
            if is_wanted and each.uid not in found and _is_itself(each):
                found[each.uid] = each
        return list(found.values())

    def with_accession_number(self, number: str, seconds: float) -> tuple[list[str], bool]:
        """Return the studies with an accession number, which only their files know; and whether all were looked at.

        One file of each study is read, for so many seconds at most.
        """
        found: list[str] = []
        until = time.monotonic() + seconds
        for study in self.studies():
            if time.monotonic() > until:
                return found, False
            held = next((each for each in self._named(study) if _is_itself(each)), None)
            if held and has_accession_number(held.path, number):
                found.append(study)
        return found, True

    @abstractmethod
    def _named(self, study: str) -> Iterator[Held]:
        """Yield what is said to be there."""


class FolderHoldings(Holdings):
    """What an output folder leads to: the objects in it, and the images that its rows name."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def studies(self) -> Iterator[str]:
        """Yield Study Instance UIDs, in the order of the rows."""
        return filter(is_uid, self._folder.studies())

    def _named(self, study: str) -> Iterator[Held]:
        for row in self._folder.rows(study):
            series, uid = row["series_instance_uid"], row["sop_instance_uid"]
            source = self._folder.source(row) if series and uid else None
            if source and series and uid:
                yield Held(study=study, series=series, uid=uid, path=source)
            yield from self._objects(study, row)

    def _objects(self, study: str, row: Row) -> Iterator[Held]:
        for each in row["objects"]:
            if path := self._folder.file(each["path"]):
                yield Held(study=study, series=each["series_instance_uid"], uid=each["sop_instance_uid"], path=path)


class SpoolHoldings(Holdings):
    """What lies in the spool of the service: what was received, and what was made of it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def studies(self) -> Iterator[str]:
        """Yield Study Instance UIDs, the latest change first."""
        return self._ledger.overview.studies()

    def _named(self, study: str) -> Iterator[Held]:
        for row in self._ledger.overview.files(study):
            path = self._ledger.folder / row["path"]
            yield Held(study=study, series=row["series_instance_uid"], uid=row["sop_instance_uid"], path=path)


def _is_itself(held: Held) -> bool:
    try:
        state = held.path.stat()
        return _identity(held.path, state.st_size, state.st_mtime_ns) == (held.study, held.series, held.uid)
    except (OSError, ImageError):
        return False


@lru_cache(_MOST_CHECKED)
def _identity(path: Path, size: int, changed: int) -> tuple[str, ...]:
    """Return the UIDs that a file has, while its size and time are these."""
    header = read_header(path, _IDENTITY)
    return tuple(header.text(keyword) for keyword in _IDENTITY)
