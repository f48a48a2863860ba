"""One output folder as columns: what a comparison needs of ``results.jsonl``, in a few bytes per value.

Keys that an older version did not write count as empty.
"""

from __future__ import annotations

import json
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import nan
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.errors import CxrDicomError
from cxr_dicom.records import Outcome
from cxr_dicom.results.schema import MeasurementRow, Row, StatementRow

RESULTS = "results.jsonl"
RUN = "run.json"

Rows = NDArray[np.int64]  # numbers of rows of one run
Values = NDArray[np.float64]  # NaN where there is none
Labels = NDArray[np.str_]  # "" where there is none


class Ending(NamedTuple):
    """What became of one input."""

    outcome: str
    reason: str | None


@dataclass(frozen=True)
class Model:
    """A model as a row names it."""

    name: str
    version: str
    weights_sha256: str | None


class Column:
    """What the rows of a run have under one name: a value, and a label that is a call or a unit."""

    def __init__(self) -> None:
        self.models: set[str] = set()
        self._values = array("d")
        self._codes = array("H")
        self._labels = [""]

    def put(self, row: int, value: float | None, label: str, model: str) -> None:
        """Add what ``row`` has; rows come in order, and may be left out."""
        absent = row - len(self._values)
        self._values.extend([nan] * absent)
        self._codes.extend([0] * absent)
        if label not in self._labels:
            self._labels.append(label)
        self._values.append(nan if value is None else value)
        self._codes.append(self._labels.index(label))
        self.models.add(model)

    def at(self, rows: Rows) -> tuple[Values, Labels]:
        """Return values and labels of ``rows``."""
        absent = max(0, int(rows.max(initial=-1)) + 1 - len(self._values))
        values = np.concatenate([self._values, np.full(absent, nan)])
        codes = np.concatenate([self._codes, np.zeros(absent, np.uint16)]).astype(np.intp)
        return values[rows], np.array(self._labels)[codes[rows]]


Columns = tuple[Column, Column]  # of A and B


@dataclass(kw_only=True, eq=False)
class Run:
    """The results of one run."""

    folder: Path
    about: Mapping[str, Any]  # run.json, flat: "settings.encode.geometry"; empty where there is none
    rows: dict[str, int] = field(default_factory=dict)  # SOP Instance UID -> number of its row
    unnamed: int = 0  # rows of inputs that have no SOP Instance UID
    endings: list[Ending] = field(default_factory=list)
    offsets: array[int] = field(default_factory=lambda: array("Q"))  # of each row in its file
    scores: dict[str, Column] = field(default_factory=lambda: defaultdict(Column))
    measurements: dict[str, Column] = field(default_factory=lambda: defaultdict(Column))
    statements: dict[str, Column] = field(default_factory=lambda: defaultdict(Column))
    models: set[Model] = field(default_factory=set)
    stamps: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))  # what every row repeats

    def ending(self, sop_instance_uid: str) -> Ending:
        """What became of an image."""
        return self.endings[self.rows[sop_instance_uid]]

    def offset(self, sop_instance_uid: str) -> int:
        """Where the row of an image begins in the file."""
        return self.offsets[self.rows[sop_instance_uid]]


@dataclass(kw_only=True, eq=False)
class Matched:
    """Two runs, and the images that both have."""

    a: Run
    b: Run
    uids: list[str]  # in both, in the order of A
    processed: list[str]  # those that have results in both

    def at_processed(self, columns: Columns) -> tuple[tuple[Values, Labels], tuple[Values, Labels]]:
        """Return values and labels of the images that both processed."""
        of_a, of_b = (column.at(rows) for column, rows in zip(columns, self._rows, strict=True))
        return of_a, of_b

    @cached_property
    def _rows(self) -> list[Rows]:
        return [np.array([run.rows[uid] for uid in self.processed], np.int64) for run in (self.a, self.b)]


def match(a: Path, b: Path) -> Matched:
    """Read two output folders.

    Raises
    ------
    CxrDicomError
        If one of them is not the output of a run.
    """
    run_a, run_b = _read(a), _read(b)
    uids = [uid for uid in run_a.rows if uid in run_b.rows]
    return Matched(
        a=run_a,
        b=run_b,
        uids=uids,
        processed=[uid for uid in uids if run_a.ending(uid).outcome == run_b.ending(uid).outcome == Outcome.PROCESSED],
    )


def _read(folder: Path) -> Run:
    """Read the results of ``folder``, one row at a time."""
    path = folder / RESULTS
    run = Run(folder=folder, about=_about(folder / RUN))
    known: dict[Ending, Ending] = {}
    try:
        with path.open("rb") as file:
            offset = 0
            for number, line in enumerate(file):
                row = _row(line, path, number + 1)
                ending = Ending(row.get("outcome", ""), row.get("reason"))
                run.offsets.append(offset)
                run.endings.append(known.setdefault(ending, ending))
                _add(run, number, row)
                offset += len(line)
    except OSError as error:
        raise CxrDicomError(f"{folder}: not the output of `run`: no {RESULTS} to read") from error
    return run


def row_at(path: Path, offset: int) -> Row:
    """Read again the row that begins at ``offset``."""
    with path.open("rb") as file:
        file.seek(offset)
        return _row(file.readline(), path, 0)


def _row(line: bytes, path: Path, number: int) -> Row:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise CxrDicomError(f"{path}: line {number} is not a JSON object")
    return cast(Row, row)


def _add(run: Run, number: int, row: Row) -> None:
    for key in ("package_version", "settings_digest", "geometry"):
        run.stamps[key] |= {row[key]} if row.get(key) else set()
    uid = row.get("sop_instance_uid")
    if not uid:
        run.unnamed += 1
        return
    if uid in run.rows and row.get("outcome") != Outcome.PROCESSED:
        return  # a duplicate of an image that has its row
    run.rows[uid] = number
    run.models |= {Model(m["name"], m["version"], m.get("weights_sha256")) for m in row.get("models") or ()}
    for name, score in (row.get("scores") or {}).items():
        run.scores[name].put(number, score.get("probability"), score.get("call", ""), score.get("model", ""))
    measurements = row.get("measurements") or {}
    for name, measurement in measurements.items():
        run.measurements[name].put(
            number, measurement.get("value"), measurement.get("unit", ""), measurement.get("model", "")
        )
    for name, statement in (row.get("statements") or {}).items():
        value = _measured(measurements, statement)
        run.statements[name].put(number, value, statement.get("call", ""), statement.get("model", ""))


def _measured(measurements: Mapping[str, MeasurementRow], statement: StatementRow) -> float | None:
    """Value of the measurement that a statement rests on: that of the same model."""
    for name, measurement in measurements.items():
        is_named = name.partition("__")[0] == statement.get("measurement")
        if is_named and measurement.get("model") == statement.get("model"):
            return measurement.get("value")
    return None


def _about(path: Path) -> dict[str, Any]:
    """What ``run.json`` says of the run as a whole, flat; what differs between any two runs is left out."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return dict(_flat(content, _STABLE)) if isinstance(content, dict) else {}


_STABLE = ("package_version", "settings_digest", "platform", "device", "versions", "settings", "engine", "manifest")


def _flat(tree: Mapping[str, Any], keys: Iterable[str] | None = None, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key in keys or tree:
        value = tree.get(key)
        if isinstance(value, dict):
            yield from _flat(value, prefix=f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value
