"""Inputs of every kind become one list of studies. Each study is fetched when its turn comes.

The kind of an input is recognised from its content: a folder, DICOM files, a table, a list of URLs,
of UIDs or of paths. A query is an input too. Every line becomes an entry, or is skipped with a reason.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path

from pydantic import ValidationError
from pydicom import dcmwrite

from cxr_dicom.config import SelectSettings
from cxr_dicom.config.service import HttpAccess
from cxr_dicom.errors import ImageError, ManifestError
from cxr_dicom.ingest.folder import Scan, scan
from cxr_dicom.ingest.manifest import archive, bucket, lists, locations, table, text
from cxr_dicom.ingest.manifest.entries import (
    Attributes,
    Entry,
    Item,
    Manifest,
    at_line,
    digest,
    key_of,
    local,
    remote,
)
from cxr_dicom.ingest.manifest.lookup import looked_up
from cxr_dicom.ingest.wrap import MOST_BYTES, is_picture
from cxr_dicom.records import Reason, Skipped, Study
from cxr_dicom.system import watch
from cxr_dicom.system.digest import sha256
from cxr_dicom.system.packed import Ordered, Packed

__all__ = ["Entry", "Manifest", "Survey", "fetched", "read", "survey"]

WORKSPACE = "fetched-"  # prefix of the folders that hold what is fetched

_PARQUET = b"PAR1"
_IMAGES = "folder"  # kind of an input that is searched through for images


def read(
    inputs: str | Path | Sequence[str | Path],
    *,
    origin: str | HttpAccess | None = None,
    query: Mapping[str, str] | None = None,
    wrap: bool = False,
) -> Manifest:
    """List the studies that inputs lead to, each once.

    Parameters
    ----------
    inputs
        Folders, DICOM files, tables, lists, pictures, and URLs of studies or of buckets, in any mixture.
        None where `origin` and `query` say all.
    origin
        Base URL of the DICOMweb server that has the studies whose UIDs are listed, or that is asked.
    query
        Keys and values of QIDO-RS. Without ``ModalitiesInStudy`` it asks for CR and for DX.
    wrap
        PNG and JPEG pictures become instances when they are fetched.

    Raises
    ------
    ManifestError
        If an input is nothing of this, or leads nowhere; or to buckets, and their client is not installed.
        What lies in a folder may be anything: it is skipped with a reason.
    FetchError
        If the server does not answer.
    """
    given = [inputs] if isinstance(inputs, str | Path) else inputs
    reader = _Reader(_access(origin), query or {}, wrap)
    try:
        return reader.inputs(list(map(str, given))) if given and not query else reader.server(is_alone=not given)
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
        Where they are kept meanwhile, in a folder that belongs to this attempt: a killed command may leave a worker
        on another machine that still fetches the same study.
    access
        URL and credentials of the DICOMweb server.
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
    folder.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix=f"{WORKSPACE}{entry.key}-", dir=folder))
    try:
        yield _wrapped(entry, entry.picture, home, max_pixels) if entry.picture else _fetch(entry, home, access)
    finally:
        shutil.rmtree(home, ignore_errors=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """The size of a manifest, as far as it is known without fetching anything."""

    entries: int
    local: int  # entries whose files are on this machine
    instances: int  # of the entries that state it
    bytes: int  # of the entries that state it
    unknown_instances: int  # entries that do not state it
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
        skipped=dict(Counter(skip.reason for skip in manifest.skipped)),
    )


# --- reading -------------------------------------------------------------------------------------


class _Reader:
    def __init__(self, access: HttpAccess | None, query: Mapping[str, str], wrap: bool) -> None:
        self._access = access
        self._query = query
        self._wrap = wrap

    def server(self, *, is_alone: bool) -> Manifest:
        if self._access is None:
            raise ManifestError("expected an input, or a DICOMweb server to ask (--from URL)")
        if not is_alone:
            raise ManifestError("a query asks the whole DICOMweb server: expected no other input")
        return self._manifest("dicomweb", archive.entries(self._access, self._query), [])

    def inputs(self, given: Sequence[str]) -> Manifest:
        found = [(Path(path), self._recognised(path)) for path in dict.fromkeys(given)]
        skipped = [skip for _, what in found for skip in what.skipped]
        items: list[tuple[Path, Item]] = []
        for path, what in found:
            located, lost = looked_up(what, path, self._access)
            items += [(path, item) for item in located]
            skipped += lost
        if any(item.source.partition("://")[0] in locations.BUCKETS for _, item in items):
            bucket.expect_client()
        elsewhere, lost = remote(items)
        here, not_taken = self._local([what for _, what in found])
        keys = {entry.key for entry in here} if elsewhere else set()
        twice = [_twice(entry, items) for entry in elsewhere if entry.key in keys]
        entries = chain(here, (entry for entry in elsewhere if entry.key not in keys))
        kinds = {what.kind for _, what in found}
        return self._manifest(
            kinds.pop() if len(kinds) == 1 else "mixed", entries, [*skipped, *lost, *twice, *not_taken]
        )

    def _recognised(self, given: str) -> lists.Listing:
        """See what an input is from itself: its name does not matter."""
        if source := locations.canonical(given):
            return lists.Listing(kind="s5cmd", items=[Item(line=1, source=source)])
        if given.startswith(("http://", "https://")):
            raise ManifestError("expected a DICOMweb server's URL as --from, or as input that of a study there")
        path = locations.local_path(given, Path())
        if path is None or not path.exists():
            raise ManifestError(
                f"{given or 'input'}: expected a file or folder with DICOM, {lists.ACCEPTED}; there is nothing"
            )
        if not path.is_file():
            return _is_images(path)
        head = text.head_of(path)
        if head.startswith(_PARQUET):
            return table.read_parquet(path)
        if not head.strip():
            raise ManifestError(f"{path}: expected DICOM, {lists.ACCEPTED}; the file is empty")
        encoding = text.encoding_of(head)
        return _is_images(path) if encoding is None else self._read_text(path, encoding)

    def _read_text(self, path: Path, encoding: str) -> lists.Listing:
        columns = table.columns_of(path, encoding)
        if table.is_header(columns):
            return table.read_csv(path, encoding)
        try:
            return lists.read(path, encoding)
        except ManifestError as error:
            raise (table.no_use(path, columns) if len(columns) > 1 else error) from None

    def _local(self, found: Sequence[lists.Listing]) -> tuple[Packed[Entry], list[Skipped]]:
        """List what is on this machine: first what tables and lists name, in their order."""
        paths: dict[Path, Attributes] = {}
        for path, attributes in ((path, attributes) for what in found for path, attributes in what.paths.items()):
            paths[path] = paths.get(path) or attributes
        named = dict.fromkeys(path for what in found if what.kind != _IMAGES for path in what.paths)
        rank = {path: number for number, path in enumerate(named)}
        found_here = Scan(paths)
        studies = _ranked(found_here.studies(), rank) if rank else found_here.studies()
        others = sorted(found_here.skipped, key=lambda other: rank.get(other.path, len(rank)))
        lost: list[Skipped] = []
        pictures: list[Path] = []
        for other in others:
            if other.reason is not Reason.NOT_DICOM or not is_picture(other.path):
                lost.append(other)
            elif self._wrap:
                pictures.append(other.path)
            else:
                lost.append(replace(other, reason=Reason.NOT_WRAPPED, detail="a PNG or JPEG picture; --wrap takes it"))
        copies = _copies(pictures)
        wrapped = (_picture(path, paths.get(path, ())) for path in pictures if path not in copies)
        entries = Packed(chain(map(local, studies), wrapped))
        return entries, lost + [_copy(path) for path in pictures if path in copies]

    def _manifest(self, kind: str, given: Iterable[Entry], skipped: Sequence[Skipped]) -> Manifest:
        query = {"origin": self._access.url if self._access else None, "query": dict(self._query), "wrap": self._wrap}
        entries = Packed(given)
        return Manifest(kind=kind, digest=digest(entries, query), entries=entries, skipped=tuple(skipped))


def _ranked(studies: Iterable[Study], rank: Mapping[Path, int]) -> Iterator[Study]:
    """Yield them by the first of their files; those of the same rank stay in their order."""
    ranked = (
        (min(rank.get(instance.path, len(rank)) for instance in study.instances), number, study)
        for number, study in enumerate(studies)
    )
    return (study for _, _, study in Ordered(ranked))


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
    """Return the pictures that an earlier one equals; those of the same size are read, if they are not too long."""
    by_size: dict[int, list[Path]] = {}
    for path in pictures:
        if (size := path.stat().st_size) <= MOST_BYTES:
            by_size.setdefault(size, []).append(path)
    copies = set()
    for alike in by_size.values():
        seen: set[str] = set()
        for path in alike if len(alike) > 1 else ():
            content = sha256(path)
            if content in seen:
                copies.add(path)
            seen.add(content)
    return copies


def _twice(entry: Entry, items: Sequence[tuple[Path, Item]]) -> Skipped:
    manifest, line = next((path, item.line) for path, item in items if item.source == entry.sources[0])
    detail = "the study lies on this machine too, and is taken from here"
    return at_line(manifest, line, detail, Reason.DUPLICATE_INSTANCE)


def _is_images(path: Path) -> lists.Listing:
    return lists.Listing(kind=_IMAGES, paths={path: ()})


def _copy(path: Path) -> Skipped:
    return Skipped(path=path, reason=Reason.DUPLICATE_INSTANCE, detail="the same picture was read from an earlier file")


def _picture(path: Path, attributes: Attributes) -> Entry:
    return Entry(
        key=key_of(path.absolute().as_uri()),
        picture=path,
        size=path.stat().st_size,
        instances=1,
        modalities=("DX",),
        attributes=attributes,
    )


# --- fetching ------------------------------------------------------------------------------------


def _fetch(entry: Entry, home: Path, access: HttpAccess | None) -> tuple[list[Study], list[Skipped]]:
    in_buckets = [source for source in entry.sources if source.partition("://")[0] in locations.BUCKETS]
    at_servers = [source for source in entry.sources if source not in in_buckets]
    files: dict[Path, str] = {}
    for name, sources, get in (
        ("buckets", in_buckets, bucket.fetch),
        ("servers", at_servers, partial(archive.fetch, access=access)),
    ):
        if sources:
            (home / name).mkdir()
            files |= get(sources, home / name)
    studies, skipped = scan([home])
    return (
        [_sent(study, files) for study in studies],
        [replace(skip, detail=f"{files[skip.path]}: {skip.detail}") for skip in skipped],
    )


def _sent(study: Study, files: Mapping[Path, str]) -> Study:
    return replace(
        study, instances=tuple(replace(instance, sender=files[instance.path]) for instance in study.instances)
    )


def _wrapped(entry: Entry, picture: Path, home: Path, max_pixels: int) -> tuple[list[Study], list[Skipped]]:
    from cxr_dicom.ingest.wrap import wrap

    watch.begin()  # a picture is decoded here: no fetching, which has limits of its own
    try:
        dataset = wrap(picture, dict(entry.attributes), max_pixels=max_pixels)
    except ImageError as error:
        return [], [Skipped(path=picture, reason=error.reason, detail=error.detail)]
    path = home / "000000"
    dcmwrite(path, dataset, enforce_file_format=True)
    return scan([path])
