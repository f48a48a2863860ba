"""How much of an ONNX file is structure, counted before anything of it is built.

A reader of protobuf makes an object of 100 bytes from two bytes of a file. So what is no plain number of a weight is
counted first, on the bytes (protobuf's wire format: a key with field number and wire type, then a value or a length).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cxr_dicom.infer.onnx.refusal import RefusedError

MOST_STRUCTURE = 32 << 20  # bytes of a graph that are no numbers of weights
_MOST_FIELDS = 1 << 20

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_NUMBERS: Mapping[int, Any] = {9: None, 4: None}  # TensorProto.raw_data and float_data
_ATTRIBUTE: Mapping[int, Any] = {5: {5: {5: _NUMBERS}}}  # GraphProto.node is 1: attribute 5, its tensor 5
_WEIGHTS: Mapping[int, Any] = {7: {5: _NUMBERS, 1: _ATTRIBUTE[5]}}  # ModelProto.graph, its initializers and constants


def check(content: bytes) -> None:
    """Count the structure of a file.

    Raises
    ------
    RefusedError
        If there is more of it than any network has, or if this is no protobuf.
    """
    _Counter(memoryview(content)).walk(0, len(content), _WEIGHTS)


class _Counter:
    def __init__(self, content: memoryview) -> None:
        self._content = content
        self._structure = 0
        self._fields = 0

    def walk(self, place: int, end: int, weights: Mapping[int, Any]) -> None:
        """Count one message; what ``weights`` has as None are numbers, what it has as a mapping is a message."""
        while place < end:
            start = place
            key, place = self._varint(place, end)
            kind, inner = key & 7, weights.get(key >> 3, self)
            if kind == _LENGTH:
                length, place = self._varint(place, end)
                if place + length > end:
                    raise RefusedError("found one that is cut off or damaged")
                if isinstance(inner, Mapping):
                    self._count(place - start)
                    self.walk(place, place + length, inner)
                else:
                    self._count(place - start + (length if inner is self else 0))
                place += length
                continue
            if kind == _VARINT:
                _, place = self._varint(place, end)
            elif kind in (_FIXED32, _FIXED64):
                place += 4 if kind == _FIXED32 else 8
            else:
                raise RefusedError("found one that is cut off or damaged")
            self._count(place - start)
        if place != end:
            raise RefusedError("found one that is cut off or damaged")

    def _count(self, size: int) -> None:
        self._structure += size
        self._fields += 1
        if self._structure > MOST_STRUCTURE or self._fields > _MOST_FIELDS:
            raise RefusedError(
                f"found more than {MOST_STRUCTURE >> 20} MB or {_MOST_FIELDS} fields that are no raw data of weights"
            )

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while place < end and shift < 64:
            byte = self._content[place]
            value |= (byte & 0x7F) << shift
            place, shift = place + 1, shift + 7
            if byte < 0x80:
                return value, place
        raise RefusedError("found one that is cut off or damaged")
