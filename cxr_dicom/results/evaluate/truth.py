"""What experts say of the images: a CSV or a Parquet file, as columns of labels and numbers.

The layouts of CheXpert, NIH ChestX-ray14, RSNA and VinDr-CXR are known by their columns (`layouts`); any other
table has one row for each image or study, and columns that bear the names of findings and measurements.
"""

from __future__ import annotations

import codecs
import csv
import re
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.errors import CxrDicomError
from cxr_dicom.infer.findings import FINDINGS
from cxr_dicom.system.bounded_table import BoundedTable, TableRefusedError

Key = Literal["sop_instance_uid", "study_instance_uid", "accession_number", "file_name"]
Values = NDArray[np.float64]

KEYS: dict[str, Key] = {  # small letters and digits of a column's name; the first that a table has is taken
    "sopinstanceuid": "sop_instance_uid",
    "instanceuid": "sop_instance_uid",
    "dicomid": "file_name",
    "studyinstanceuid": "study_instance_uid",
    "studyuid": "study_instance_uid",
    "accessionnumber": "accession_number",
    "accession": "accession_number",
    "filename": "file_name",
    "filepath": "file_name",
    "path": "file_name",
    "file": "file_name",
    "imageindex": "file_name",
    "imageid": "file_name",
    "imagepath": "file_name",
    "image": "file_name",
}
POSITIVE = frozenset({"1", "true", "yes", "y", "positive", "pos", "present"})
NEGATIVE = frozenset({"0", "false", "no", "n", "negative", "neg", "absent"})
UNCERTAIN = frozenset({"-1", "uncertain", "equivocal", "indeterminate", "unsure"})
BLANK = frozenset({"", "nan", "na", "n/a", "none", "null", "-"})

MAX_CELL = 1_000_000  # characters
MAX_COLUMNS = 10_000
MAX_GROUPS = 50  # values of a column that images are grouped by

_EXCEL_DELIMITER = re.compile(r"sep=([,;\t])", re.IGNORECASE)  # a first line that Excel writes and reads
_DECIMAL_COMMA = re.compile(r"^(\s*-?\d+),(\d+\s*)$")  # in tables with semicolons
_VALUE = re.compile(r"-?[\d.]+")  # no name of a column
_EXCEL_TEXT = re.compile(r'="(.*)"')  # what keeps Excel from making a number of it

_ALIASES = {label.lower().replace(" ", "_"): kind.name for label, kind in FINDINGS.items()} | {
    "pulmonary_fibrosis": "fibrosis",
    "airspace_opacity": "lung_opacity",
    "pulmonary_edema": "edema",
}


class TruthError(CxrDicomError):
    """The truth cannot be used: the text says where, what was expected and what was found; no cell is quoted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """How a user wants a table to be read."""

    columns: Mapping[str, str] = field(default_factory=dict)  # column -> finding, measurement, or one of `Key`
    patient: str | None = None  # column that says whose an image is
    by: tuple[str, ...] = ()  # columns to group images by
    uncertain: Literal["leave-out", "positive", "negative"] = "leave-out"  # CheXpert's -1
    blank: Literal["leave-out", "negative"] = "leave-out"  # a cell without a label


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One row of a table: a cell for each column, and where it stands."""

    number: int
    cells: Sequence[str]


@dataclass(kw_only=True, eq=False)
class Truth:
    """Labels and numbers by image or study."""

    source: str  # name of the file
    layout: str  # "table", "CheXpert", "NIH ChestX-ray14", "RSNA", "VinDr-CXR", "DICOM"
    key: Key
    rows: list[str] = field(default_factory=list)  # keys, each once
    labels: dict[str, Values] = field(default_factory=dict)  # finding -> 1, 0, NaN
    numbers: dict[str, Values] = field(default_factory=dict)  # measurement -> value, NaN
    patients: list[str] | None = None  # None: not known, a study stands for a patient
    groups: dict[str, list[str]] = field(default_factory=dict)  # column -> value of each row
    repeated: int = 0  # rows that say again of an image what was said
    conflicts: Counter[str] = field(default_factory=Counter)  # finding -> images labelled both ways; left out
    uncertain: Counter[str] = field(default_factory=Counter)  # finding -> images labelled uncertain
    unused: list[str] = field(default_factory=list)  # columns that name nothing


