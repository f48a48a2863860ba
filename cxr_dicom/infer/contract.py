"""Checks a prediction against its model and its image: nothing from outside is trusted.

`synthetic.contract` has the same checks for authors, on images of every orientation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from math import isfinite
from typing import Any

import numpy as np

from cxr_dicom.records import (
    ChestImage,
    Code,
    Detection,
    Finding,
    Heatmap,
    Mask,
    Measurement,
    ModelInfo,
    Prediction,
    Presence,
    Statement,
    Structure,
)
from cxr_dicom.records.plane import Grid, Region, Shape

_PARTS: dict[str, type] = {
    "findings": Finding,
    "masks": Mask,
    "heatmaps": Heatmap,
    "measurements": Measurement,
    "statements": Statement,
    "detections": Detection,
    "warnings": str,
}
_OF_WEIGHTS = ("weights_file", "weights_url", "weights_sha256")  # text, or None without weights
_OF_CARD = ("trained_on", "operating_points")
_PREDICTED = {"findings", "masks", "heatmaps", "detections"}  # what `ModelInfo.predicts` lists
_WIDEST = 16_384  # numbers of an embedding
_KEY = re.compile(r"[a-z][a-z0-9_]{0,63}")  # a column of tables
_CODE_LENGTHS = {"value": 16, "scheme": 16, "meaning": 64}  # SH, SH, LO (PS3.3 8.8, PS3.5 6.2)


def problem_of_info(info: object) -> str:
    """Say what is wrong with the description of a model; empty when nothing is."""
    if not isinstance(info, ModelInfo):
        return f"expected a ModelInfo, got {type(info).__name__}"
    if not isinstance(info.predicts, tuple) or not all(isinstance(n, str) and _KEY.fullmatch(n) for n in info.predicts):
        return f"predicts: expected a tuple of names like 'right_lung', got {info.predicts!r:.100}"
    if info.input_size is not None and not (isinstance(info.input_size, int) and info.input_size > 0):
        return f"input_size: expected pixels or None, got {info.input_size!r:.100}"
    for name in ("name", "version", "title", "manufacturer", "licence", "citation", *_OF_CARD, *_OF_WEIGHTS):
        value = getattr(info, name)
        if not isinstance(value, str) and (value is not None or name not in _OF_WEIGHTS):
            return f"{name}: expected text, got {value!r:.100}"
    if not isinstance(info.failures, tuple) or not all(isinstance(text, str) for text in info.failures):
        return f"failures: expected a tuple of sentences, got {info.failures!r:.100}"
    try:
        hash(info)  # parts of objects are remembered by it
    except TypeError as error:
        return f"expected a ModelInfo of tuples, texts and numbers: {error}"
    if not info.version:
        return "version: expected the version of the model, got an empty text"
    if info.weights_file and re.search(r"[/\\]", info.weights_file):
        return f"weights_file: expected the name of a file, got {info.weights_file!r:.100}"
    return ""


def problem(prediction: object, info: ModelInfo, image: ChestImage) -> str:
    """Say the first thing that is wrong with a prediction; empty when nothing is.

    Parameters
    ----------
    prediction
        What ``predict`` returned, whatever that is.
    info
        The model's own description.
    image
        The image that was predicted on.
    """
    try:
        return next(_problems(prediction, info, image), "")
    except Exception as error:  # fields of other types than they should be
        return f"expected a whole Prediction, got {type(error).__name__}"


def _problems(prediction: object, info: ModelInfo, image: ChestImage) -> Iterator[str]:
    if not isinstance(prediction, Prediction):
        yield f"expected a Prediction, got {type(prediction).__name__}"
        return
    if prediction.model != info:
        yield "model: expected the model's own info"
    for part, kind in _PARTS.items():
        items = getattr(prediction, part)
        if not isinstance(items, tuple) or not all(isinstance(item, kind) for item in items):
            yield f"{part}: expected a tuple of {kind.__name__}, got {items!r:.60}"
            return
    for part, check in _CHECKS.items():
        items = getattr(prediction, part)
        names = [item.structure.name if isinstance(item, Mask) else item.name for item in items]
        if part == "detections":  # several may have one name, and then a number of their own
            yield from _wrong_numbers(items)
            yield from _wrong_names(part, list(dict.fromkeys(names)), info)
        else:
            yield from _wrong_names(part, names, info)
        for name, item in zip(names, items, strict=True):
            yield from _within(f"{part.removesuffix('s')} {name}", check(item, image.shape))
    yield from _within("embedding", _embedding(prediction.embedding))


def _within(what: str, problems: Iterator[str]) -> Iterator[str]:
    try:
        for text in problems:
            yield f"{what}: {text}"
    except (TypeError, ValueError, AttributeError, IndexError) as error:  # fields of other types than they should be
        yield f"{what}: {type(error).__name__}"


def _wrong_names(part: str, names: Sequence[object], info: ModelInfo) -> Iterator[str]:
    for name in names:
        if not isinstance(name, str) or not _KEY.fullmatch(name):
            yield f"{part}: expected a name like 'right_lung', got {name!r:.100}"
        elif part in _PREDICTED and name not in info.predicts:
            yield f"{part}: {name!r} is not in the model's `predicts`: {', '.join(info.predicts) or 'nothing'}"
    if len(set(names)) < len(names):
        yield f"{part}: expected each name once, got {', '.join(map(str, names)):.200}"


def _finding(finding: Finding, shape: Shape) -> Iterator[str]:
    yield from _code("code", finding.code)
    if finding.site is not None:
        yield from _code("site", finding.site)
    for key in ("raw", "probability", "operating_point"):
        value = getattr(finding, key)
        if key == "operating_point" and value is None:
            continue
        if not isinstance(value, float) or not 0 <= value <= 1:
            yield f"{key}: expected a float of 0 to 1, got {value!r:.40}"
            return
    if not isinstance(finding.call, Presence):
        yield f"call: expected a Presence, got {finding.call!r:.40}"
    elif finding.operating_point is None:
        if finding.call is not Presence.INDETERMINATE:
            yield f"call: expected indeterminate without an operating point, got {finding.call}"
    elif finding.raw != finding.operating_point and finding.call is not Presence.INDETERMINATE:
        right = Presence.PRESENT if finding.raw > finding.operating_point else Presence.ABSENT
        if finding.call is not right:
            place = f"raw {finding.raw:.3g} and operating point {finding.operating_point:.3g}"
            yield f"call: expected {right} at {place}, got {finding.call}"


def _mask(mask: Mask, shape: Shape) -> Iterator[str]:
    structure, region = mask.structure, mask.region
    if not isinstance(structure, Structure) or not isinstance(region, Region):
        yield f"expected a Structure and a Region, got {type(structure).__name__} and {type(region).__name__}"
        return
    yield from _code("category", structure.category)
    yield from _code("type", structure.type)
    if structure.laterality is not None:
        yield from _code("laterality", structure.laterality)
    colour = structure.colour
    if not isinstance(colour, tuple) or len(colour) != 3 or not all(type(c) is int and 0 <= c <= 255 for c in colour):
        yield f"colour: expected three integers of 0 to 255, got {colour!r:.60}"
    box, pixels = region.box, region.pixels
    if tuple(region.shape) != shape:
        yield f"expected the source matrix as stored, {shape[0]} x {shape[1]}, got one of {_by(region.shape)}"
    elif not isinstance(pixels, np.ndarray) or pixels.dtype != bool:
        yield f"pixels: expected an array of bool, got {getattr(pixels, 'dtype', type(pixels).__name__)}"
    elif not (0 <= box.top <= box.bottom <= shape[0] and 0 <= box.left <= box.right <= shape[1]):
        yield f"box: expected it inside of {_by(shape)}, got {box}"
    elif pixels.shape != box.shape:
        yield f"pixels: expected those of the box, {_by(box.shape)}, got {_by(pixels.shape)}"
    elif pixels.size and not (pixels[0].any() and pixels[-1].any() and pixels[:, 0].any() and pixels[:, -1].any()):
        yield "box: expected it tight around the pixels; Region.from_matrix makes it so"


def _heatmap(heatmap: Heatmap, shape: Shape) -> Iterator[str]:
    yield from _code("quantity", heatmap.quantity)
    values, grid = heatmap.values, heatmap.grid
    if not isinstance(values, np.ndarray) or values.dtype != np.float32:
        yield f"values: expected an array of float32, got {getattr(values, 'dtype', type(values).__name__)}"
        return
    if not isinstance(grid, Grid) or values.ndim != 2 or values.shape != tuple(grid.shape) or not values.size:
        yield f"values: expected those of the grid, {_by(grid.shape)}, got {_by(values.shape)}"
        return
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        yield f"values: expected 0 to 1, got {values.min():.3g} to {values.max():.3g}"
    for axis, name in enumerate(("rows", "columns")):
        origin, step, samples = grid.origin[axis], grid.step[axis], grid.shape[axis]
        if not (isfinite(origin) and isfinite(step) and step > 0):
            yield f"grid: expected a positive step, got {step!r:.40} from {origin!r:.40}"
        elif origin <= -step or origin + samples * step >= shape[axis] + step:
            extent = f"{origin:g} to {origin + samples * step:g}"
            yield f"grid: expected {name} 0 to {shape[axis]} of the source, got {extent}"


def _measurement(measurement: Measurement, shape: Shape) -> Iterator[str]:
    yield from _code("code", measurement.code)
    yield from _code("unit", measurement.unit)
    for key in ("site", "laterality"):
        if getattr(measurement, key) is not None:
            yield from _code(key, getattr(measurement, key))
    value = measurement.value
    if value is None:
        if not measurement.reason:
            yield "reason: expected one where there is no value"
    elif not isinstance(value, float) or not isfinite(value):
        yield f"value: expected a finite float, got {value!r:.40}"
    for point in measurement.points:
        column, row = point
        if not (0 <= column <= shape[1] and 0 <= row <= shape[0]):
            yield f"points: expected (column, row) on the source matrix of {_by(shape)}, got {point!r:.60}"
            return


def _statement(statement: Statement, shape: Shape) -> Iterator[str]:
    yield from _code("concept", statement.concept)
    if not isinstance(statement.call, Presence):
        yield f"call: expected a Presence, got {statement.call!r:.40}"


def _detection(detection: Detection, shape: Shape) -> Iterator[str]:
    yield from _code("code", detection.code)
    if detection.site is not None:
        yield from _code("site", detection.site)
    if not isinstance(detection.score, float) or not 0 <= detection.score <= 1:
        yield f"score: expected a float of 0 to 1, got {detection.score!r:.40}"
    left, top, right, bottom = detection.box
    if not (0 <= left < right <= shape[1] and 0 <= top < bottom <= shape[0]):
        yield f"box: expected left, top, right, bottom inside of {_by(shape)}, got {detection.box!r:.100}"


def _wrong_numbers(detections: Sequence[Detection]) -> Iterator[str]:
    for name in dict.fromkeys(each.name for each in detections):
        found = [each.number for each in detections if each.name == name]
        if found != list(range(1, len(found) + 1)):
            yield f"detections: {name!r:.80}: expected numbers from 1 on, in their order, got {found!r:.60}"


def _embedding(vector: object) -> Iterator[str]:
    if vector is None:
        return
    if not isinstance(vector, np.ndarray) or vector.dtype != np.float32 or vector.ndim != 1:
        yield f"expected an array of float32 of one dimension, got {getattr(vector, 'dtype', type(vector).__name__)}"
    elif not 1 <= vector.size <= _WIDEST or not np.isfinite(vector).all():
        yield f"expected 1 to {_WIDEST} finite numbers, got {vector.size}"


def _code(what: str, code: object) -> Iterator[str]:
    if not isinstance(code, Code):
        yield f"{what}: expected a Code, got {type(code).__name__}"
        return
    for key, longest in _CODE_LENGTHS.items():
        text = getattr(code, key)
        if not isinstance(text, str) or not text.strip() or len(text) > longest:
            yield f"{what}: expected a code {key} of 1 to {longest} characters, got {text!r:.80}"


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


_CHECKS: dict[str, Callable[[Any, Shape], Iterator[str]]] = {
    "findings": _finding,
    "masks": _mask,
    "heatmaps": _heatmap,
    "measurements": _measurement,
    "statements": _statement,
    "detections": _detection,
}
