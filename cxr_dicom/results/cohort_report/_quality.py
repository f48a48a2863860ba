"""What headers say against what the pixels show, and what the warnings of a run are about."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from pydicom import Dataset
from pydicom.config import disable_value_validation

from cxr_dicom.dicom.files import Header
from cxr_dicom.records import Outcome, Reason
from cxr_dicom.results.cohort_report._numbers import measured
from cxr_dicom.results.schema import Row
from cxr_dicom.select.evidence import body_part, view

Attribute = Literal["modality", "body_part_examined", "view_position"]

PIXELS = (
    "a frontal chest, as declared",
    "a chest turned, mirrored or inverted",
    "a lateral view",
    "no frontal chest",
    "not looked at",
)
_AS_DECLARED, _OTHER_WAY, _LATERAL, _NO_CHEST, _NOT_LOOKED = range(len(PIXELS))
_EXAMPLES = 3
_MAX_KINDS = 200  # of warnings and values that are counted separately
_MAX_VALUES = 8  # of an attribute that are listed
_ATTRIBUTES: Mapping[Attribute, str] = {
    "modality": "Modality",
    "body_part_examined": "Body Part Examined",
    "view_position": "View Position",
}


@dataclass(slots=True)
class _Seen:
    text: str
    count: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, row: Row, line: int) -> None:
        self.count += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append({"uid": row["sop_instance_uid"], "line": line})


class Quality:
    """Counts of contradictions, warnings and values."""

    def __init__(self) -> None:
        self._problems: dict[str, _Seen] = {}
        self._warnings: dict[str, _Seen] = {}
        self._stated: dict[str, _Seen] = {}
        self._values: dict[Attribute, Counter[str]] = {name: Counter() for name in _ATTRIBUTES}
        self._content: dict[str, list[int]] = {}  # by what the header says, a count for each of `PIXELS`
        self._ways: Counter[str] = Counter()

    def add(self, row: Row, line: int) -> None:
        """Look at one row."""
        is_eligible = row["rows"] is not None
        if is_eligible and row["outcome"] != Outcome.FAILED:
            self._compare(row)
        for problem in _problems(row) if is_eligible else ():
            _note(self._problems, problem, problem, row, line)
        for warning in row["warnings"]:
            _note(self._warnings, re.sub(r"\d+", "#", warning), warning, row, line)
        if row["reason"] in (Reason.NOT_CHEST, Reason.NOT_FRONTAL) and not is_eligible:
            _note(self._stated, row["detail"], row["detail"], row, line)
        if is_eligible:
            for name, counter in self._values.items():
                value = row[name] or ""
                counter[value if value in counter or len(counter) < _MAX_KINDS else "other values"] += 1

    def _compare(self, row: Row) -> None:
        """Count what the header of an image says against what its pixels say."""
        part, position = row["body_part_examined"], row["view_position"]
        says = f"{_stated(part)}, {'view' if position else 'view not'} stated{f' ({position})' if position else ''}"
        if says not in self._content and len(self._content) >= _MAX_KINDS:
            says = "something else"
        seen = _seen(row)
        self._content.setdefault(says, [0] * len(PIXELS))[seen] += 1
        if seen == _OTHER_WAY and (way := row.get("content")):
            self._ways[way] += 1

    def content(self) -> list[dict[str, Any]]:
        """Return what headers said against what pixels say: a row for each statement, the commonest first."""
        ranked = sorted(self._content.items(), key=lambda item: (-sum(item[1]), item[0]))
        shown, rest = ranked[: 2 * _MAX_VALUES], [counts for _, counts in ranked[2 * _MAX_VALUES :]]
        if rest:
            shown.append((f"{len(rest)} more", [sum(column) for column in zip(*rest, strict=True)]))
        return [{"says": says, "counts": counts} for says, counts in shown]

    def ways(self) -> list[tuple[str, int]]:
        """How often an image is stored in which other way."""
        return [(way.replace("_", " ").replace("+", " and "), count) for way, count in self._ways.most_common()]

    def problems(self) -> list[_Seen]:
        """Contradictions between header and pixels."""
        return _ranked(self._problems)

    def warnings(self) -> list[_Seen]:
        """Warnings; those that differ in numbers only are one."""
        return _ranked(self._warnings)

    def stated(self) -> list[_Seen]:
        """What headers said of the images that were refused for it, whose pixels no model saw."""
        return _ranked(self._stated)[: 2 * _MAX_VALUES]

    def values(self) -> list[dict[str, Any]]:
        """How often each value of an attribute occurs among eligible images."""
        tables = []
        for name, title in _ATTRIBUTES.items():
            ranked = sorted(self._values[name].items(), key=lambda item: (-item[1], item[0]))
            shown, rest = ranked[:_MAX_VALUES], sum(count for _, count in ranked[_MAX_VALUES:])
            if rest:
                shown.append((f"{len(ranked) - _MAX_VALUES} more", rest))
            tables.append({"title": title, "total": self._values[name].total(), "values": shown})
        return tables


def _problems(row: Row) -> Iterable[str]:
    part, position = row["body_part_examined"], row["view_position"]
    no_lungs = row["reason"] == Reason.NOT_A_CHEST_CONTENT
    if no_lungs:
        says = _says(part, "BodyPartExamined")
        yield f"Body Part Examined {says}, no plausible frontal chest in the picture"
    elif row["outcome"] == Outcome.PROCESSED and not _holds("BodyPartExamined", part):
        yield f"Body Part Examined {_says(part, 'BodyPartExamined')}, lungs in the picture"
    if row["reason"] == Reason.NOT_FRONTAL or (measured(row, "view_lateral") or 0) > 0.5:
        yield f"View Position {_says(position, 'ViewPosition')}, model view sees a lateral image"
    elif row["outcome"] == Outcome.PROCESSED and not _holds("ViewPosition", position):
        yield f"View Position {_says(position, 'ViewPosition')}, read as frontal"


def _seen(row: Row) -> int:
    """What the pixels of an eligible image say, as an index of `PIXELS`."""
    reason, content = row["reason"], row.get("content")
    if reason == Reason.NOT_FRONTAL or (measured(row, "view_lateral") or 0) > 0.5:
        return _LATERAL
    if reason == Reason.NOT_A_CHEST_CONTENT or content == "doubtful":
        return _NO_CHEST
    if reason == Reason.WRONG_WAY_ROUND:
        return _OTHER_WAY
    if content is None:
        return _NOT_LOOKED
    return _AS_DECLARED if content == "as_declared" else _OTHER_WAY


def _stated(part: str | None) -> str:
    if not part:
        return "no body part"
    return "chest" if _holds("BodyPartExamined", part) else f"body part {part}"


def _says(value: str | None, keyword: str) -> str:
    if not value:
        return "is empty"
    if keyword == "BodyPartExamined" and _holds(keyword, value):
        return "names a chest"
    return f"is {value}"


@cache
def _holds(keyword: str, value: str | None) -> bool | None:
    """Whether a value alone names a chest, or a frontal view; None when it says nothing."""
    dataset = Dataset()
    with disable_value_validation():
        setattr(dataset, keyword, value or "")
    header = Header(dataset=dataset, pixel_keyword="", pixel_length=None)
    return (body_part if keyword == "BodyPartExamined" else view)(header).holds


def _note(seen: dict[str, _Seen], key: str, text: str, row: Row, line: int) -> None:
    if key not in seen and len(seen) >= _MAX_KINDS:
        key = text = "something else"
    seen.setdefault(key, _Seen(text)).add(row, line)


def _ranked(seen: dict[str, _Seen]) -> list[_Seen]:
    return sorted(seen.values(), key=lambda value: (-value.count, value.text))