def plain(name: str) -> str:
    """Small letters and digits of a name."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def stable(label: str) -> str:
    """Return the stable name of a finding from the label of a data set: "Pleural Effusion" as pleural_effusion."""
    name = re.sub(r"[^a-z0-9]+", "_", label.strip().lower()).strip("_")
    return _ALIASES.get(name, name)


def is_table(path: Path) -> bool:
    """Whether a path is read as a table, and not as DICOM."""
    return path.is_file() and path.suffix.lower() in (".csv", ".tsv", ".txt", ".parquet")


def open_table(path: Path) -> tuple[list[str], Iterator[Line]]:
    """Return the names of the columns, and the rows one at a time.

    Raises
    ------
    TruthError
        If the file cannot be read, is no table, or breaks the bounds; also while the rows are read.
    """
    lines = _parquet(path) if path.suffix.lower() == ".parquet" else _csv(path)
    try:
        head = next(lines)
    except StopIteration:
        raise TruthError(f"{path.name}: expected a header row, found an empty file") from None
    names = [cell.strip() for cell in head.cells]
    if len(names) > MAX_COLUMNS:
        raise TruthError(f"{path.name}: expected at most {MAX_COLUMNS} columns, found {len(names)}")
    if any(_VALUE.fullmatch(name) for name in names):  # what stands there may be of a patient: no error may quote it
        raise TruthError(f"{path.name}: expected names of columns in the first row, found numbers or UIDs")
    if twice := [number + 1 for number, name in enumerate(names) if name and name in names[:number]]:
        raise TruthError(f"{path.name}: expected columns with different names, column {twice[0]} repeats one")
    return names, lines


def _csv(path: Path) -> Iterator[Line]:
    number = 0
    previous = csv.field_size_limit(MAX_CELL)
    try:
        with path.open(encoding=_encoding(path), newline="") as file:
            head, start = file.readline(65_536), 0
            if said := _EXCEL_DELIMITER.fullmatch(head.rstrip()):
                start = file.tell()
            delimiter = said[1] if said else _delimiter(head)
            file.seek(start)
            reader = csv.reader(file, delimiter=delimiter)
            width = 0
            for cells in reader:
                number = reader.line_num + bool(said)
                if not any(cells):
                    continue
                if delimiter == ";":
                    cells = [_DECIMAL_COMMA.sub(r"\1.\2", cell) for cell in cells]
                width = width or len(cells)
                if len(cells) != width:
                    raise TruthError(f"{path.name}: line {number}: expected {width} cells, found {len(cells)}")
                yield Line(number=number, cells=cells)
    except UnicodeError as error:
        raise TruthError(
            f"{path.name}: after line {number}: expected text in UTF-8 (Excel: CSV UTF-8), found other bytes"
        ) from error
    except csv.Error as error:
        raise TruthError(f"{path.name}: after line {number}: expected CSV, found {error}") from error
    except OSError as error:
        raise TruthError(f"{path.name}: expected a readable file, found {error.strerror}") from error
    finally:
        csv.field_size_limit(previous)


def _encoding(path: Path) -> str:
    """UTF-8, or what a byte order mark says: Excel's "Unicode text" is UTF-16."""
    with path.open("rb") as file:
        start = file.read(2)
    return "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def _delimiter(head: str) -> str:
    return max(",\t;", key=head.count)


def _parquet(path: Path) -> Iterator[Line]:
    try:
        table = BoundedTable(path)
        yield Line(number=0, cells=table.names)
        for number, record in enumerate(table.rows(table.plain), start=1):
            yield Line(number=number, cells=[_text(record.get(name)) for name in table.names])
    except TableRefusedError as error:
        raise TruthError(f"{path.name}: {error}") from error


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, (bool, float)) and value == value and value in (0, 1) else str(value)


def label(cell: str, where: str) -> float | None:
    """Read a cell: 1, 0, -1 for uncertain, None for blank.

    Raises
    ------
    TruthError
        For anything else.
    """
    word = cell.strip().lower()
    if word in POSITIVE:
        return 1.0
    if word in NEGATIVE:
        return 0.0
    if word in UNCERTAIN:
        return -1.0
    if word in BLANK:
        return None
    try:
        value = float(word)
    except ValueError:
        value = nan
    if value in (0, 1, -1):
        return value
    raise TruthError(f"{where}: expected 1, 0, -1, yes, no or nothing, found something else")


