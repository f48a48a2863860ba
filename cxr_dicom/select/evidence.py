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

from pydicom import Dataset

from cxr_dicom.dicom.codes import WRAPPER
from cxr_dicom.dicom.files import Header, values
from cxr_dicom.dicom.text import shown
from cxr_dicom.select import words

_OF_THE_IMAGE = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")
_OF_THE_ORDER = (  # name all that was ordered: may say that this image has a view, never that it has it not
    "PerformedProcedureStepDescription",
    "StudyDescription",
    "RequestedProcedureDescription",
)
_FIRST_JOINED = 0x0590  # scripts that join words: Hebrew and Arabic join articles, those of Asia all
_ABBREVIATION = re.compile(r"(?<![^\W\d_])([^\W\d_])(?:\.\s?|[-/])([^\W\d_])(?![^\W\d_])\.?")  # p.a., A. P., P-A
_HYPHENATED = re.compile(
    r"(?<![^\W\d_])(?:(postero|antero|latero|dorso|ventro)[\s_-]+(?=[^\W\d_])|(cross|x)[\s_-]+(?=table))"
)
_JOINED = re.compile(r"(?<=[^\W\d_A-Z]{2})(?=[A-Z])")  # ThoracicSpine, ChestPA


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an attribute says to a question: yes, no, or nothing (None)."""

    holds: bool | None = None
    source: str = ""  # where a no comes from, without free text


_NOTHING = Evidence()


def body_part(header: Header) -> Evidence:
    """Say whether the image shows a chest: no only where a part that is known not to be one is named."""
    coded = (_body_part_examined(header), _anatomic_region(header))
    return _weigh(coded, _described_part(header))


def view(header: Header) -> Evidence:
    """Say whether the view is frontal."""
    coded = (_view_position(header), _view_code(header), _depth_direction(header))
    return _weigh(coded, (*_described_view(header), _in_frontal_plane(header)))


def stated_view(header: Header) -> str:
    """PA or AP where View Position or View Code Sequence says so and neither contradicts, else nothing."""
    position = header.text("ViewPosition")
    stated = {words.VIEW_CODES.get(code, "") for code in header.codes("ViewCodeSequence")}
    stated |= {"PA"} if _mentions(position, words.PA_POSITIONS) else set()
    stated |= {"AP"} if _mentions(position, words.AP_POSITIONS) else set()
    stated &= {"PA", "AP"}
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
    squeezed = "".join(re.findall(r"[^\W\d_]", _folded(part)))
    if not part or squeezed in words.UNKNOWN_BODY_PARTS:
        return _NOTHING
    source = f"Body Part Examined is {shown(part)}"
    if squeezed in words.OTHER_BODY_PARTS or _mentions(part, words.BONE_WORDS):
        return Evidence(False, source)
    chest = _mentions_chest(part) or any(stem in squeezed for stem in words.CHEST_STEMS)
    other = _mentions(part, words.OTHER_PART_WORDS)
    return Evidence(chest, source) if chest != other else _NOTHING


def _anatomic_region(header: Header) -> Evidence:
    """A code that is in no list says nothing, unless its meaning does."""
    items = header.values("AnatomicRegionSequence")
    codes = header.codes("AnatomicRegionSequence")
    if not words.CHEST_CODES.isdisjoint(codes):
        return Evidence(True)
    if codes and any(map(_is_other_region, items)):
        return Evidence(False, f"Anatomic Region is {shown(codes[0])}")
    text = _meanings(items)
    return _one_of(_mentions_chest(text), _mentions(text, words.OTHER_PART_WORDS), "Anatomic Region means another one")


def _is_other_region(item: Dataset) -> bool:
    """Whether a code is one of the standard's for a part of the body (PS3.16 CID 4009, 4031), in any SNOMED."""
    from pydicom.sr.codedict import codes  # large: only for what is not known to be a chest
    from pydicom.sr.coding import Code

    value = "".join(map(str, values(item, "CodeValue")))
    spelled = [Code(value, scheme, "") for scheme in ("SCT", "SRT")]
    known = (code for group in (codes.cid4009, codes.cid4031) for code in group.concepts.values())
    return any(code in spelled for code in known)


def _view_position(header: Header) -> Evidence:
    position = header.text("ViewPosition")
    if _mentions_other_view(position, words.OTHER_POSITIONS):
        return Evidence(False, f"View Position is {shown(position)}")
    return Evidence(True) if _mentions(position, words.FRONTAL_POSITIONS) else _NOTHING


