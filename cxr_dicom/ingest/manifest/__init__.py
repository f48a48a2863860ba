"""Cohorts: what names many studies, whatever it is, becomes a list; each study is fetched when its turn comes.

What a manifest is, is seen from itself: a folder, DICOM files, a table, a list of URLs, of UIDs or
of paths, or a query. Every line of it ends in an entry or, with its reason, in what was skipped.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError
from pydicom import dcmwrite

from cxr_dicom.config import SelectSettings
from cxr_dicom.config.service import HttpAccess
from cxr_dicom.errors import ImageError, ManifestError
from cxr_dicom.ingest.folder import scan
from cxr_dicom.ingest.manifest import archive, bucket, lists, locations, table, text
from cxr_dicom.ingest.manifest.entries import Attributes, Entry, Manifest, digest, key_of, local, remote
from cxr_dicom.ingest.manifest.lookup import looked_up
from cxr_dicom.ingest.wrap import is_picture
from cxr_dicom.records import Reason, Skipped, Study
from cxr_dicom.system.digest import sha256

__all__ = ["Entry", "Manifest", "Survey", "fetched", "read", "survey"]

_PARQUET = b"PAR1"


def read(
    source: str | Sequence[Path],
    *,
    origin: str | HttpAccess | None = None,
    query: Mapping[str, str] | None = None,
    wrap: bool = False,
) -> Manifest:
    """List the studies of a cohort.

    Parameters
    ----------
    source
        A folder, a DICOM file, a table, a list; the base URL of a DICOMweb server; empty where `origin`
        and `query` say all. Paths instead of a text are files and folders with images, nothing else.
    origin
        Base URL of the DICOMweb server that has the studies whose UIDs are listed, or that is asked.
    query
        Keys and values of QIDO-RS. Without ``ModalitiesInStudy`` it asks for CR and for DX.
    wrap
        PNG and JPEG pictures become instances when they are fetched.

    Raises
    ------
    ManifestError
        If `source` is nothing of this, or leads nowhere; or to buckets, and their client is not installed.
    FetchError
        If the server does not answer.
    """
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        source, origin = "", origin or source
    access = _access(origin)
    reader = _Reader(access, query or {}, wrap)
    try:
        if not isinstance(source, str):
            return reader.folder(source)
        if query or (access and not source):
            return reader.server(source)
        return reader.file(source)
    except OSError as error:
        raise ManifestError(f"expected files that stay, got {error.strerror} while they were listed") from error


@contextmanager
def fetched(
    entry: Entry,
    folder: Path,
    *,
    access: HttpAccess | None = None,
    max_pixels: int = SelectSettings().max_pixels,
) -> Iterator[tuple[list[Study], list[Skipped]]]:
    """Give the files of an entry; those that had to be fetched are removed after the block.

    Parameters
    ----------
    folder
        Where they lie meanwhile, below a name that is the entry's key; what a killed process left
        there of this entry is removed first.
    access
        What the DICOMweb server needs to let us in, besides its URL.
    max_pixels
        Rows x Columns above which a picture is not decoded.

    Yields
    ------
    studies
        The ``sender`` of a fetched instance is the URL that it came from.
    skipped
        What is no instance.

    Raises
    ------
    FetchError
        If they cannot be fetched.
    """
    if entry.study:
        yield [entry.study], []
        return
    home = folder / entry.key
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    try:
        yield _wrapped(entry, entry.picture, home, max_pixels) if entry.picture else _fetch(entry, home, access)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """How much a manifest is, as far as is known without fetching anything."""

    entries: int
    local: int  # entries whose files lie on this machine
    instances: int  # of those entries that tell
    bytes: int  # of those entries that tell
    unknown_instances: int  # entries that do not tell
    unknown_bytes: int
    modalities: Mapping[str, int]  # in how many entries
    skipped: Mapping[Reason, int]


def survey(manifest: Manifest) -> Survey:
    """Count what is known of a manifest."""
    entries = manifest.entries
    return Survey(
        entries=len(entries),
        local=sum(bool(entry.study or entry.picture) for entry in entries),
        instances=sum(entry.instances or 0 for entry in entries),
        bytes=sum(entry.size or 0 for entry in entries),
        unknown_instances=sum(entry.instances is None for entry in entries),
        unknown_bytes=sum(entry.size is None for entry in entries),
        modalities=dict(Counter(modality for entry in entries for modality in entry.modalities)),
        skipped=dict(Counter(each.reason for each in manifest.skipped)),
    )


# --- reading -------------------------------------------------------------------------------------


class _Reader:
    def __init__(self, access: HttpAccess | None, query: Mapping[str, str], wrap: bool) -> None:
        self._access = access
        self._query = query
        self._wrap = wrap

    def server(self, source: str) -> Manifest:
        if self._access is None or source:
            raise ManifestError("a query asks a DICOMweb server: expected its URL, and no other manifest")
        return self._manifest("dicomweb", archive.entries(self._access, self._query), [])

    def file(self, source: str) -> Manifest:
        path = locations.local_path(source, Path())
        if path is None or not path.exists():
            raise ManifestError(f"{source or 'manifest'}: expected a folder, DICOM, {lists.ACCEPTED}; there is nothing")
        if not path.is_file():
            return self.folder([path])
        head = text.head_of(path)
        if head.startswith(_PARQUET):
            return self._found(path, table.read_parquet(path))
        if not head.strip():
            raise ManifestError(f"{path}: expected DICOM, {lists.ACCEPTED}; the file is empty")
        encoding = text.encoding_of(head)
        return self.folder([path]) if encoding is None else self._found(path, self._read_text(path, encoding))

    def _read_text(self, path: Path, encoding: str) -> lists.Found:
        columns = table.columns_of(path, encoding)
        if table.is_header(columns):
            return table.read_csv(path, encoding)
        try:
            return lists.read(path, encoding)
        except ManifestError as error:
            raise (table.no_use(path, columns) if len(columns) > 1 else error) from None

    def _found(self, path: Path, found: lists.Found) -> Manifest:
        if found.paths:
            return self._local(found.kind, found.paths, found.skipped)
        items, lost = looked_up(found, path, self._access)
        if any(item.source.partition("://")[0] in locations.BUCKETS for item in items):
            bucket.expect_client()
        entries, others = remote(items, path)
        return self._manifest(found.kind, entries, [*found.skipped, *lost, *others])

    def folder(self, paths: Sequence[Path]) -> Manifest:
        return self._local("folder", dict.fromkeys(paths, ()), [])

    def _local(self, kind: str, paths: Mapping[Path, Attributes], skipped: Sequence[Skipped]) -> Manifest:
        studies, others = scan(list(paths))
        rank = {path: number for number, path in enumerate(paths)} if kind != "folder" else {}
        studies.sort(key=lambda study: min(rank.get(each.path, len(rank)) for each in study.instances))
        others.sort(key=lambda other: rank.get(other.path, len(rank)))
        entries, lost = [local(study) for study in studies], list(skipped)
        pictures: list[Path] = []
        for other in others:
            if other.reason is not Reason.NOT_DICOM or not is_picture(other.path):
                lost.append(other)
            elif self._wrap:
                pictures.append(other.path)
            else:
                lost.append(replace(other, detail=f"{other.detail}; --wrap takes it"))
        copies = _copies(pictures)
        entries += [_picture(path, paths.get(path, ())) for path in pictures if path not in copies]
        lost += [_copy(path) for path in pictures if path in copies]
        return self._manifest(kind, entries, lost)

    def _manifest(self, kind: str, entries: Sequence[Entry], skipped: Sequence[Skipped]) -> Manifest:
        asked = {"origin": self._access.url if self._access else None, "query": dict(self._query), "wrap": self._wrap}
        return Manifest(kind=kind, digest=digest(entries, asked), entries=tuple(entries), skipped=tuple(skipped))


def _access(origin: str | HttpAccess | None) -> HttpAccess | None:
    if not isinstance(origin, str):
        return origin
    try:
        return HttpAccess(url=origin)
    except ValidationError as error:
        raise ManifestError(
            "expected the URL of a DICOMweb server, https://..., without user and password: [poller] has them"
        ) from error


def _copies(pictures: Sequence[Path]) -> set[Path]:
    """Return the pictures that an earlier one equals; only those of the same size are read."""
    by_size: dict[int, list[Path]] = {}
    for path in pictures:
        by_size.setdefault(path.stat().st_size, []).append(path)
    copies = set()
    for alike in by_size.values():
        seen: set[str] = set()
        for path in alike if len(alike) > 1 else ():
            content = sha256(path)
            if content in seen:
                copies.add(path)
            seen.add(content)
    return copies


def _copy(path: Path) -> Skipped:
    return Skipped(path=path, reason=Reason.DUPLICATE_INSTANCE, detail="the same picture was read from an earlier file")


def _picture(path: Path, attributes: Attributes) -> Entry:
    url = path.absolute().as_uri()
    return Entry(
        key=key_of(url),
        sources=(url,),
        size=path.stat().st_size,
        instances=1,
        modalities=("DX",),
        attributes=attributes,
    )


# --- fetching ------------------------------------------------------------------------------------


def _fetch(entry: Entry, home: Path, access: HttpAccess | None) -> tuple[list[Study], list[Skipped]]:
    scheme = entry.sources[0].partition("://")[0]
    if scheme in locations.BUCKETS:
        files = bucket.fetch(entry.sources, home)
    else:
        files = archive.fetch(entry.sources, home, access)
    studies, skipped = scan([home])
    return (
        [_sent(study, files) for study in studies],
        [replace(each, detail=f"{files[each.path]}: {each.detail}") for each in skipped],
    )


def _sent(study: Study, files: Mapping[Path, str]) -> Study:
    return replace(study, instances=tuple(replace(each, sender=files[each.path]) for each in study.instances))


def _wrapped(entry: Entry, picture: Path, home: Path, max_pixels: int) -> tuple[list[Study], list[Skipped]]:
    from cxr_dicom.ingest.wrap import wrap

    try:
        dataset = wrap(picture, dict(entry.attributes), max_pixels=max_pixels)
    except ImageError as error:
        return [], [Skipped(path=picture, reason=error.reason, detail=error.detail)]
    path = home / "000000"
    dcmwrite(path, dataset, enforce_file_format=True)
    studies, skipped = scan([path])
    return [_sent(study, {path: entry.sources[0]}) for study in studies], skipped
