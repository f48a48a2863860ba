"""A manifest names the studies of a cohort."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cxr_dicom.ingest.folder import scan
from cxr_dicom.records import Skipped, Study


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One study to process; perhaps not on this machine yet."""

    key: str
    study: Study | None = None
    sources: tuple[str, ...] = ()
    size: int | None = None
    modalities: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The entries of a cohort, each study once, and the inputs that are none."""

    kind: str
    digest: str
    entries: Sequence[Entry]
    skipped: tuple[Skipped, ...]


def read(
    source: str | Sequence[Path],
    *,
    origin: str | None = None,
    query: Mapping[str, str] | None = None,
    wrap: bool = False,
) -> Manifest:
    """Read a manifest."""
    paths = [Path(source)] if isinstance(source, str) else list(source)
    studies, skipped = scan(paths)
    entries = [Entry(key=study.study_instance_uid, study=study) for study in studies]
    digest = hashlib.sha256(repr([str(path) for path in paths]).encode()).hexdigest()
    return Manifest(kind="folder", digest=digest, entries=entries, skipped=tuple(skipped))


@contextmanager
def fetched(entry: Entry, folder: Path) -> Iterator[tuple[list[Study], list[Skipped]]]:
    """Give the files of an entry."""
    yield ([entry.study] if entry.study else []), []
