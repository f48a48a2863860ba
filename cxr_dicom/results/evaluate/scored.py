"""What a run said of the images, as columns, and which truth belongs to which image.

Rows are read one at a time and kept as numbers, so that 100,000 images fit.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.dicom.files import read_header
from cxr_dicom.errors import CxrDicomError, ImageError
from cxr_dicom.records import Outcome, Presence
from cxr_dicom.results.evaluate.truth import Key, Truth
from cxr_dicom.results.schema import Row

RESULTS = "results.jsonl"

Indices = NDArray[np.intp]
Values = NDArray[np.float64]

_CALL = {call: code for code, call in enumerate(("", *Presence))}
_SUFFIXES = (".dcm", ".dicom", ".dic", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
_AGES = ((18, "under 18"), (40, "18 to 39"), (65, "40 to 64"), (80, "65 to 79"), (999, "80 and over"))


class Column:
    """The scores of one finding, by row; NaN where there is none."""

    def __init__(self) -> None:
        self.models: set[str] = set()
        self.raw, self.point = array("d"), array("d")
        self.calls = array("B")

    def put(self, row: int, raw: Any, point: Any, call: Any, model: Any) -> None:
        """Add the score of a row; rows come in order, and may be left out."""
        if missing := row - len(self.raw):
            self.raw.extend([nan] * missing)
            self.point.extend([nan] * missing)
            self.calls.extend([0] * missing)
        self.raw.append(raw if type(raw) is float and abs(raw) < inf else _finite(raw))
        self.point.append(point if type(point) is float and abs(point) < inf else _finite(point))
        self.calls.append(_CALL.get(call, 0))
        self.models.add(model)

    def at(self, rows: Indices, name: str = "raw") -> Values:
        """Return the values of ``rows``."""
        column: array[float] = getattr(self, name)
        missing = max(0, int(rows.max(initial=-1)) + 1 - len(column))
        return np.concatenate([np.asarray(column, np.float64), np.full(missing, nan)])[rows]

    def called(self, rows: Indices, call: Presence) -> NDArray[np.bool_]:
        """Return which of ``rows`` have this call."""
        missing = max(0, int(rows.max(initial=-1)) + 1 - len(self.calls))
        codes = np.concatenate([np.frombuffer(self.calls, np.uint8), np.zeros(missing, np.uint8)])
        is_call: NDArray[np.bool_] = codes[rows] == _CALL[call]
        return is_call


@dataclass(kw_only=True, eq=False)
class Results:
    """The processed images of a run."""

    folder: Path
    uids: list[str] = field(default_factory=list)  # SOP Instance UIDs, each once
    studies: list[str] = field(default_factory=list)
    paths: list[tuple[str, ...]] = field(default_factory=list)  # parts of the path without its suffix, last first
    offsets: array[int] = field(default_factory=lambda: array("Q"))  # of each row in its file
    lines: array[int] = field(default_factory=lambda: array("Q"))
    groups: dict[str, list[str]] = field(
        default_factory=lambda: {"sex": [], "age": [], "view": [], "manufacturer": [], "sender": []}
    )
    spacing: list[tuple[float, float] | None] = field(default_factory=list)  # mm between rows, between columns
    scores: dict[str, Column] = field(default_factory=lambda: defaultdict(Column))
    measurements: dict[str, dict[str, Column]] = field(  # by name and UCUM unit
        default_factory=lambda: defaultdict(lambda: defaultdict(Column))
    )
    meanings: dict[str, tuple[str, str, str]] = field(default_factory=dict)  # of measurements: what, site, laterality
    models: set[tuple[str, str, str | None]] = field(default_factory=set)  # name, version, SHA-256 of the weights
    statements: set[str] = field(default_factory=set)  # those of `scores` that are statements on a measurement
    structures: dict[str, str] = field(default_factory=dict)  # that some image has an outline of -> its model
    refused: dict[str, str] = field(default_factory=dict)  # SOP Instance UID -> reason, where nothing was processed
    refused_paths: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    duplicates: int = 0  # rows of an image that has one

    def row(self, number: int) -> Row:
        """Read the row of an image again."""
        with (self.folder / RESULTS).open("rb") as file:
            file.seek(self.offsets[number])
            row: Row = json.loads(file.readline())
            return row


def read(folder: Path) -> Results:
    """Read the results of an output folder.

    Raises
    ------
    CxrDicomError
        If it is none, or a line is not a row.
    """
    results = Results(folder=folder)
    known: dict[str, int] = {}
    path = folder / RESULTS
    try:
        with path.open("rb") as file:
            offset = 0
            for number, line in enumerate(file, start=1):
                try:
                    _add(results, known, _parsed(line, path, number), number, offset)
                except (TypeError, AttributeError, KeyError, ValueError, IndexError) as error:
                    raise CxrDicomError(f"{path}: line {number} is not a row of results") from error
                offset += len(line)
    except OSError as error:
        raise CxrDicomError(f"{folder}: not the output of `run`: no {RESULTS} to read") from error
    return results


def _parsed(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise CxrDicomError(f"{path}: line {number} is not a JSON object")
    return row


def _add(results: Results, known: dict[str, int], row: dict[str, Any], line: int, offset: int) -> None:
    uid, parts = str(row.get("sop_instance_uid") or ""), _parts(str(row.get("path") or ""))
    if row.get("outcome") != Outcome.PROCESSED:
        reason = str(row.get("reason") or row.get("outcome") or "")
        if uid and uid not in known:
            results.refused.setdefault(uid, reason)
        results.refused_paths.append((parts, reason))
        return
    if not uid or uid in known:
        results.duplicates += 1
        return
    place = known[uid] = len(results.uids)
    results.uids.append(uid)
    results.studies.append(str(row.get("study_instance_uid") or uid))
    results.paths.append(parts)
    results.offsets.append(offset)
    results.lines.append(line)
    results.refused.pop(uid, None)
    spacing = row.get("spacing_mm")
    results.spacing.append((float(spacing[0]), float(spacing[1])) if spacing else None)
    for name, value in (
        ("sex", row.get("patient_sex")),
        ("age", _age_group(row.get("patient_age_years"))),
        ("view", row.get("view")),
        ("manufacturer", row.get("manufacturer")),
        ("sender", row.get("sender")),
    ):
        results.groups[name].append(str(value or ""))
    _add_results(results, place, row)


def _add_results(results: Results, place: int, row: dict[str, Any]) -> None:
    for model in row.get("models") or ():
        results.models.add((model["name"], model["version"], model.get("weights_sha256")))
    for name, box in (row.get("boxes") or {}).items():
        results.structures.setdefault(name, str(box.get("model")))
    for name, score in (row.get("scores") or {}).items():
        results.scores[name].put(
            place, score.get("raw"), score.get("operating_point"), score.get("call"), score.get("model")
        )
    measurements = row.get("measurements") or {}
    for name, measurement in measurements.items():
        results.measurements[name][str(measurement.get("unit"))].put(
            place, measurement.get("value"), None, None, measurement.get("model")
        )
        if name not in results.meanings:
            what, site, side = (str(measurement.get(key) or "").lower() for key in ("meaning", "site", "laterality"))
            results.meanings[name] = (what, site, side)
    for name, statement in (row.get("statements") or {}).items():  # scored by what they rest on
        value = measurements.get(statement.get("measurement"), {}).get("value")
        results.statements.add(name)
        results.scores[name].put(place, value, None, statement.get("call"), statement.get("model"))


def _finite(value: Any) -> float:
    return float(value) if isinstance(value, (float, int)) and isfinite(value) else nan


def _age_group(years: Any) -> str:
    if not isinstance(years, (int, float)):
        return ""
    return next((name for limit, name in _AGES if years < limit), "")


def _parts(path: str) -> tuple[str, ...]:
    """Parts of a path, the last first, without the suffix of a picture or of DICOM."""
    parts = [part for part in path.strip().replace("\\", "/").split("/") if part not in ("", ".")]
    if parts:
        name = parts[-1].lower()
        while suffix := next((ending for ending in _SUFFIXES if name.endswith(ending) and name != ending), ""):
            parts[-1] = parts[-1][: -len(suffix)]
            name = parts[-1].lower()
    return tuple(reversed(parts))


@dataclass(kw_only=True, eq=False)
class Matched:
    """Images with a truth, and which truth it is."""

    results: Results
    truth: Truth
    rows: Indices  # numbers of images in `results`
    truths: Indices  # numbers of rows in `truth`, aligned
    patients: Indices  # number of the patient, aligned; 0 to `patient_count` - 1
    patient_count: int
    grouped_by: str  # what stands for a patient: "the column ...", or "study"
    unmatched: Counter[str]  # why a truth has no image -> truths
    images_without: int  # processed images that no truth is about

    def groups(self) -> Iterator[tuple[str, list[str]]]:
        """Yield what images can be grouped by, and the value of each image; "" where it is not known."""
        for name, values in self.results.groups.items():
            yield name, [values[row] for row in self.rows]
        for name, values in self.truth.groups.items():
            yield name, [values[row] for row in self.truths]


def match(results: Results, truth: Truth, patient_column: str | None = None) -> Matched:
    """Find the images that each truth is about.

    A truth by study is about each image of the study. One by file name is about the image whose path ends in the
    same parts, without suffixes; where several do, it is about none of them.
    """
    found: list[tuple[int, int]] = []
    unmatched: Counter[str] = Counter()
    index = _index(results, truth.key)
    why_not = _why_not(results, truth.key)
    for number, key in enumerate(truth.rows):
        rows, problem = index(key)
        found += [(row, number) for row in rows]
        if not rows:
            unmatched[problem or why_not(key)] += 1
    taken: dict[int, int] = {}
    for row, number in found:
        if taken.setdefault(row, number) != number:
            raise CxrDicomError(f"{truth.source}: expected one truth for each image, found two for {results.uids[row]}")
    rows, truths = np.array(sorted(taken), np.intp), np.array([taken[row] for row in sorted(taken)], np.intp)
    names = [_patient(results, truth, row, number) for row, number in zip(rows, truths, strict=True)]
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    column = f"the column {patient_column!r}" if patient_column else f"the patients of {truth.layout}"
    return Matched(
        results=results,
        truth=truth,
        rows=rows,
        truths=truths,
        patients=np.array([numbers[name] for name in names], np.intp),
        patient_count=len(numbers),
        grouped_by=column if truth.patients is not None else "study",
        unmatched=unmatched,
        images_without=len(results.uids) - len(rows),
    )


def _patient(results: Results, truth: Truth, row: int, number: int) -> tuple[str, str]:
    if truth.patients is not None and truth.patients[number]:
        return "patient", truth.patients[number]
    return "study", results.studies[row]


class _ByName:
    """Images by the end of their path."""

    def __init__(self, paths: Iterable[tuple[str, ...]]) -> None:
        self._of: dict[str, list[tuple[tuple[str, ...], int]]] = defaultdict(list)
        for number, parts in enumerate(paths):
            if parts:
                self._of[parts[0]].append((parts, number))

    def __call__(self, key: str) -> tuple[list[int], str]:
        wanted = _parts(key)
        same = self._of.get(wanted[0], []) if wanted else []
        best: list[int] = []
        length = 0
        for parts, number in same:
            common = next((at for at, (a, b) in enumerate(zip(parts, wanted, strict=False)) if a != b), None)
            common = min(len(parts), len(wanted)) if common is None else common
            if common > length:
                best, length = [], common
            if common == length:
                best.append(number)
        if len(best) > 1:
            return [], "its file name fits several images"
        return best, ""


def _index(results: Results, key: Key) -> Any:
    if key == "file_name":
        return _ByName(results.paths)
    of: dict[str, list[int]] = defaultdict(list)
    names: Sequence[str] = results.uids if key == "sop_instance_uid" else results.studies
    accessions: dict[str, set[str]] = defaultdict(set)
    for number, name in enumerate(names):
        of[name].append(number)
    if key == "accession_number":
        for study, rows in list(of.items()):
            if accession := _accession(results, rows[0]):
                accessions[accession].add(study)
        return lambda key: (
            ([], "its accession number is that of several studies")
            if len(accessions.get(key, ())) > 1
            else ([row for study in accessions.get(key, ()) for row in of[study]], "")
        )
    return lambda key: (of.get(key, []), "")


def _accession(results: Results, row: int) -> str:
    """Accession number of a study, which its objects bear as its images do; rows do not hold it."""
    for object_row in results.row(row).get("objects") or ():
        try:
            header = read_header(results.folder / object_row["path"], ("AccessionNumber",))
        except ImageError:
            continue
        return header.text("AccessionNumber")
    return ""


def _why_not(results: Results, key: Key) -> Any:
    if key == "sop_instance_uid":
        return lambda uid: results.refused.get(uid) or "not in the results"
    if key == "file_name":
        refused = _ByName(parts for parts, _ in results.refused_paths)

        def reason(name: str) -> str:
            numbers, problem = refused(name)
            return results.refused_paths[numbers[0]][1] if numbers else problem or "not in the results"

        return reason
    return lambda _: "not in the results, or none of its images was processed"
