"""The index of Imaging Data Commons, where the package ``idc-index-data`` is installed.

It knows the study, the modality and the size of every series in the public buckets. It is read in
slices and only what is asked for is kept: about 250 MB and a second for a million series.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cxr_dicom.ingest.folder import is_uid
from cxr_dicom.ingest.manifest import locations
from cxr_dicom.ingest.manifest.entries import Item

PACKAGE = "idc-index-data"

_COLUMNS = (
    *("StudyInstanceUID", "SeriesInstanceUID", "Modality"),
    *("crdc_series_uuid", "series_aws_url", "series_size_MB", "instanceCount"),
)
_SERIES = re.compile(r"(?:s3|gs)://[^/]+/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:/|$)")
_SLICE = 65_536  # rows
_MEGABYTE = 1_000_000


def index() -> Path | None:
    """Return the file of the index, if it is installed."""
    if find_spec("idc_index_data") is None:
        return None
    path = import_module("idc_index_data").IDC_INDEX_PARQUET_FILEPATH
    return Path(path) if path else None


def completed(items: list[Item]) -> list[Item]:
    """Complete items in buckets from the index, which has one line for each series."""
    uuids = {found[1] for item in items if not item.study_instance_uid and (found := _SERIES.match(item.source))}
    if not uuids or (path := index()) is None:
        return items
    known = {row["crdc_series_uuid"]: row for row in _rows(path, "crdc_series_uuid", uuids)}
    return [_completed(item, known) for item in items]


def _completed(item: Item, known: dict[str, dict[str, Any]]) -> Item:
    found = _SERIES.match(item.source)
    row = known.get(found[1]) if found else None
    if row is None or not is_uid(row["StudyInstanceUID"]):
        return item
    attributes = {"study_instance_uid": row["StudyInstanceUID"], "modality": row["Modality"] or ""}
    if item.source.endswith(f"{row['crdc_series_uuid']}/*"):  # the whole series
        attributes |= _amount(row)
    return replace(item, **attributes)


def series(path: Path, column: str, uids: Sequence[str]) -> dict[str, list[Item]]:
    """Return the series of the index by the UID in a column that names them."""
    found: dict[str, list[Item]] = {}
    for row in _rows(path, column, uids):
        source = locations.canonical(row["series_aws_url"] or "")
        if source and is_uid(row["StudyInstanceUID"]):
            item = Item(
                line=0,
                source=source,
                study_instance_uid=row["StudyInstanceUID"],
                modality=row["Modality"] or "",
                **_amount(row),
            )
            found.setdefault(row[column], []).append(item)
    return found


def _amount(row: dict[str, Any]) -> dict[str, int | None]:
    megabytes = row["series_size_MB"]
    return {"size": None if megabytes is None else round(megabytes * _MEGABYTE), "instances": row["instanceCount"]}


def _rows(path: Path, column: str, wanted: Iterable[str]) -> Iterator[dict[str, Any]]:
    import pyarrow
    from pyarrow import compute, parquet

    values = pyarrow.array(sorted(wanted))
    table = parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    for batch in table.iter_batches(_SLICE, columns=_COLUMNS):
        is_wanted = compute.is_in(batch[column], value_set=values.cast(batch[column].type))
        yield from batch.filter(is_wanted).to_pylist()
    pyarrow.default_memory_pool().release_unused()
