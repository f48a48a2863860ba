"""What the attributes of an image say of two things: whether it is a chest, and whether it is frontal.

Codes are asked first, descriptions only where the codes say nothing: a study description often
names what was ordered, not what this image shows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

from cxr_dicom.dicom.codes import WRAPPER
from cxr_dicom.dicom.files import Header
from cxr_dicom.select import words

_DESCRIPTIONS = (  # the most specific first
    "SeriesDescription",
    "ProtocolName",
    "AcquisitionDeviceProcessingDescription",
    "PerformedProcedureStepDescription",
    "StudyDescription",
)
_LONGEST_CODE = 16  # of a CS value (PS3.5 6.2); more would be free text
_FIRST_EAST_ASIAN = 0x2E80  # scripts that put no spaces between words


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an attribute says to a question: yes, no, or nothing (None)."""

    holds: bool | None = None
    source: str = ""  # where a no comes from, without free text


_NOTHING = Evidence()


def body_part(header: Header) -> Evidence:
    """Say whether the image shows a chest."""
    coded = (_body_part_examined(header), _anatomic_region(header))
    return _weigh(coded, _described(header, words.CHEST_WORDS, words.OTHER_PART_WORDS, "another part of the body"))


def view(header: Header) -> Evidence:
    """Say whether the view is frontal."""
    coded = (_view_position(header), _view_code(header), _depth_direction(header))
    described = _described(header, words.FRONTAL_WORDS, words.OTHER_VIEW_WORDS, "another view")
    return _weigh(coded, (*described, _in_frontal_plane(header)))


def stated_view(header: Header) -> str:
    """PA or AP where an attribute says so, else nothing."""
    stated = set(re.findall(r"[A-Z]+", header.text("ViewPosition").upper())) & {"PA", "AP"}
    stated = stated or {words.VIEW_CODES.get(code, "") for code in header.codes("ViewCodeSequence")} & {"PA", "AP"}
    return stated.pop() if len(stated) == 1 else ""


def directions(header: Header) -> tuple[str, ...]:
    """The main direction of rows and of columns: the first letters of Patient Orientation."""
    return tuple(str(direction).strip().upper()[:1] for direction in header.values("PatientOrientation"))


def is_wrapped(header: Header) -> bool:
    """Whether it was a picture: its Patient Orientation and Imager Pixel Spacing are made up."""
    return header.text("Manufacturer") == WRAPPER


def _weigh(coded: Iterable[Evidence], described: Iterable[Evidence]) -> Evidence:
    """A no among the codes wins, then a yes; descriptions count only where the codes say nothing."""
    coded = tuple(coded)
    for answer in (False, True):
        for evidence in coded:
            if evidence.holds is answer:
                return evidence
    return next((evidence for evidence in described if evidence.holds is not None), _NOTHING)


def _body_part_examined(header: Header) -> Evidence:
    part = header.text("BodyPartExamined")
    if not part or _letters(part) in words.UNKNOWN_BODY_PARTS:
        return _NOTHING
    other, chest = _mentions(part, words.OTHER_PART_WORDS), _mentions(part, words.CHEST_WORDS)
    return Evidence(chest and not other, f"Body Part Examined is {part[:_LONGEST_CODE]}")


def _anatomic_region(header: Header) -> Evidence:
    codes = header.codes("AnatomicRegionSequence")
    if not codes:
        return _NOTHING
    return Evidence(not words.CHEST_CODES.isdisjoint(codes), f"Anatomic Region is {codes[0]}")


def _view_position(header: Header) -> Evidence:
    position = header.text("ViewPosition")
    parts = set(re.findall(r"[A-Z]+", position.upper()))
    if parts & words.OTHER_POSITIONS:
        return Evidence(False, f"View Position is {position[:_LONGEST_CODE]}")
    return Evidence(True) if parts & words.FRONTAL_POSITIONS else _NOTHING


def _view_code(header: Header) -> Evidence:
    codes = header.codes("ViewCodeSequence")
    if not words.OTHER_VIEW_CODES.isdisjoint(codes):
        return Evidence(False, f"View Code is {codes[0]}")
    return Evidence(True) if any(code in words.VIEW_CODES for code in codes) else _NOTHING


def _depth_direction(header: Header) -> Evidence:
    """Rows or columns that run to the front or the back are those of a lateral view."""
    orientation = directions(header)
    if {"A", "P"}.isdisjoint(orientation):
        return _NOTHING
    return Evidence(False, f"Patient Orientation begins with {'/'.join(orientation)}")


def _in_frontal_plane(header: Header) -> Evidence:
    """Patient Orientation alone is weak: devices write it for every image."""
    if is_wrapped(header):
        return _NOTHING
    orientation = set(directions(header))
    return Evidence(True) if orientation & {"L", "R"} and orientation & {"H", "F"} else _NOTHING


def _described(header: Header, wanted: tuple[str, ...], unwanted: tuple[str, ...], other: str) -> Iterator[Evidence]:
    """Yield what each description says; one with words of both kinds, as "PA and lateral", says nothing."""
    for keyword in _DESCRIPTIONS:
        text = header.text(keyword)
        yes, no = _mentions(text, wanted), _mentions(text, unwanted)
        if yes != no:
            yield Evidence(yes, f"{keyword} names {other}")


def _letters(text: str) -> str:
    return re.sub(r"[^A-Z]", "", text.upper())


def _mentions(text: str, patterns: tuple[str, ...]) -> bool:
    return bool(text) and _pattern(patterns).search(_folded(text)) is not None


@cache
def _pattern(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(_word_pattern, patterns)))


def _word_pattern(word: str) -> str:
    stem = re.escape(_folded(word.rstrip("*")))
    if ord(word[0]) >= _FIRST_EAST_ASIAN:
        return stem
    letter = r"[^\W\d_]"
    return f"(?<!{letter}){stem}" + ("" if word.endswith("*") else f"(?!{letter})")


def _folded(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))
