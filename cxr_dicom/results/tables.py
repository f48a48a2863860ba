"""Rows to tables for statistics: ``results.csv``, ``results.parquet``, ``failures.csv``.

Rows are read twice: once for the columns that occur, once for the values. Neither the number of
rows nor their order changes the columns, and memory holds a few thousand rows at most.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cxr_dicom.records import Outcome
from cxr_dicom.results.schema import MeasurementRow, ModelRow, Row, RowsOf, ScoreRow
from cxr_dicom.system import atomic

if TYPE_CHECKING:
    import pyarrow as pa

Plain = Literal[  # keys whose value is a cell as it stands
    "path",
    "study_instance_uid",
    "series_instance_uid",
    "sop_instance_uid",
    "outcome",
    "reason",
    "detail",
    "view",
    "modality",
    "body_part_examined",
    "view_position",
    "rows",
    "columns",
    "patient_age_years",
    "patient_sex",
    "manufacturer",
    "sender",
    "content",
    "warnings",
    "geometry",
    "settings_digest",
    "package_version",
]

_FORMULA = re.compile('(^|[;\t\n])(?="*[=+\\-@\t\n\uff1d\uff0b\uff0d\uff20])')  # the last are wide forms of the first
_CELLS_PER_GROUP = 250_000  # of a Parquet row group; bounds the memory
_MAX_ROWS_PER_GROUP = 16_384
_FAILURE_COLUMNS = (
    "path",
    "study_instance_uid",
    "series_instance_uid",
    "sop_instance_uid",
    "outcome",
    "reason",
    "detail",
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of both tables."""

    name: str
    kind: str  # "text", "word" (text of few values), "texts" (a list), "integer", "number"
    meaning: str
    value: Callable[[Row], Any]  # None where there is none


@dataclass(frozen=True, slots=True)
class _Names:
    """The names that occur in the rows, each with what its values are."""

    stages: dict[str, str] = field(default_factory=dict)
    measurements: dict[str, str] = field(default_factory=dict)
    statements: dict[str, str] = field(default_factory=dict)
    scores: dict[str, str] = field(default_factory=dict)
    boxes: dict[str, str] = field(default_factory=dict)
    detections: dict[str, str] = field(default_factory=dict)


