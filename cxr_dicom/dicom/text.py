"""Text as it is stored: bytes that go through unchanged, and what they say where they can be read.

pydicom puts U+FFFD for bytes that do not fit Specific Character Set, keeps only that, and reads every
code string as Latin-1. Here the bytes stay in the data set, and a reader gets the best reading of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydicom import Dataset
from pydicom.charset import convert_encodings, decode_bytes, default_encoding
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag, Tag
from pydicom.uid import RE_VALID_UID, UID
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR, VR

_CHARACTER_SET = Tag("SpecificCharacterSet")
_DECODED_HERE = frozenset({*CUSTOMIZABLE_CHARSET_VR, VR.CS})  # of code strings real archives do not keep to ASCII
_ONE_VALUE = frozenset({VR.LT, VR.ST, VR.UT})  # in which a backslash is a letter
_REPLACED, _REPLACED_BYTES = "\N{REPLACEMENT CHARACTER}", "\N{REPLACEMENT CHARACTER}".encode()
_PADDING = b" \0"
_LONGEST = 0xFFFF  # bytes; more is no text of a patient or a study, and most VRs could not hold it
_LONGEST_UID = 64  # PS3.5 6.2
_SHOWN = 16  # characters of a header that are shown
_CODE_STRING = re.compile(r"[A-Z0-9_ ]+")
_DELIMITERS = {ord(character) for character in "\\^=\n\f\r\t"}  # end an escape sequence (PS3.5 6.1.2.5.3)
_GUESSES = ("utf-8", "gb18030", "latin-1")  # where the bytes do not fit what is declared
_WRONG = (LookupError, ValueError)  # of a character set that is none; UnicodeError is a ValueError


def stored_text(dataset: Dataset, tag: BaseTag) -> RawDataElement | None:
    """Return a text element as the bytes that were read, with its VR.

    None where it is missing or empty, is no text that Specific Character Set speaks of, or was
    decoded before: pydicom keeps no bytes of what it decoded.
    """
    element = dataset.get_item(tag)
    if not isinstance(element, RawDataElement) or not (element.value or b"").strip(_PADDING):
        return None
    is_text = _vr(element) in CUSTOMIZABLE_CHARSET_VR and element.length < _LONGEST
    return element._replace(VR=_vr(element)) if is_text else None


def shown(text: str) -> str:
    """Return what a header says so that it may stand in a reason: at most 16 characters, and nothing but ASCII.

    A code string (PS3.5 6.2) or a UID is written as it is, with its name where the standard gives it one; anything else
    is quoted, with escapes for what a terminal would obey.
    """
    if not text:
        return "none"
    if len(text) <= _LONGEST_UID and re.fullmatch(RE_VALID_UID, text):
        return UID(text).name
    return text[:_SHOWN] if _CODE_STRING.fullmatch(text[:_SHOWN]) else ascii(text[:_SHOWN])


def readings(dataset: Dataset, tag: BaseTag) -> list[str] | None:
    """Read the values of a text or a code string, and leave the data set as it is.

    Returns
    -------
    list of str
        Without padding. Where the bytes do not fit the declared character set, a value is all that
        they may mean, one after the other: for looking for words, never for showing. None for other VRs.
    """
    element = dataset.get_item(tag)
    if isinstance(element, RawDataElement):
        vr, value = _vr(element), element.value or b""
    elif element is not None and element.VR == VR.CS and not str(element.value or "").isascii():
        vr, value = VR.CS, "\\".join(map(str, _listed(element.value))).encode("latin-1", "replace")  # undo pydicom
    else:
        return None
    if vr not in _DECODED_HERE:
        return None
    text = _decoded(value, _encodings(dataset)) or " ".join(_guessed(value))
    values = [text] if vr in _ONE_VALUE else text.split("\\")
    found = [value.strip(" \0") for value in values]
    return found if any(found) else []


def fits_character_set(dataset: Dataset, tag: BaseTag) -> bool:
    """Whether the bytes of a text are what Specific Character Set declares."""
    element = stored_text(dataset, tag)
    if element is None or element.value is None:
        return True
    encodings = _encodings(dataset)
    if encodings == [default_encoding] and not element.value.isascii():
        return False  # pydicom takes the default repertoire, which is ASCII, for Latin-1
    return _decoded(element.value, encodings) is not None


def _vr(element: RawDataElement) -> str | None:
    """What the dictionary says; files of implicit encoding say nothing, some others UN."""
    return dictionary_VR(element.tag) if dictionary_has_tag(element.tag) else element.VR


def _encodings(dataset: Dataset) -> list[str]:
    """Python's names of the declared character sets; the default where they are no such names."""
    element = dataset.get_item(_CHARACTER_SET)
    if element is None:
        inherited = getattr(dataset, "_character_set", None)  # of an item: that of the data set around it
        return [inherited] if isinstance(inherited, str) else list(inherited or [default_encoding])
    stored = element.value
    names = stored.decode("latin-1").split("\\") if isinstance(stored, bytes) else list(map(str, _listed(stored)))
    try:
        return convert_encodings([name.strip(" \0") for name in names])
    except _WRONG:
        return [default_encoding]


def _listed(value: object) -> list[object]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)  # type: ignore[call-overload]


def _decoded(value: bytes, encodings: list[str]) -> str | None:
    """Decode bytes that fit the character set; None for others."""
    if value.isascii() and b"\x1b" not in value:
        return value.decode("ascii")
    try:
        if b"\x1b" not in value:
            return value.decode(encodings[0])
        text = decode_bytes(value, encodings, _DELIMITERS)
    except _WRONG:
        return None
    return None if _REPLACED in text and _REPLACED_BYTES not in value else text


def _guessed(value: bytes) -> Iterator[str]:
    for encoding in _GUESSES:
        try:
            yield value.decode(encoding)
        except UnicodeDecodeError:
            continue
