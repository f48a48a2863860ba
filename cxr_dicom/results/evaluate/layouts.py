"""The tables in which public data sets publish their labels, and any other table.

- CheXpert: ``Path`` and one column for each finding: 1, 0, -1 for uncertain, blank for not mentioned. Where No
  Finding is 1, what is blank is 0, as TorchXRayVision reads it.
- NIH ChestX-ray14: ``Image Index`` and ``Finding Labels``, the findings of an image joined by ``|``; what is not
  named is absent.
- RSNA Pneumonia Challenge: ``patientId``, which names an image, and ``Target``; one row for each box.
- VinDr-CXR: ``image_id`` and ``rad_id``, one row for each box or for each reader; most readers decide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from cxr_dicom.results.evaluate.truth import (
    KEYS,
    MAX_GROUPS,
    Collected,
    Key,
    Line,
    Reading,
    Truth,
    TruthError,
    label,
    number,
    open_table,
    plain,
    stable,
)

NIH_FINDINGS = (
    *("atelectasis", "cardiomegaly", "pleural_effusion", "infiltration", "mass", "nodule", "pneumonia"),
    *("pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural_thickening", "hernia"),
)
RSNA_FINDINGS = ("pneumonia", "lung_opacity")  # what Target stands for, as TorchXRayVision has it
NO_FINDING = "no_finding"
_PLAIN: Mapping[str, float | None] = {"1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0, "-1.0": -1.0, "": None}  # most cells
_CHEXPERT_PATIENT = re.compile(r"(?:^|/)(patient\d+)/")


def read_table(path: Path, reading: Reading, findings: Collection[str], measurements: Collection[str]) -> Truth:
    """Read a table of truth.

    Parameters
    ----------
    path
        CSV or Parquet.
    reading
        How the user wants its columns read.
    findings, measurements
        Names that the results have; a column of another name is not used.

    Raises
    ------
    TruthError
        If it cannot be read, or says nothing of any finding or measurement.
    """
    names, lines = open_table(path)
    table = _Table(path.name, names, lines, reading)
    known = {plain(name) for name in names}
    layout: Callable[[_Table, Collection[str], Collection[str]], Truth] = _any
    if {"imageindex", "findinglabels"} <= known:
        layout = _nih
    elif {"patientid", "target"} <= known and not known & KEYS.keys():
        layout = _rsna
    elif {"imageid", "radid", "classname"} <= known:
        layout = _vindr_boxes
    truth = layout(table, findings, measurements)
    if not truth.rows:
        raise TruthError(f"{path.name}: expected rows below the header, found none")
    if not truth.labels and not truth.numbers:
        raise TruthError(
            f"{path.name}: expected a column with the name of a finding or a measurement of the results"
            f" ({', '.join(sorted({*findings, *measurements})[:12]) or 'there is none'}, ...); map one with --map"
        )
    for name, values in truth.groups.items():
        if len(set(values)) > MAX_GROUPS:
            raise TruthError(f"{path.name}: expected at most {MAX_GROUPS} values to group by in {name!r}")
    return truth


class _Table:
    """Columns by name, and the rows."""

    def __init__(self, source: str, names: Sequence[str], lines: Iterator[Line], reading: Reading) -> None:
        self.source, self.names, self.lines, self.reading = source, list(names), lines, reading
        for name in (*reading.columns, *reading.by, *([reading.patient] if reading.patient else [])):
            self.at(name)
        self.by = [self.at(name) for name in reading.by]
        self.patient = self.at(reading.patient) if reading.patient else None

    def at(self, name: str) -> int:
        """Return the place of a column that the user names, as it is written or nearly so."""
        if name in self.names:
            return self.names.index(name)
        found = self.find(name)
        if found is None:
            raise TruthError(f"{self.source}: expected a column {name!r}, found {', '.join(self.names[:20])}")
        return found

    def find(self, *wanted: str) -> int | None:
        """Return the place of the first column that has one of the names."""
        simple = [plain(name) for name in self.names]
        return next((simple.index(plain(name)) for name in wanted if plain(name) in simple), None)

    def need(self, name: str) -> int:
        """Return the place of a column that a layout has."""
        place = self.find(name)
        if place is None:  # callers looked before
            raise TruthError(f"{self.source}: expected a column {name!r}")
        return place

    def key(self) -> tuple[int, Key]:
        """Return the column that says which image a row is about, and what it holds."""
        for name, target in self.reading.columns.items():
            if target in KEYS.values():
                return self.at(name), _as_key(target)
        for name, key in KEYS.items():
            if (place := self.find(name)) is not None:
                return place, key
        raise TruthError(
            f"{self.source}: expected a column of SOP Instance UIDs, Study Instance UIDs, accession numbers or file"
            f" names, found {', '.join(self.names[:20])}; map one with --map 'COLUMN=sop_instance_uid'"
        )

    def begin(self, layout: str, key: Key) -> Collected:
        self.truth = Truth(source=self.source, layout=layout, key=key)
        return Collected(self.truth, self.reading)

    def where(self, line: Line, place: int) -> str:
        return f"{self.source}: line {line.number}, column {self.names[place]!r}"

    def label(self, line: Line, place: int) -> float | None:
        """Read a label; see `truth.label`."""
        cell = line.cells[place]
        return _PLAIN[cell] if cell in _PLAIN else label(cell, self.where(line, place))

    def put(self, collected: Collected, line: Line, key: int, patient: str = "") -> int | None:
        """Return the place of the image of a line, or None where the line names none."""
        if not line.cells[key].strip():
            return None
        if self.patient is not None:
            patient = line.cells[self.patient].strip()
        return collected.place(line.cells[key], patient, [line.cells[place] for place in self.by])


def _as_key(target: str) -> Key:
    return next(key for key in KEYS.values() if key == target)


def _any(table: _Table, findings: Collection[str], measurements: Collection[str]) -> Truth:
    """One row for each image, study or reader; CheXpert's, too."""
    key, kind = table.key()
    labels, numbers = _columns(table, key, findings, measurements)
    is_chexpert = table.find("frontallateral") is not None or (
        plain(table.names[key]) == "path" and table.find("nofinding") is not None
    )
    reader = table.find("radid", "readerid", "reader")
    layout = "CheXpert" if is_chexpert else "table" if table.find("radid") is None else "VinDr-CXR"
    healthy = table.find("nofinding")
    collected = table.begin(layout, kind)
    has_patients = table.patient is not None
    for line in table.lines:
        patient = _CHEXPERT_PATIENT.search(line.cells[key]) if is_chexpert else None
        has_patients = has_patients or patient is not None
        place = table.put(collected, line, key, patient[1] if patient else "")
        if place is None:
            continue
        is_healthy = healthy is not None and table.label(line, healthy) == 1
        for column, finding in labels:
            value = table.label(line, column)
            collected.vote(place, finding, 0.0 if value is None and is_healthy else value)
        for column, name in numbers:
            collected.measure(place, name, number(line.cells[column], table.where(line, column)))
    used = {key, healthy, reader, table.patient, *table.by, *(column for column, _ in (*labels, *numbers))}
    table.truth.unused = [name for at, name in enumerate(table.names) if at not in used]
    return collected.done(has_patients, is_vote=reader is not None)


