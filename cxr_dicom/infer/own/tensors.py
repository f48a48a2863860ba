"""The header of a safetensors file, read with bounds before any tensor is made.

A file is eight bytes with the length of a header, the header in JSON, and the numbers of the tensors one after the
other (https://github.com/huggingface/safetensors, format). It holds no program; what is left to refuse is a header
that lies, or is larger than any network's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LARGEST_HEADER = 1 << 20  # bytes; 200 for a tensor, and our largest architecture has 1000
_MOST_TENSORS = 5000
_MOST_DIMENSIONS = 8
_BYTES = {  # of one number; those that a network here can be made of
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
_KEYS = {"dtype", "shape", "data_offsets"}


class RefusedError(Exception):
    """What was found in a file that is not taken; a text for the end of a sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a file holds."""

    shapes: Mapping[str, tuple[int, ...]]  # of the tensors, by name
    metadata: Mapping[str, str]


def header(content: bytes) -> Header:
    """Read the header of a file.

    Raises
    ------
    RefusedError
        If it does not describe exactly the bytes behind it.
    """
    read, length = _read(content)
    metadata = read.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise RefusedError("found metadata that is no text")
    if not 0 < len(read) <= _MOST_TENSORS:
        raise RefusedError(f"found {len(read)} tensors, expected 1 to {_MOST_TENSORS}")
    parts = {name: _part(name, each) for name, each in read.items()}
    end = 0
    for name, (_, start, stop) in sorted(parts.items(), key=lambda item: item[1][1:]):
        if start != end:
            raise RefusedError(f"found {ascii(name)[:80]} at byte {start}, expected {end}: no gap and no overlap")
        end = stop
    if end != len(content) - 8 - length:
        raise RefusedError(f"found {len(content) - 8 - length} bytes of numbers, whose header needs {end}")
    return Header(shapes={name: shape for name, (shape, _, _) in parts.items()}, metadata=metadata)


def _read(content: bytes) -> tuple[dict[str, Any], int]:
    """Return the header as JSON, and its length in bytes."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or not 2 <= length <= len(content) - 8:
        raise RefusedError(f"found {len(content)} bytes with a header of {length}")
    if length > LARGEST_HEADER:
        raise RefusedError(f"found a header of {length} bytes, more than {LARGEST_HEADER}")
    text = content[8 : 8 + length]
    try:
        read = json.loads(text.decode(), object_pairs_hook=_once) if text[:1] == b"{" else None
    except RecursionError as error:
        raise RefusedError("found a header nested without end") from error
    except ValueError as error:
        raise RefusedError("found a header that is no JSON") from error
    if not isinstance(read, dict):
        raise RefusedError("found a header that is no JSON object")
    return read, length


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RefusedError("found a name twice in its header")
    return found


def _part(name: str, each: Any) -> tuple[tuple[int, ...], int, int]:
    """Return shape, first byte, and the byte behind the last, of one tensor."""
    where = ascii(name)[:80]
    if not isinstance(each, dict) or set(each) != _KEYS:
        raise RefusedError(f"found no type, shape and place of {where}")
    kind, shape, place = each["dtype"], each["shape"], each["data_offsets"]
    if not isinstance(kind, str) or kind not in _BYTES:
        raise RefusedError(f"found the type {ascii(kind)[:40]} of {where}")
    if not (_are_counts(shape) and len(shape) <= _MOST_DIMENSIONS and _are_counts(place) and len(place) == 2):
        raise RefusedError(f"found a shape or place of {where} that is none")
    start, stop = place
    needed = math.prod(shape) * _BYTES[kind]
    if stop - start != needed:
        raise RefusedError(f"found {stop - start} bytes for {where}, whose shape needs {needed}")
    return tuple(shape), start, stop


def _are_counts(values: Any) -> bool:
    """Whether this is a list of whole numbers from 0 on, of at most 48 bits."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 48 for value in values)