def write_csv(path: Path, rows: RowsOf) -> None:
    """Write one flat row per input; a cell is empty where there is no value, a list is joined by semicolons."""
    table = columns(rows)
    with atomic.open_text(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(as_text(column.name) for column in table)
        writer.writerows([_cell(column.value(row)) for column in table] for row in rows())


def write_parquet(path: Path, rows: RowsOf) -> None:
    """Write the same table with types; the meaning of a column is metadata of its field (``description``)."""
    from pyarrow import parquet

    schema, batches = _typed(rows)
    with atomic.replacing(path) as part, parquet.ParquetWriter(part, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)


def arrow(rows: RowsOf) -> pa.Table:
    """Return in memory what `write_parquet` writes."""
    import pyarrow as pa

    schema, batches = _typed(rows)
    return pa.Table.from_batches(batches, schema)


def _typed(rows: RowsOf) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Give the types of the columns, and some rows at a time."""
    import pyarrow as pa

    types = {
        "text": pa.string(),
        "word": pa.dictionary(pa.int32(), pa.string()),
        "texts": pa.list_(pa.string()),
        "integer": pa.int64(),
        "number": pa.float64(),
    }
    table = columns(rows)
    schema = pa.schema(
        [pa.field(column.name, types[column.kind], metadata={"description": column.meaning}) for column in table]
    )

    return schema, (_batch(schema, values) for values in _groups(rows(), table))


def _batch(schema: pa.Schema, values: Sequence[Sequence[Any]]) -> pa.RecordBatch:
    """Type some values, column by column.

    By way of JSON: ``pyarrow.array`` imports pandas, which would be a sixth of what `run` takes for one image.
    """
    import pyarrow as pa
    from pyarrow import json as arrow_json

    if not values[0]:
        return pa.RecordBatch.from_arrays([pa.nulls(0, column.type) for column in schema], schema=schema)
    text = "\n".join(json.dumps(dict(enumerate(row)), allow_nan=False) for row in zip(*values, strict=True)).encode()
    words = [isinstance(column.type, pa.DictionaryType) for column in schema]  # JSON knows texts only
    types = [pa.string() if is_word else column.type for column, is_word in zip(schema, words, strict=True)]
    table = arrow_json.read_json(
        pa.BufferReader(text),
        arrow_json.ReadOptions(use_threads=False, block_size=len(text) + 1),
        arrow_json.ParseOptions(pa.schema([(str(number), kind) for number, kind in enumerate(types)])),
    )
    found = (column.combine_chunks() for column in table.columns)
    arrays = [each.dictionary_encode() if is_word else each for each, is_word in zip(found, words, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def write_failures(path: Path, rows: RowsOf) -> None:
    """Write every input that has no results and why: those that failed first, then those that were skipped."""
    with atomic.open_text(path) as file:
        writer = csv.DictWriter(file, _FAILURE_COLUMNS, extrasaction="ignore", restval="", lineterminator="\n")
        writer.writeheader()
        for outcome in (Outcome.FAILED, Outcome.SKIPPED):
            chosen = (row for row in rows() if row["outcome"] == outcome)
            writer.writerows({name: as_text(row.get(name)) for name in _FAILURE_COLUMNS} for row in chosen)


def columns(rows: RowsOf) -> list[Column]:
    """Return the columns of a run: the fixed ones, then those that its models and stages gave, by name."""
    names = _Names()
    for row in rows():
        _note(names, row)
    return [
        *_FIXED,
        *(_stage(name) for name in sorted(names.stages)),
        *(column for name in sorted(names.measurements) for column in _measurement(name, names.measurements[name])),
        *(_statement(name, names.statements[name]) for name in sorted(names.statements)),
        *(column for name in sorted(names.scores) for column in _score(name, names.scores[name])),
        *(column for name in sorted(names.boxes) for column in _box(name, names.boxes[name])),
        *(_detections(name, names.detections[name]) for name in sorted(names.detections)),
    ]


def _note(names: _Names, row: Row) -> None:
    for name in row["seconds"]:
        names.stages[name] = name
    for name, measurement in row["measurements"].items():
        _keep(names.measurements, name, _described(measurement))
    for name, statement in row["statements"].items():
        _keep(names.statements, name, f"{statement['meaning']}; model {statement['model']}")
    for name, score in row["scores"].items():
        _keep(names.scores, name, score["model"])
    for name, box in row["boxes"].items():
        _keep(names.boxes, name, box["model"])
    for name, found in row["detections"].items():
        _keep(names.detections, name, found[0]["model"])


def _keep(names: dict[str, str], name: str, text: str) -> None:
    """Keep the same text whatever the order of the rows."""
    names[name] = min(names.get(name, text), text)


def _described(measurement: MeasurementRow) -> str:
    where = (measurement["site"], measurement["laterality"])
    return f"{', '.join([measurement['meaning'], *(part for part in where if part)])}; model {measurement['model']}"


def _groups(rows: Iterator[Row], table: Sequence[Column]) -> Iterator[list[list[Any]]]:
    """Yield the values of some rows at a time, column by column; at least once."""
    size = max(1, min(_MAX_ROWS_PER_GROUP, _CELLS_PER_GROUP // len(table)))
    is_first = True
    while True:
        values: list[list[Any]] = [[] for _ in table]
        for row in islice(rows, size):
            for column, cells in zip(table, values, strict=True):
                cells.append(column.value(row))
        if not values[0] and not is_first:
            return
        is_first = False
        yield values


def _cell(value: Any) -> Any:
    return as_text("; ".join(text for text in value if text is not None) if isinstance(value, list) else value)


def as_text(value: Any) -> Any:
    """Return a cell so that spreadsheets take text for text: what they would compute gets an apostrophe before it.

    A header may say ``=HYPERLINK(...)`` (OWASP, CSV injection). In many countries a spreadsheet begins a cell at a
    semicolon and not at a comma; then quotes do not hold it together either. A carriage return, which Python does not
    quote and which begins a row for others, becomes a line feed. Numbers stay what they are.
    """
    if not isinstance(value, str):
        return value
    return _FORMULA.sub(r"\1'", value.replace("\r\n", "\n").replace("\r", "\n"))


# --- columns -------------------------------------------------------------------------------------


def _plain(name: Plain, kind: str, meaning: str) -> Column:
    return Column(name, kind, meaning, lambda row: row[name])


def _spacing(axis: int) -> Callable[[Row], float | None]:
    return lambda row: row["spacing_mm"][axis] if row["spacing_mm"] else None


def _whole_seconds(row: Row) -> float | None:
    return round(sum(row["seconds"].values()), 3) if row["seconds"] else None


_FIXED = (
    _plain("path", "text", "The input as found"),
    _plain("study_instance_uid", "text", "Study Instance UID"),
    _plain("series_instance_uid", "text", "Series Instance UID"),
    _plain("sop_instance_uid", "text", "SOP Instance UID"),
    _plain("outcome", "word", "processed, skipped or failed"),
    _plain("reason", "word", "Why there are no results; empty when processed"),
    _plain("detail", "text", "The reason in words"),
    _plain("view", "word", "PA or AP; empty when not stated"),
    _plain("modality", "word", "Modality, as the header says"),
    _plain("body_part_examined", "word", "Body Part Examined, as the header says"),
    _plain("view_position", "word", "View Position, as the header says"),
    _plain("rows", "integer", "Rows of the image"),
    _plain("columns", "integer", "Columns of the image"),
    Column("spacing_rows_mm", "number", "Distance between rows in mm", _spacing(0)),
    Column("spacing_columns_mm", "number", "Distance between columns in mm", _spacing(1)),
    _plain("patient_age_years", "integer", "Completed years; 90 for all ages above 89"),
    _plain("patient_sex", "word", "M, F or O"),
    _plain("manufacturer", "word", "Manufacturer of the device, as the header says"),
    _plain("sender", "word", "AE title of the sender, or the URL that the image was fetched from"),
    Column("models", "texts", "Models that ran, with versions", lambda row: [_model(model) for model in row["models"]]),
    Column(
        "weights_sha256",
        "texts",
        "SHA-256 of the weights of each of them; empty for a model without weights",
        lambda row: [model["weights_sha256"] or "" for model in row["models"]],
    ),
    _plain("content", "word", "What the pixels say of the picture: as_declared, doubtful, or how it is stored"),
    _plain("warnings", "texts", "What a reader should know"),
    Column("objects", "integer", "DICOM objects that speak of the image", lambda row: len(row["objects"])),
    Column("exports", "integer", "Files for training that show the image", lambda row: len(row["exports"])),
    Column("seconds", "number", "Seconds of all stages; those of select and encode are of the study", _whole_seconds),
    _plain("geometry", "word", "viewer or strict, from the settings"),
    _plain("settings_digest", "word", "SHA-256 of every setting that can change a result"),
    _plain("package_version", "word", "Version of cxr-dicom"),
)


def _model(model: ModelRow) -> str:
    return f"{model['name']} {model['version']}"


def _stage(stage: str) -> Column:
    return Column(
        f"seconds_{stage.replace('-', '_')}", "number", f"Seconds of {stage}", lambda row: row["seconds"].get(stage)
    )


def _measurement(name: str, meaning: str) -> Iterator[Column]:
    def of(cell: Callable[[MeasurementRow], Any]) -> Callable[[Row], Any]:
        return lambda row: cell(row["measurements"][name]) if name in row["measurements"] else None

    yield Column(name, "number", meaning, of(lambda measurement: measurement["value"]))
    yield Column(f"{name}_unit", "word", f"UCUM unit of {name}", of(lambda measurement: measurement["unit"]))


def _statement(name: str, meaning: str) -> Column:
    def call(row: Row) -> str | None:
        return row["statements"][name]["call"] if name in row["statements"] else None

    return Column(f"{name}_call", "word", meaning, call)


def _score(name: str, model: str) -> Iterator[Column]:
    def of(cell: Callable[[ScoreRow], Any]) -> Callable[[Row], Any]:
        return lambda row: cell(row["scores"][name]) if name in row["scores"] else None

    def column(key: str, kind: str, meaning: str, cell: Callable[[ScoreRow], Any]) -> Column:
        return Column(f"{name}_{key}", kind, f"{meaning}; model {model}", of(cell))

    stretched = "Score, stretched so that the operating point lies at 0.5"
    threshold = "Threshold on the network's own output"
    yield column("probability", "number", stretched, lambda finding: finding["probability"])
    yield column("raw", "number", "The network's own output", lambda finding: finding["raw"])
    yield column("operating_point", "number", threshold, lambda finding: finding["operating_point"])
    yield column("call", "word", "present, absent or indeterminate", lambda finding: finding["call"])


def _box(name: str, model: str) -> Iterator[Column]:
    def edge(number: int) -> Callable[[Row], int | None]:
        return lambda row: row["boxes"][name]["box"][number] if name in row["boxes"] else None

    for number, side in enumerate(("left", "top", "right", "bottom")):
        meaning = f"Edge of the box around {name} in pixels of the source matrix; model {model}"
        yield Column(f"{name}_box_{side}", "integer", meaning, edge(number))


def _detections(name: str, model: str) -> Column:
    def found(row: Row) -> list[str]:
        return [
            " ".join([f"{each['score']:.4f}", *(f"{side:.2f}" for side in each["box"])])
            for each in row["detections"].get(name, ())
        ]

    return Column(f"{name}_detections", "texts", f"Score, left, top, right, bottom of each box; model {model}", found)
