"""Which numbers are lines, and which belong to an outlined structure: what a group of a report holds."""

from __future__ import annotations

from cxr_dicom.records import ImageAnalysis, Mask, Measurement, Prediction

_LINE_POINTS = 2


def is_line(measurement: Measurement) -> bool:
    """Whether a value stands between two points."""
    return measurement.value is not None and len(measurement.points) == _LINE_POINTS


def line_numbers(prediction: Prediction) -> dict[Measurement, list[Measurement]]:
    """Return the lines of a prediction, each with the numbers that derive from it first, such as the ratio."""
    lines = [measurement for measurement in prediction.measurements if is_line(measurement)]
    derived: dict[Measurement, list[Measurement]] = {line: [] for line in lines}
    by_name = {line.name: line for line in reversed(lines)}
    for other in prediction.measurements:
        line = by_name.get(other.derived_from[0]) if other.derived_from else None
        if line and line is not other and other.value is not None:
            derived[line].append(other)
    return derived


def structure_numbers(analysis: ImageAnalysis, prediction: Prediction) -> dict[Mask, list[Measurement]]:
    """Return what was measured of each structure that ``prediction`` outlines, by any model.

    Structures without a number are left out. That with most numbers comes first, and all have their
    numbers in its order: Slicer takes the first row of a table for its head.
    """
    found: dict[Mask, list[Measurement]] = {}
    for other in analysis.predictions:
        for measurement in other.measurements:
            mask = _mask_of(measurement, other, analysis)
            if measurement.value is not None and mask and mask in prediction.masks:
                found.setdefault(mask, []).append(measurement)
    found = {mask: found[mask] for mask in prediction.masks if mask in found}
    ordered = dict(sorted(found.items(), key=lambda item: -len(item[1])))
    columns = list(dict.fromkeys(number.code for numbers in ordered.values() for number in numbers))
    return {mask: sorted(numbers, key=lambda number: columns.index(number.code)) for mask, numbers in ordered.items()}


def is_of_structure(measurement: Measurement, prediction: Prediction, analysis: ImageAnalysis) -> bool:
    """Whether the value is one of a structure that was outlined."""
    return measurement.value is not None and _mask_of(measurement, prediction, analysis) is not None


def _mask_of(measurement: Measurement, prediction: Prediction, analysis: ImageAnalysis) -> Mask | None:
    """The outlined structure that a number is of, ``heart`` of ``heart_area``; of its own model, else of the first."""
    if len(measurement.points) == _LINE_POINTS:
        return None
    for owner in (prediction, *analysis.predictions):
        masks = [m for m in owner.masks if m.region.area and measurement.name.startswith(f"{m.structure.name}_")]
        if masks:
            return max(masks, key=lambda mask: len(mask.structure.name))
    return None
