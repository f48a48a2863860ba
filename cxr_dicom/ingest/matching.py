"""An answer of an archive is compared with the question: attribute matching, PS3.4 C.2.2.2, on our side.

Servers ignore keys that they do not know, or that they should. What they return then is anybody's.
"""

from __future__ import annotations

import fnmatch
import re
import unicodedata
from collections.abc import Mapping, Sequence
from enum import Enum
from functools import lru_cache

from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

Item = Mapping[
    str, tuple[str, ...]
]  # one match, by keyword: its values as text; a keyword that is missing: not returned
Keys = Mapping[str, str]  # what is asked for, by keyword or tag

_ALWAYS_RETURNED = frozenset(  # PS3.18 table 10.6.3-3, PS3.4 table C.6-5
    {"StudyDate", "StudyTime", "AccessionNumber", "PatientName", "PatientID", "StudyInstanceUID", "StudyID"}
)
_TEXT = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
_PADDING = " \0\t\r\n"
_DIGITS = re.compile(r"\d{2,14}(\.\d{1,6})?", re.ASCII)
_BETWEEN_CODES = re.compile(r"[\\,]")
_LONGEST = 1024  # characters of a value; more is none


class Verdict(Enum):
    """What a returned item is, compared with what was asked."""

    WANTED = "wanted"
    FOREIGN = "foreign"  # it contradicts a key
    UNPROVED = "unproved"  # a key that every server returns is missing


def unpadded(value: str) -> str:
    """Return a value without the padding that belongs to its encoding (PS3.5 6.2) or was put around it."""
    return value[:_LONGEST].strip(_PADDING)


def codes(name: str, value: str) -> list[str]:
    """Return the values that a server wrote into one; backslash and comma are not of a code string (PS3.5 6.2)."""
    tag = tag_for_keyword(name)
    if tag is None or dictionary_VR(tag) != "CS":
        return [value]
    return [unpadded(each) for each in _BETWEEN_CODES.split(value)]


def keyword(key: str) -> str:
    """Return the keyword of a key of QIDO-RS, which may be a tag in hexadecimal digits; else the key itself."""
    return (keyword_for_tag(int(key, 16)) or key) if re.fullmatch(r"[0-9A-Fa-f]{8}", key) else key


def judge(asked: Keys, item: Item) -> tuple[Verdict, str]:
    """Compare an item with the keys; return also the key that does not match."""
    unproved = ""
    for key, wanted in asked.items():
        name = keyword(key)
        values = item.get(name)
        if not wanted:
            continue
        if values is None:
            unproved = unproved or (name if name in _ALWAYS_RETURNED else "")
        elif not _matches(name, wanted, values):
            return Verdict.FOREIGN, name
    return (Verdict.UNPROVED, unproved) if unproved else (Verdict.WANTED, "")


def _matches(name: str, wanted: str, values: Sequence[str]) -> bool:
    tag = tag_for_keyword(name)
    vr = dictionary_VR(tag) if tag is not None else ""
    if vr == "UI":
        return any(value in re.split(r"[\\,]", wanted) for value in values)
    if vr in ("DA", "TM"):
        limits = bounds(wanted)
        return limits is None or any(_is_between(value, limits, vr) for value in values)
    if vr in _TEXT:
        return any(_pattern(each).fullmatch(_plain(value)) for each in wanted.split("\\") for value in values or ("",))
    return True  # of numbers and sequences servers have their own ways


def bounds(wanted: str) -> tuple[str, str] | None:
    """Return the first and the last of a range of dates or times, each perhaps empty; None for what is none."""
    first, dash, last = (part.strip() for part in wanted.partition("-"))
    is_range = all(_DIGITS.fullmatch(part) for part in (first, last) if part) and bool(first or last)
    return (first, last if dash else first) if is_range else None


def _is_between(value: str, limits: tuple[str, str], vr: str) -> bool:
    value = value.replace("." if vr == "DA" else ":", "")  # PS3.5 6.2, of ACR-NEMA
    if not _DIGITS.fullmatch(value):
        return False
    first, last = limits
    return (not first or first <= value or value.startswith(first)) and (
        not last or value <= last or value.startswith(last)
    )


@lru_cache(maxsize=256)
def _pattern(wanted: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(_plain(wanted).replace("[", "[[]")), re.DOTALL)


def _plain(text: str) -> str:
    """Return text without what matching may overlook: case, accents, and empty parts of a name (PS3.4 C.2.2.2.1)."""
    parts = unicodedata.normalize("NFKD", unpadded(text).casefold())
    return "".join(each for each in parts if not unicodedata.combining(each)).rstrip("^= ")
