"""Tables: CSV and its relatives, and Parquet, with a column of paths, of URLs or of UIDs."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from cxr_dicom.errors import ManifestError
from cxr_dicom.ingest.folder import is_uid
from cxr_dicom.ingest.manifest import locations
from cxr_dicom.ingest.manifest.entries import Attributes, Item, at_line
from cxr_dicom.ingest.manifest.lists import Listing
from cxr_dicom.ingest.manifest.text import lines
from cxr_dicom.system.bounded_table import BoundedTable, TableRefusedError

ATTRIBUTES = ("patient_age", "patient_sex", "view_position")

_NAMES = {  # small letters and digits of a column's name; the first that a table has is taken
    "path": (
        *("path", "file", "filename", "filepath", "fullpath", "dicom", "dicompath", "dicomfile", "dicomfilepath"),
        *("dcm", "dcmpath", "dcmfile", "image", "imagepath", "imagefile", "img", "imgpath"),
    ),
    "url": (
        *("seriesawsurl", "awsurl", "seriesgcsurl", "gcsurl", "s5cmdurl", "s5cmd", "s5cmdmanifest"),
        *("url", "uri", "s3url", "s3uri", "s3path", "gsurl", "gsuri", "gcspath", "retrieveurl"),
    ),
    "study": ("studyinstanceuid", "studyuid"),
    "series": ("seriesinstanceuid", "seriesuid"),
    "instance": ("sopinstanceuid", "instanceuid"),
    "modality": ("modality",),
    "megabytes": ("seriessizemb",),
    "count": ("instancecount",),
    **{name: (name.replace("_", ""),) for name in ATTRIBUTES},
}
_ACCEPTED = (
    "a column of paths (path, file, filename, filepath, file_path, dicom, dcm, ...), of URLs (series_aws_url, aws_url, "
    "gcs_url, url, ...) or of UIDs (StudyInstanceUID, SeriesInstanceUID, SOPInstanceUID)"
)
_DELIMITERS = ",\t;|"
_NONE = "\x1f"  # of a table with one column: a name may have commas
_MEGABYTE = 1_000_000
_LARGEST = 1 << 50  # bytes, or instances, of a series
_SHOWN = 12
_NAME = re.compile(r"[A-Za-z][\w .-]{0,39}")

Row = dict[str, str]  # by role


def roles_of(columns: Sequence[str]) -> dict[str, int]:
    """Return which column has which role."""
    plain = [re.sub(r"[^a-z0-9]", "", column.lower()) for column in columns]
    roles = {}
    for role, names in _NAMES.items():
        if name := next((name for name in names if name in plain), None):
            roles[role] = plain.index(name)
    return roles


def columns_of(path: Path, encoding: str) -> list[str]:
    """Return the names of the columns of a text that may be a table."""
    _, _, columns = _header(lines(path, encoding))
    return columns


def is_header(columns: Sequence[str]) -> bool:
    """Whether names of columns say where images are."""
    return bool({"path", "url", "study", "series", "instance"} & roles_of(columns).keys())


def no_use(path: Path, columns: Sequence[str]) -> ManifestError:
    """Say that a table has no column that says where images are."""
    shown = [column.strip() if _NAME.fullmatch(column.strip()) else "..." for column in columns[:_SHOWN]]
    return ManifestError(f"{path}: expected {_ACCEPTED}; found {', '.join(shown)}")


def read_csv(path: Path, encoding: str) -> Listing:
    """Read a table of text.

    Raises
    ------
    ManifestError
        If it cannot be parsed.
    """
    return _read(path, _csv_rows(path, encoding))


def read_parquet(path: Path) -> Listing:
    """Read a table in Parquet.

    Raises
    ------
    ManifestError
        If it is damaged, or has no column that says where images are.
    """
    return _read(path, _parquet_rows(path))


def _csv_rows(path: Path, encoding: str) -> Iterator[tuple[int, Row]]:
    text = lines(path, encoding)
    before, delimiter, columns = _header(text)
    roles = roles_of(columns)
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                row = {role: cells[at].strip() for role, at in roles.items() if at < len(cells)}
                yield before + reader.line_num, row
    except csv.Error as error:
        raise ManifestError(f"{path}: line {before + reader.line_num}: {error}") from error


def _header(text: Iterator[str]) -> tuple[int, str, list[str]]:
    """Read up to the first line that is no comment: how many lines, the delimiter, the names."""
    for number, line in enumerate(text, start=1):
        if line.strip() and not line.startswith("#"):
            delimiter = max(_DELIMITERS, key=line.count) if set(line) & set(_DELIMITERS) else _NONE
            return number, delimiter, next(csv.reader([line.strip()], delimiter=delimiter), [])
    return 0, ",", []


def _parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        table = BoundedTable(path)
        if not is_header(table.names):
            raise no_use(path, table.names)
        roles = {role: table.names[at] for role, at in roles_of(table.names).items()}
        if not set(roles.values()) <= set(table.plain):
            raise TableRefusedError("expected columns of text or numbers")
        for number, record in enumerate(table.rows(set(roles.values())), start=1):
            yield number, {role: _text(record[name]) for role, name in roles.items()}
    except TableRefusedError as error:
        raise ManifestError(f"{path}: {error}") from error


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()


# --- rows ----------------------------------------------------------------------------------------


def _read(path: Path, rows: Iterator[tuple[int, Row]]) -> Listing:
    listing = Listing()
    for number, row in rows:
        if "path" in row or "url" in row:
            _locate(listing, path, number, row)
        else:
            _identify(listing, path, number, row)
    if listing.items and listing.paths:
        counts = f"{len(listing.items)} URLs and {len(listing.paths)} paths"
        raise ManifestError(f"{path}: expected a table of paths or of URLs, found {counts}")
    return listing


def _locate(listing: Listing, table: Path, number: int, row: Row) -> None:
    text = row.get("path") or row.get("url", "")
    if source := locations.of_line(text):
        study = row.get("study", "")
        listing.items.append(
            Item(
                line=number,
                source=source,
                study_instance_uid=study if is_uid(study) else "",
                modality=row.get("modality", ""),
                size=_scaled(row.get("megabytes", ""), _MEGABYTE),
                instances=_scaled(row.get("count", ""), 1),
            )
        )
    elif path := locations.local_path(text, table.parent):
        listing.paths.setdefault(path, _attributes(row))
    else:
        detail = "expected a path or an s3:// or gs:// URL, found " + ("something else" if text else "nothing")
        listing.skipped.append(at_line(table, number, detail))


def _identify(listing: Listing, table: Path, number: int, row: Row) -> None:
    uids = [row.get(level, "") for level in ("study", "series", "instance")]
    while uids and not uids[-1]:
        uids.pop()
    named = [uid for uid in uids if uid]
    if not named or not all(map(is_uid, named)):
        listing.skipped.append(at_line(table, number, "expected UIDs, found " + ("others" if named else "none")))
        return
    listing.uids.setdefault(tuple(uids), number)


def _attributes(row: Row) -> Attributes:
    return tuple((name, row[name]) for name in ATTRIBUTES if row.get(name))


def _scaled(text: str, factor: int) -> int | None:
    try:
        found = round(float(text) * factor)
    except (OverflowError, ValueError):
        return None
    return found if 0 <= found <= _LARGEST else None
