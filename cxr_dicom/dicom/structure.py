"""Where the elements of a data set lie: found within bounds, and without making an object of any.

pydicom makes some 700 bytes of each empty item, follows nesting as deep as it goes, and takes any eight bytes
for an item. Here a data set is walked from element to element by PS3.5 7.1 and 7.5; where files break these in the
choice of a value representation, what counts is what pydicom makes of them, for it reads the values afterwards.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Container, Iterator
from io import BytesIO
from typing import BinaryIO, NamedTuple, cast

from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.filereader import ENCODED_VR
from pydicom.fileutil import read_undefined_length_value
from pydicom.tag import SequenceDelimiterTag, Tag
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

from cxr_dicom.errors import ImageError
from cxr_dicom.records import Reason

UNDEFINED_LENGTH = 0xFFFFFFFF
MOST_ELEMENTS = 100_000  # with items and fragments; a radiograph has a few hundred, an enhanced CT some ten thousand
MOST_BYTES = 1 << 26  # that are read of what comes before the pixel data
MOST_DEPTH = 32  # of items within items
LONGEST_VALUE = 1 << 17  # bytes of a value that is no blob: a lookup table of 65,536 entries
LONGEST_CHARACTER_SET = 256  # bytes of names of character sets; pydicom warns of each that it does not know

PIXEL_TAGS = frozenset(map(Tag, ("FloatPixelData", "DoubleFloatPixelData", "PixelData")))
_CHARACTER_SET = Tag("SpecificCharacterSet")
_ITEM, _ITEM_DELIMITER, _SEQUENCE_DELIMITER = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_BLOBS = frozenset({VR.OB, VR.OD, VR.OF, VR.OL, VR.OV, VR.OW, VR.SQ, VR.UN, VR.UT})
_LONGEST_KNOWN_UN = 0xFFFF  # bytes; pydicom leaves a longer UN as it is
_LONG_VRS = frozenset(vr.encode() for vr in EXPLICIT_VR_LENGTH_32)


class StructureError(ValueError):
    """A sequence is not made of items, or they are not whole."""


class Place(NamedTuple):
    """Where an element lies, in bytes of the file."""

    tag: int
    vr: str | None  # as the file or the dictionary has it; None: neither knows
    start: int  # of the tag
    value: int  # where the value begins
    length: int  # as stated
    end: int  # after the value, and after the delimiter where there is one
    is_sound: bool = True  # False: a sequence whose items nobody can tell apart


class _Open(NamedTuple):
    """A sequence or an item whose end is not yet reached."""

    is_sequence: bool
    end: int | None  # None: a delimiter tells
    is_implicit: bool  # how the elements within are encoded


class _Scanned:
    """A file that is searched for an end: what is read of it is counted, what is passed over is not."""

    def __init__(self, file: BinaryIO, count: Callable[[int], None]) -> None:
        self._file = file
        self._count = count
        self.seek, self.tell = file.seek, file.tell

    def read(self, length: int) -> bytes:
        self._count(length)
        return self._file.read(length)


_Step = tuple[int, _Open | None, bool]  # where the walk is now, what has begun, whether the innermost is over


class Walk:
    """Walks one data set; counts what it meets.

    Parameters
    ----------
    file
        Stands at the first element.
    is_implicit, is_little_endian
        How the data set is encoded.
    most_elements
        How many elements, items and fragments are walked at most.
    """

    def __init__(
        self, file: BinaryIO, *, is_implicit: bool, is_little_endian: bool, most_elements: int = MOST_ELEMENTS
    ) -> None:
        order = "<" if is_little_endian else ">"
        self._file = file
        self._is_implicit = is_implicit
        self._is_little_endian = is_little_endian
        self._implicit = struct.Struct(f"{order}HHL").unpack
        self._short = struct.Struct(f"{order}H").unpack
        self._long = struct.Struct(f"{order}L").unpack
        self._left = self._most = most_elements
        self._limit = sys.maxsize  # where what is walked ends
        self._left_to_scan = MOST_BYTES

    def elements(self, wanted: Container[int] = ()) -> Iterator[Place]:
        """Yield the elements up to the pixel data and with them, or up to the end of the file.

        Sequences that state their length are entered only if they are wanted; the items of others must be read to
        find their end.

        Parameters
        ----------
        wanted
            Tags whose values will be read; empty: all but those of private elements that state their length.

        Raises
        ------
        ImageError
            ``UNREADABLE``: more elements, deeper nesting or a longer value than any image has; or elements of
            group 0 or 2, which are no part of a data set (PS3.7 6.3, PS3.10 7.1).
        StructureError, EOFError
            If an element that does not state its length has no end.
        """
        at = self._file.tell()
        while len(head := self._file.read(8)) == 8:
            place = self._place(head, at, self._is_implicit)
            if place.tag == _ITEM_DELIMITER:
                return
            if place.tag >> 16 in (0, 2):
                raise ImageError(Reason.UNREADABLE, "expected a data set, found elements of group 0 or 2 in it")
            if place.tag in PIXEL_TAGS:
                yield place
                return
            is_read = place.tag in wanted if wanted else not is_private(place.tag)
            if place.length == UNDEFINED_LENGTH:
                place = place._replace(end=self._end(place, is_read))
            elif is_read:
                _check_length(place)
                if place.vr == VR.SQ:
                    place = self._checked(place)
            at = self._file.seek(place.end)
            yield place

    def fragments(self, value: int) -> int:
        """Return where encapsulated pixel data end whose value begins at a byte (PS3.5 A.4).

        Where the file ends earlier, this is where the last fragment and a delimiter would end.

        Raises
        ------
        StructureError, EOFError
            If there is no fragment.
        """
        self._file.seek(at := value)
        while len(head := self._file.read(8)) == 8:
            tag, length = self._item(head)
            if tag != _ITEM:
                break
            self._count()
            at = self._file.seek(length, 1)
        if at == value:
            raise EOFError
        return at + 8

    # --- one element -----------------------------------------------------------------------------

    def _place(self, head: bytes, at: int, is_implicit: bool) -> Place:
        """Read tag, VR and length, as pydicom does."""
        self._count()
        value, vr = at + 8, None
        group, element, length = self._implicit(head)
        if not is_implicit:
            stated = head[4:6]
            if stated in ENCODED_VR or b"AA" <= stated <= b"ZZ":  # else pydicom takes this element for an implicit one
                vr = stated.decode("latin-1")
                (length,) = self._short(head[6:])
            if stated in _LONG_VRS:
                (length,) = self._long(self._file.read(4))
                value += 4
        tag = group << 16 | element
        if (vr is None or (vr == VR.UN and length < _LONGEST_KNOWN_UN)) and dictionary_has_tag(tag):
            vr = dictionary_VR(tag)
        return Place(tag, vr, at, value, length, value if length == UNDEFINED_LENGTH else value + length)

    def _end(self, place: Place, is_read: bool) -> int:
        """Return where an element of undefined length ends."""
        if self._is_sequence(place):
            self._enter(place, is_read)
        else:
            self._pass_blob()
        return self._file.tell()

    def _checked(self, place: Place) -> Place:
        """Walk a sequence that states its length, and say whether it is one; its last item may be cut off."""
        if place.length > MOST_BYTES:
            raise too_long()
        whole, value = self._file, self._file.read(place.length)
        self._file, self._limit = BytesIO(value), len(value)
        try:
            self._enter(place._replace(value=0, end=len(value)), is_read=True)
        except (StructureError, EOFError, struct.error):
            return place._replace(is_sound=False)
        finally:
            self._file, self._limit = whole, sys.maxsize
        return place

    def _is_sequence(self, place: Place) -> bool:
        """Whether an element of undefined length is a sequence: it is one if it begins with an item (PS3.5 6.2.2)."""
        if place.vr is not None:
            return place.vr in (VR.SQ, VR.UN)
        first = self._file.read(4)
        self._file.seek(place.value)
        return self._item(first.ljust(8, b"\0"))[0] == _ITEM

    def _pass_blob(self) -> None:
        scanned = cast(BinaryIO, _Scanned(self._file, self._scan))
        read_undefined_length_value(scanned, self._is_little_endian, SequenceDelimiterTag, defer_size=1)

    def _scan(self, count: int) -> None:
        self._left_to_scan -= count
        if self._left_to_scan < 0:
            raise too_long()

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise refused(f"at most {self._most} elements and items")

    def _item(self, head: bytes) -> tuple[int, int]:
        group, element, length = self._implicit(head)
        return group << 16 | element, length

    # --- what is within --------------------------------------------------------------------------

    def _enter(self, place: Place, is_read: bool) -> None:
        """Walk the items of a sequence, and leave the file behind them.

        Parameters
        ----------
        is_read
            Whether sequences within are entered that state their length, and lengths are checked.
        """
        at = place.value
        within = [_Open(True, None if place.length == UNDEFINED_LENGTH else place.end, self._is_implicit)]
        while within:
            innermost = within[-1]
            if innermost.end is not None and at >= innermost.end:
                if at > innermost.end:
                    raise StructureError
                within.pop()
                continue
            if len(head := self._file.read(8)) < 8:
                if innermost.is_sequence or innermost.end is None:
                    raise EOFError
                at = innermost.end
                continue
            step = self._item_of if innermost.is_sequence else self._element_of
            at, opened, is_over = step(innermost, head, at, is_read)
            at = min(at, self._limit)
            if is_over:
                within.pop()
            elif opened:
                within.append(opened if opened.end is None else opened._replace(end=min(opened.end, self._limit)))
                if len(within) > 2 * MOST_DEPTH:
                    raise refused(f"at most {MOST_DEPTH} items within items")

    def _item_of(self, sequence: _Open, head: bytes, at: int, is_read: bool) -> _Step:
        """Begin an item, or end the sequence."""
        tag, length = self._item(head)
        at += 8
        if tag == _SEQUENCE_DELIMITER:  # some writers put one where the length is stated too
            return at if sequence.end is None else self._file.seek(sequence.end), None, True
        if tag != _ITEM:
            raise StructureError
        self._count()
        is_implicit = sequence.is_implicit or (length > 0 and self._looks_implicit(at))
        return at, _Open(False, None if length == UNDEFINED_LENGTH else at + length, is_implicit), False

    def _element_of(self, item: _Open, head: bytes, at: int, is_read: bool) -> _Step:
        """Pass an element, begin to walk it, or end the item."""
        if self._item(head)[0] == _ITEM_DELIMITER:
            if item.end is not None:
                raise StructureError
            return at + 8, None, True
        place = self._place(head, at, item.is_implicit)
        if place.length == UNDEFINED_LENGTH:
            if self._is_sequence(place):
                return place.value, _Open(True, None, item.is_implicit), False
            self._pass_blob()
            return self._file.tell(), None, False
        if is_read:
            _check_length(place)
            if place.vr == VR.SQ and not is_private(place.tag):
                return place.value, _Open(True, place.end, item.is_implicit), False
        return self._file.seek(place.end), None, False

    def _looks_implicit(self, at: int) -> bool:
        """Whether the elements of an item have no VR although those around it have; some writers do so."""
        vr = self._file.read(6)[4:]
        self._file.seek(at)
        return len(vr) == 2 and not (vr.isalpha() and vr.isupper())


def _check_length(place: Place) -> None:
    if place.tag == _CHARACTER_SET and place.length > LONGEST_CHARACTER_SET:
        raise refused(f"at most {LONGEST_CHARACTER_SET} bytes of character sets")
    if place.length > LONGEST_VALUE and place.vr is not None and place.vr not in _BLOBS and " or " not in place.vr:
        raise refused(f"at most {LONGEST_VALUE} bytes in a value")


def is_private(tag: int) -> bool:
    """Whether an element is of a group with an odd number (PS3.5 7.8)."""
    return bool(tag >> 16 & 1)


def too_long() -> ImageError:
    """Return the error of a file with more before its pixel data than is read."""
    return refused(f"at most {MOST_BYTES >> 20} MB before the pixel data")


def refused(expected: str) -> ImageError:
    """Return the error of a file that is more than any image is."""
    return ImageError(Reason.UNREADABLE, f"expected {expected}, found more")