def number(cell: str, where: str) -> float:
    """Read a number; NaN where there is none.

    Raises
    ------
    TruthError
        For anything that is no finite number.
    """
    word = cell.strip()
    if word.lower() in BLANK:
        return nan
    try:
        value = float(word)
    except ValueError:
        value = nan
    if not isfinite(value):
        raise TruthError(f"{where}: expected a finite number or nothing, found something else")
    return value


class Collected:
    """Gathers what is said of each key, and makes the columns of a `Truth`."""

    def __init__(self, truth: Truth, reading: Reading) -> None:
        self._truth, self._reading = truth, reading
        self._places: dict[str, int] = {}
        self._votes: dict[str, dict[float, array[int]]] = {}  # finding -> label -> how often, by place
        self._numbers: dict[str, dict[int, list[float]]] = {}
        self._patients: list[str] = []
        self._groups: dict[str, list[str]] = {name: [] for name in reading.by}

    def place(self, key: str, patient: str = "", groups: Sequence[str] = ()) -> int:
        """Return the number of the key, which is new or known.

        Raises
        ------
        TruthError
            If an image has another patient than before.
        """
        key = key.strip().strip("\0").strip()
        key = guarded[1] if (guarded := _EXCEL_TEXT.fullmatch(key)) else key.removeprefix("'")
        place = self._places.setdefault(key, len(self._places))
        if place < len(self._truth.rows):
            if patient and self._patients[place] not in ("", patient):
                raise TruthError(f"{self._truth.source}: expected one patient for each image, found two for one")
            self._truth.repeated += 1
            return place
        self._truth.rows.append(key)
        self._patients.append(patient)
        for name, value in zip(self._groups, groups, strict=False):
            self._groups[name].append(value.strip())
            self._bound(name)
        return place

    def vote(self, place: int, finding: str, value: float | None) -> None:
        """Note a label: 1, 0, -1 or None."""
        if value is None:
            if self._reading.blank == "leave-out":
                return
            value = 0.0
        of = self._votes.get(finding)
        if of is None:
            of = self._votes[finding] = {each: array("L") for each in (1.0, 0.0, -1.0)}
        counts = of[value]
        if place >= len(counts):
            counts.extend([0] * (place + 1 - len(counts)))
        counts[place] += 1

    def measure(self, place: int, name: str, value: float) -> None:
        """Note a number; several are averaged."""
        if isfinite(value):
            self._numbers.setdefault(name, {}).setdefault(place, []).append(value)

    def done(self, patients_known: bool, is_vote: bool = False) -> Truth:
        """Return the truth; with ``is_vote`` most readers decide, else labels that differ are a conflict."""
        truth, n = self._truth, len(self._truth.rows)
        for finding, votes in self._votes.items():
            counts = {each: _padded(votes[each], n) for each in votes}
            truth.labels[finding] = self._decided(finding, counts, is_vote)
        for name, values_of in self._numbers.items():
            column = truth.numbers[name] = np.full(n, nan)
            for place, values in values_of.items():
                column[place] = float(np.mean(values))
        truth.patients = self._patients if patients_known else None
        truth.groups = self._groups
        return truth

    def _decided(self, finding: str, counts: Mapping[float, Values], is_vote: bool) -> Values:
        """Return 1, 0 or NaN for each key, from how often it was labelled so."""
        present, absent, uncertain = counts[1.0], counts[0.0], counts[-1.0]
        self._note(self._truth.uncertain, finding, uncertain > 0)
        if self._reading.uncertain == "positive":
            present = present + uncertain
        elif self._reading.uncertain == "negative":
            absent = absent + uncertain
        is_both = (present > 0) & (absent > 0)
        if is_vote:
            is_both &= present == absent
        self._note(self._truth.conflicts, finding, is_both)
        return np.where(is_both | (present + absent == 0), nan, np.where(present > absent, 1.0, 0.0))

    @staticmethod
    def _note(counter: Counter[str], finding: str, which: NDArray[np.bool_]) -> None:
        if which.any():
            counter[finding] = int(which.sum())

    def _bound(self, name: str) -> None:
        if len(self._groups[name]) % 4096 == 1 and len(set(self._groups[name])) > MAX_GROUPS:
            raise TruthError(f"{self._truth.source}: expected at most {MAX_GROUPS} values to group by in {name!r}")


def _padded(counts: array[int], n: int) -> Values:
    return np.concatenate([np.array(counts, float), np.zeros(n - len(counts))])