def _columns(
    table: _Table, key: int, findings: Collection[str], measurements: Collection[str]
) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Return the columns of labels and those of numbers, each with what it is about."""
    labels: list[tuple[int, str]] = []
    numbers: list[tuple[int, str]] = []
    taken = {key, table.patient}
    for column, target in table.reading.columns.items():
        if target in KEYS.values():
            continue
        if target not in findings and target not in measurements:
            raise TruthError(
                f"--map: expected a finding or a measurement of the results, found {target!r}; they have"
                f" {', '.join(sorted({*findings, *measurements}))}"
            )
        (numbers if target in measurements else labels).append((table.at(column), target))
        taken.add(table.at(column))
    mapped = {target for _, target in (*labels, *numbers)}
    for place, name in enumerate(table.names):
        if place in taken:
            continue
        for target, into in ((stable(name), labels), (re.sub(r"\W+", "_", name.lower()), numbers)):
            if target in (findings if into is labels else measurements) and target not in mapped:
                into.append((place, target))
                mapped.add(target)
                break
    return labels, numbers


def _nih(table: _Table, findings: Collection[str], measurements: Collection[str]) -> Truth:
    key, named, patient = table.need("imageindex"), table.need("findinglabels"), table.find("patientid")
    collected = table.begin("NIH ChestX-ray14", "file_name")
    for line in table.lines:
        place = table.put(collected, line, key, line.cells[patient].strip() if patient is not None else "")
        if place is None:
            continue
        labels = {stable(word) for word in line.cells[named].split("|") if word.strip()}
        if not labels or labels - {*NIH_FINDINGS, NO_FINDING} or (NO_FINDING in labels and len(labels) > 1):
            raise TruthError(f"{table.where(line, named)}: expected the labels of NIH joined by '|', or No Finding")
        for finding in NIH_FINDINGS:
            if finding in findings:
                collected.vote(place, finding, float(finding in labels))
    return collected.done(patient is not None or table.patient is not None)


def _rsna(table: _Table, findings: Collection[str], measurements: Collection[str]) -> Truth:
    key, target = table.need("patientid"), table.need("target")
    corners = [table.find(name) for name in ("x", "y", "width", "height")]
    collected = table.begin("RSNA", "file_name")
    for line in table.lines:
        place = table.put(collected, line, key)
        if place is None:
            continue
        value = table.label(line, target)
        has_box = any(at is not None and line.cells[at].strip().lower() not in ("", "nan") for at in corners)
        if value not in (0.0, 1.0) or has_box != (value == 1.0 and any(at is not None for at in corners)):
            raise TruthError(f"{table.where(line, target)}: expected 1 with a box or 0 without")
        for finding in RSNA_FINDINGS:
            if finding in findings:
                collected.vote(place, finding, value)
    return collected.done(table.patient is not None)


def _vindr_boxes(table: _Table, findings: Collection[str], measurements: Collection[str]) -> Truth:
    """A row for each box: a reader who read an image and drew no box of a finding says that it is absent."""
    key, named, reader = table.need("imageid"), table.need("classname"), table.need("radid")
    collected = table.begin("VinDr-CXR", "file_name")
    labels: dict[int, dict[str, set[str]]] = {}
    classes: set[str] = set()
    for line in table.lines:
        place = table.put(collected, line, key)
        if place is None:
            continue
        finding = stable(line.cells[named])
        labels.setdefault(place, {}).setdefault(line.cells[reader].strip(), set()).add(finding)
        classes.add(finding)
    for place, readers in labels.items():
        for drawn in readers.values():
            for finding in sorted(classes & set(findings)):
                collected.vote(place, finding, float(finding in drawn))
    table.truth.unused = sorted(classes - set(findings) - {NO_FINDING})
    table.truth.repeated = 0
    return collected.done(table.patient is not None, is_vote=True)
