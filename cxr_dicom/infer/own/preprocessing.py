"""What the preprocessing of a MONAI bundle means for the table ``input``, as far as it has the same meaning there.

A chain of transforms is read as data: names and literal values, in their order (https://docs.monai.io, Transforms).
One is taken over where our own preparation computes the same; any other is left to a person, by name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_PLAIN = ("EnsureChannelFirst", "AddChannel", "EnsureType", "ToTensor", "CastToType", "SelectItems", "Identity")
_READERS = ("ITKReader", "PILReader", "PydicomReader")  # that give columns before rows, unless told otherwise
_MODES = {"bilinear": "bilinear", "bicubic": "bicubic", "nearest-exact": "nearest"}
_OF_EVERY = ("keys", "allow_missing_keys", "_target_", "_disabled_")
_WHOLE = (255, 4095, 65535)  # the brightest of 8, 12 and 16 bits
_MOST = 100  # transforms
_LARGEST = 1e6  # of a value of black or white


@dataclass(kw_only=True)
class Taken:
    """What was taken over."""

    input: dict[str, Any] = field(default_factory=dict)  # keys of the table
    done: list[str] = field(default_factory=list)  # transforms that the table says
    left: list[str] = field(default_factory=list)  # transforms that it does not


def read(chain: Any) -> Taken:
    """Read a chain of transforms: ``Compose``, or a list of them."""
    taken = Taken()
    transforms = chain.get("transforms") if isinstance(chain, Mapping) else chain
    if not isinstance(transforms, list) or len(transforms) > _MOST:
        return taken
    for each in transforms:
        if not isinstance(each, Mapping) or each.get("_disabled_") in (True, "true"):
            continue
        target = each.get("_target_")
        if not isinstance(target, str) or not re.fullmatch(r"[\w.]{1,80}", target):
            continue
        name = target.rpartition(".")[2]
        given = {key: value for key, value in each.items() if key not in _OF_EVERY}
        plain = re.sub(r"(?<=[a-z])(d|D|Dict)$", "", name)  # without the end of those of dictionaries
        is_taken = plain in _PLAIN or _take(name, given, taken.input) or _take(plain, given, taken.input)
        (taken.done if is_taken else taken.left).append(name)
    if taken.input.pop("_longest", None):  # never framed
        taken.left.append("Resized")
        taken.input.pop("size", None)
    return taken


def _take(kind: str, given: Mapping[str, Any], table: dict[str, Any]) -> bool:
    """Write a transform into the table; False where it says something else."""
    match kind:
        case "LoadImage":
            return _load(given, table)
        case "Transpose":
            return _transpose(given, table)
        case "RepeatChannel":
            return _only(given, {}, "repeats") and given.get("repeats") == 3 and _put(table, channels=3)
        case "ScaleIntensity":
            return _scale(given, table)
        case "ScaleIntensityRange":
            return _scale_range(given, table)
        case "NormalizeIntensity":
            return _normalise(given, table)
        case "Resize":
            return _resize(given, table)
        case "SpatialPad":
            return _pad(given, table)
    return False


def _load(given: Mapping[str, Any], table: dict[str, Any]) -> bool:
    """All readers of MONAI for pictures give columns before rows, so that x comes first."""
    plain = {"image_only": (True, False), "ensure_channel_first": (True, False), "simple_keys": (True, False)}
    reader = given.get("reader")
    if reader is not None and str(reader).rpartition(".")[2] not in _READERS:
        return False
    return _only(given, plain, "reader", "dtype") and _put(table, transposed=True)


def _transpose(given: Mapping[str, Any], table: dict[str, Any]) -> bool:
    if given.get("indices") != [0, 2, 1] or not _only(given, {}, "indices"):
        return False
    table["transposed"] = not table.get("transposed", False)
    return True


def _scale(given: Mapping[str, Any], table: dict[str, Any]) -> bool:
    """To the darkest and brightest of the image: ours are those of the image as read, before it is resized."""
    low, high = given.get("minv", 0.0), given.get("maxv", 1.0)
    if {"size", "range", "mean"} & table.keys() or not _only(given, {"factor": (None,)}, "minv", "maxv"):
        return False
    return _is_range(low, high) and _put(table, range=(float(low), float(high)), intensity="image")


def _scale_range(given: Mapping[str, Any], table: dict[str, Any]) -> bool:
    """From the whole range of stored values; what a window within it means, only a person knows."""
    low, high = given.get("b_min"), given.get("b_max")
    if {"range", "mean"} & table.keys() or not _only(
        given, {"clip": (True, False)}, "a_min", "a_max", "b_min", "b_max"
    ):
        return False
    is_whole = given.get("a_min") == 0 and given.get("a_max") in _WHOLE
    return is_whole and _is_range(low, high) and _put(table, range=(float(low), float(high)))  # type: ignore[arg-type]


def _normalise(given: Mapping[str, Any], table: dict[str, Any]) -> bool:
    """By numbers that are given, on a range that is known; not by those of each image."""
    keys = {"nonzero": (False,), "channel_wise": (True, False)}
    if "range" not in table or "mean" in table or not _only(given, keys, "subtrahend", "divisor"):
        return False
    channels = table.get("channels", 1)
    means, divisors = (_numbers(given.get(key), channels) for key in ("subtrahend", "divisor"))
    if not means or not divisors or min(divisors) <= 0:
        return False
    return _put(table, mean=means, std=divisors)


def _resize(given: Mapping[str, Any], table: dict[str, Any]) -> bool:
    """All of the image, made square; or its longer side, where a frame follows."""
    mode = _MODES.get(str(given.get("mode", "area")).lower())
    keys = {"size_mode": ("all", "longest"), "anti_aliasing": (False,), "align_corners": (None, False)}
    side = _side(given.get("spatial_size"))
    if "size" in table or mode is None or side is None or not _only(given, keys, "spatial_size", "mode"):
        return False
    if given.get("size_mode") == "longest":
        if not isinstance(given.get("spatial_size"), int):
            return False
        table["_longest"] = True
    else:
        table["fit"] = "stretch"
    return _put(table, size=side, resize=mode, **({} if mode == "nearest" else {"antialias": False}))


def _pad(given: Mapping[str, Any], table: dict[str, Any]) -> bool:
    """A frame of zeros around what is resized: black, where that is 0 by then."""
    keys = {"method": ("symmetric",), "mode": ("constant",), "value": (0, 0.0)}
    is_black = table.get("range", [None])[0] == 0 and "mean" not in table
    if not table.get("_longest") or not is_black or _side(given.get("spatial_size")) != table.get("size"):
        return False
    if not _only(given, keys, "spatial_size"):
        return False
    del table["_longest"]
    return _put(table, fit="pad")


def _only(given: Mapping[str, Any], known: Mapping[str, Sequence[Any]], *free: str) -> bool:
    """Whether nothing is given but ``free`` keys, and ``known`` ones with one of their values."""
    return all(key in free or (key in known and value in known[key]) for key, value in given.items())


def _put(table: dict[str, Any], **values: Any) -> bool:
    table |= values
    return True


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < _LARGEST


def _is_range(low: Any, high: Any) -> bool:
    return bool(_is_number(low) and _is_number(high) and low < high)


def _numbers(value: Any, channels: int) -> list[float]:
    """Return one number for each channel; none where they are none."""
    several = value if isinstance(value, list) else [value] * channels
    if len(several) != channels or not all(map(_is_number, several)):
        return []
    return [float(each) for each in several]


def _side(size: Any) -> int | None:
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or sides[0] != sides[1] or type(sides[0]) is not int or not 16 <= sides[0] <= 4096:
        return None
    return sides[0]