def _view_code(header: Header) -> Evidence:
    codes = header.codes("ViewCodeSequence")
    if not words.OTHER_VIEW_CODES.isdisjoint(codes):
        return Evidence(False, f"View Code is {shown(codes[0])}")
    if any(code in words.VIEW_CODES for code in codes):
        return Evidence(True)
    text = _meanings(header.values("ViewCodeSequence"))
    yes, no = _mentions(text, words.FRONTAL_POSITIONS), _mentions_other_view(text, words.OTHER_VIEW_WORDS)
    return _one_of(yes, no, "View Code means another one")


def _meanings(items: Iterable[Dataset]) -> str:
    """The Code Meanings of codes that we do not know."""
    return " ".join(str(meaning) for item in items for meaning in values(item, "CodeMeaning"))


def _one_of(yes: bool, no: bool, source: str) -> Evidence:
    """What a text with words of one kind says; with words of both kinds, or of none, it says nothing."""
    return _NOTHING if yes == no else Evidence(yes, source)


def _depth_direction(header: Header) -> Evidence:
    """Rows or columns that run to the front or the back are those of a lateral view."""
    orientation = directions(header)
    if {"A", "P"}.isdisjoint(orientation):
        return _NOTHING
    return Evidence(False, f"Patient Orientation begins with {'/'.join(map(shown, orientation[:2]))}")


def _in_frontal_plane(header: Header) -> Evidence:
    """Patient Orientation alone is weak: devices write it for every image."""
    if is_wrapped(header):
        return _NOTHING
    orientation = set(directions(header))
    return Evidence(True) if orientation & {"L", "R"} and orientation & {"H", "F"} else _NOTHING


def _described_part(header: Header) -> Iterator[Evidence]:
    """Yield what each description says; one with words of both kinds, as "chest and hand", says nothing."""
    for keyword in (*_OF_THE_IMAGE, *_OF_THE_ORDER):
        text = header.text(keyword)
        yes, no = _mentions_chest(text), _mentions(text, words.OTHER_PART_WORDS)
        yield _one_of(yes, no, f"{keyword} names another part of the body")


def _described_view(header: Header) -> Iterator[Evidence]:
    """Yield what each description says; one with words of both kinds, as "PA and lateral", says nothing."""
    for keyword in (*_OF_THE_IMAGE, *_OF_THE_ORDER):
        text = header.text(keyword)
        yes, no = _mentions(text, words.FRONTAL_WORDS), _mentions_other_view(text, words.OTHER_VIEW_WORDS)
        if yes != no and (yes or keyword in _OF_THE_IMAGE):
            yield Evidence(yes, f"{keyword} names another view")


def _mentions_chest(text: str) -> bool:
    """Whether a chest is named, and not only its spine."""
    return _mentions(_without(text, words.NO_CHEST), words.CHEST_WORDS)


def _mentions_other_view(text: str, patterns: tuple[str, ...]) -> bool:
    """Whether another view is named, and not only that the patient lies on the back."""
    return _mentions(_without(text, words.LYING), patterns)


def _without(text: str, patterns: tuple[str, ...]) -> str:
    return _pattern(patterns).sub(" ", _folded(text))


def _mentions(text: str, patterns: tuple[str, ...]) -> bool:
    return bool(text) and _pattern(patterns).search(_folded(text)) is not None


@cache
def _pattern(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(_word_pattern, patterns)))


def _word_pattern(word: str) -> str:
    letter = r"[^\W\d_]"
    parts = [re.escape(_folded(part)) for part in word.rstrip("*").split("*")]
    stem = f"{letter}*".join(parts).replace(r"\ ", r"[\W_]+")
    if ord(word[0]) >= _FIRST_JOINED:
        return stem
    return f"(?<!{letter}){stem}" + ("" if word.endswith("*") else f"(?!{letter})")


def _folded(text: str) -> str:
    """Without capitals, accents, dots of abbreviations and hyphens of compounds; what capitals join stands apart."""
    decomposed = unicodedata.normalize("NFKD", _JOINED.sub(" ", text).casefold())
    plain = "".join(character for character in decomposed if not unicodedata.combining(character))
    return _HYPHENATED.sub(r"\1\2", _ABBREVIATION.sub(r"\1\2", plain))
