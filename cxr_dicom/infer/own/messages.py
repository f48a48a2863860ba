"""What a process says to the one in which networks of the user's run, and what it hears back: JSON and numbers.

Nobody unpickles what comes out of that process, and nothing of it is believed: kinds, shapes and lengths are bounded.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]

_LONGEST_HEADER = 1 << 20  # bytes
_MOST_ARRAYS = 64
_MOST_BYTES = 4 << 30  # of the arrays together
_NUMBERS = "biufc"  # kinds of numpy
_LENGTH = struct.Struct("<I")


class BrokenMessageError(Exception):
    """Something else came than a message, or nothing more."""


def send(stream: IO[bytes], said: Mapping[str, Any], arrays: Arrays) -> None:
    """Write a message: ``said``, of texts and numbers, and arrays of numbers by name."""
    plain = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}
    described = [(name, array.dtype.str, array.shape) for name, array in plain.items()]
    header = json.dumps([said, described]).encode()
    stream.write(_LENGTH.pack(len(header)) + header)
    for array in plain.values():
        stream.write(array.tobytes())
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read a message.

    Raises
    ------
    BrokenMessageError
        If it is none, one that is too long, or the other side is gone.
    """
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    if length > _LONGEST_HEADER:
        raise BrokenMessageError("too long")
    try:
        said, described = json.loads(_exactly(stream, length))
        kinds = [(str(name), np.dtype(str(kind)), tuple(map(int, shape))) for name, kind, shape in described]
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise BrokenMessageError("no header") from error
    sizes = [kind.itemsize * math.prod(shape) for _, kind, shape in kinds]
    is_told = all(kind.kind in _NUMBERS and min(shape, default=0) >= 0 and len(shape) <= 8 for _, kind, shape in kinds)
    if not isinstance(said, dict) or not is_told or len(kinds) > _MOST_ARRAYS or sum(sizes) > _MOST_BYTES:
        raise BrokenMessageError("not of numbers")
    arrays = {
        name: np.frombuffer(bytearray(_exactly(stream, size)), kind).reshape(shape)
        for (name, kind, shape), size in zip(kinds, sizes, strict=True)
    }
    return said, arrays


def _exactly(stream: IO[bytes], length: int) -> bytes:
    content = stream.read(length)
    if len(content) < length:
        raise BrokenMessageError("nothing more")
    return content
