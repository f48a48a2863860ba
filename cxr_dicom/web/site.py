"""What the pages show, wherever it lies: an output folder, or the spool of the running service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from cxr_dicom.results.report import Figure
from cxr_dicom.results.schema import Row

PAGE_SIZE = 50  # studies


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """Which studies are wanted; what is empty does not count."""

    uid: str = ""  # of a study, an image or an object, or how that of a study begins
    word: str = ""  # a state, an outcome or a finding that was called present
    after: str = ""  # `Listing.next` of the page before


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One study in a list."""

    key: str  # Study Instance UID, or "line-" and a number for what has none
    states: Sequence[str]
    is_urgent: bool = False  # goes before the others
    is_paused: bool = False  # it waits for a destination to which a person lets nothing be sent
    reasons: Sequence[str] = ()
    images: int = 0
    objects: int = 0
    calls: Sequence[str] = ()  # findings that were called present
    numbers: Sequence[str] = ()  # what else is worth knowing at a glance
    changed_at: float | None = None  # seconds since 1970


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """One page of a list."""

    lines: Sequence[Line]
    total: int | None  # of all that were found; None: not counted
    next: str = ""  # empty on the last page


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredObject:
    """A DICOM object that can be had."""

    uid: str
    kind: str
    path: Path | None  # None: deleted by retention
    series: str = ""  # Series Instance UID, where it is known


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownStudy:
    """All that is shown of one study."""

    key: str
    rows: Sequence[tuple[int, Row]]  # with the line in results.jsonl, from 1; 0 where there is none
    figures: Mapping[str, Sequence[Figure]]  # by SOP Instance UID
    objects: Sequence[StoredObject] = ()
    story: Mapping[str, Any] = field(default_factory=dict)  # what the ledger tells; empty without one
    without_pictures: str = ""  # why there are none, where there are none
    about_pictures: str = ""  # why some are not there, or small


class Site(Protocol):
    """Where the pages get what they show."""

    @property
    def name(self) -> str:
        """Short name: that of the folder."""

    def words(self) -> Mapping[str, Sequence[str]]:
        """Return what `Search.word` may be, by the name of its group."""

    def find(self, search: Search) -> Listing:
        """Return one page of the studies that are wanted."""

    def study(self, key: str) -> ShownStudy | None:
        """Return a study; None for one that is not here."""
