"""Lists: a line is a URL, a command that copies from one, a Study Instance UID, or a path."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from cxr_dicom.errors import ManifestError
from cxr_dicom.ingest.folder import is_uid
from cxr_dicom.ingest.manifest import locations
from cxr_dicom.ingest.manifest.entries import Item, at_line
from cxr_dicom.ingest.manifest.text import lines
from cxr_dicom.records import Skipped

ACCEPTED = (
    "a list of s3:// or gs:// URLs or of s5cmd's cp commands, a list of Study Instance UIDs or of paths, "
    "or a table (CSV, TSV, Parquet)"
)

_GOOGLE_ENDPOINT = "--endpoint-url https://storage.googleapis.com"


@dataclass(kw_only=True)
class Listing:
    """What the lines or rows of an input name, before UIDs are looked up."""

    kind: str = "table"
    items: list[Item] = field(default_factory=list)
    paths: dict[Path, tuple[tuple[str, str], ...]] = field(default_factory=dict)  # with attributes; ordered
    uids: dict[tuple[str, ...], int] = field(default_factory=dict)  # study, or with series, instance: its line
    skipped: list[Skipped] = field(default_factory=list)


def read(path: Path, encoding: str) -> Listing:
    """Read a list.

    Raises
    ------
    ManifestError
        If none of its lines names a study.
    """
    listing, kinds = Listing(), Counter[str]()
    is_google = False
    for number, raw in enumerate(lines(path, encoding), start=1):
        line = raw.strip()
        is_google |= _GOOGLE_ENDPOINT in line
        if not line or line.startswith("#"):
            continue
        if source := locations.of_line(line):
            kinds["s5cmd"] += 1
            listing.items.append(Item(line=number, source=locations.as_google(source) if is_google else source))
        elif is_uid(line) and "." in line:
            kinds["uids"] += 1
            listing.uids.setdefault((line,), number)
        elif (file := locations.local_path(line, path.parent)) and file.exists():
            kinds["table"] += 1
            listing.paths.setdefault(file, ())
        else:
            detail = "expected a URL, a command that copies from one, a UID, or the path of a file that exists"
            listing.skipped.append(at_line(path, number, detail))
    if not kinds:
        raise ManifestError(f"{path}: expected {ACCEPTED}; no line is one")
    if len(kinds) > 1:
        raise ManifestError(f"{path}: expected one of URLs, UIDs or paths, found {_counts(kinds)}")
    (listing.kind,) = kinds
    return listing


def _counts(kinds: Counter[str]) -> str:
    names = {"s5cmd": "URLs", "uids": "UIDs", "table": "paths"}
    return ", ".join(f"{count} {names[kind]}" for kind, count in sorted(kinds.items()))
