"""Masks to measurements: diameters, ratio, distance, areas, and the statements that rules allow.

All measuring happens in the standard view, where rows are horizontal planes of the patient;
points go back to the source matrix, where reports and viewers need them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import hypot

import numpy as np

from cxr_dicom.dicom import codes
from cxr_dicom.dicom.codes import private
from cxr_dicom.dicom.patient_age import completed_years
from cxr_dicom.records import ChestImage, Code, Mask, Measurement, ModelInfo, Prediction, Presence, Spacing, Statement
from cxr_dicom.records.plane import Point, Region

CARDIOTHORACIC_RATIO_LIMIT = 0.5
UNKNOWN_ERROR = 0.05  # of the ratio of a model that states none; a little more than that of one that does
ADULT_YEARS = 18

_HEART_WIDTH = private("CARDIAC_WIDTH", "Greatest transverse cardiac diameter")
_THORAX_WIDTH = private("THORACIC_WIDTH", "Greatest inner transverse thoracic diameter")
_RATIO = private("CTR", "Cardiothoracic ratio")
_RATIO_RAISED = private("CTR_RAISED", "Cardiothoracic ratio above limit")
_SPINE_DISTANCE = private("SPINE_CENTRE", "Distance of spine from centre of thorax")

_MEASURED_AREAS: Mapping[str, tuple[str, Code, Code | None]] = {
    "right_lung": ("right_lung_area", codes.LUNG, codes.RIGHT),
    "left_lung": ("left_lung_area", codes.LUNG, codes.LEFT),
    "heart": ("heart_area", codes.HEART, None),
}
_MEASURED = frozenset({*_MEASURED_AREAS, "spine"})


@dataclass(frozen=True, slots=True)
class _Width:
    """A horizontal extent in the standard view, in pixel edges, and the row where it is drawn."""

    left: float
    right: float
    row: float

    @property
    def centre(self) -> float:
        return (self.left + self.right) / 2


def measure(image: ChestImage, prediction: Prediction) -> Prediction:
    """Return ``prediction`` with what can be measured on its masks.

    Masks that a ratio needs and that are missing make it "not measurable" with the reason;
    a prediction without lungs and heart is returned as it is.
    """
    masks = {mask.structure.name: mask for mask in prediction.masks}
    if not masks.keys() & _MEASURED_AREAS.keys():
        return prediction
    upright = {
        name: mask.region.to_standard(image.orientation)
        for name, mask in masks.items()
        if name in _MEASURED and mask.region.area
    }
    heart, thorax = _heart_width(upright), _thorax_width(upright)
    measurements = (
        _line(image, "cardiac_width", _HEART_WIDTH, codes.HEART, heart, "no heart outlined"),
        _line(image, "thoracic_width", _THORAX_WIDTH, codes.THORAX, thorax, "not both lungs outlined"),
        _ratio(heart, thorax),
        *_spine_distance(image, upright, thorax),
        *(_area(image, masks[name]) for name in _MEASURED_AREAS if name in masks),
    )
    return replace(
        prediction,
        measurements=prediction.measurements + measurements,
        statements=prediction.statements + tuple(_statements(image, prediction.model, measurements)),
    )


def cardiothoracic_ratio(outlines: Mapping[str, Region]) -> float | None:
    """Greatest transverse cardiac diameter over greatest inner transverse thoracic diameter (Danzer 1919).

    Parameters
    ----------
    outlines
        ``right_lung``, ``left_lung`` and ``heart`` in the standard view.

    Returns
    -------
    float or None
        None where one is missing or empty.
    """
    drawn = {name: region for name, region in outlines.items() if region.area}
    return _quotient(_heart_width(drawn), _thorax_width(drawn))


def withheld(prediction: Prediction, why: str, *, findings: bool) -> Prediction:
    """Return ``prediction`` without a call on anything that was measured on the image, or on any finding."""
    measured = {measurement.name for measurement in prediction.measurements}
    statements = tuple(_uncalled(each, why) if each.measurement in measured else each for each in prediction.statements)
    uncalled = tuple(replace(finding, call=Presence.INDETERMINATE) for finding in prediction.findings)
    return replace(prediction, statements=statements, findings=uncalled if findings else prediction.findings)


def _uncalled(statement: Statement, why: str) -> Statement:
    if statement.call is Presence.INDETERMINATE:
        return statement
    return replace(statement, call=Presence.INDETERMINATE, rule=f"{statement.rule} No call: {why}.")


def _heart_width(upright: Mapping[str, Region]) -> _Width | None:
    """Greatest reach of the heart to either side of the midline, drawn at its widest row."""
    heart = upright.get("heart")
    if heart is None:
        return None
    widest = int(np.argmax(heart.pixels.sum(axis=1)))
    return _Width(float(heart.box.left), float(heart.box.right), heart.box.top + widest + 0.5)


def _thorax_width(upright: Mapping[str, Region]) -> _Width | None:
    """Greatest distance, on one row, between the outer borders of the lungs."""
    right, left = upright.get("right_lung"), upright.get("left_lung")
    if right is None or left is None:
        return None
    top = max(right.box.top, left.box.top)
    bottom = max(top, min(right.box.bottom, left.box.bottom))
    of_right, of_left = (lung.pixels[top - lung.box.top : bottom - lung.box.top] for lung in (right, left))
    rows = np.flatnonzero(of_right.any(axis=1) & of_left.any(axis=1))
    if not rows.size:
        return None
    outer_right = right.box.left + np.argmax(of_right[rows], axis=1)
    outer_left = left.box.right - np.argmax(of_left[rows, ::-1], axis=1)
    widest = int(np.argmax(outer_left - outer_right))
    return _Width(float(outer_right[widest]), float(outer_left[widest]), top + float(rows[widest]) + 0.5)


def _length(points: tuple[Point, ...], spacing: Spacing) -> tuple[float, Code]:
    (x0, y0), (x1, y1) = points
    value = hypot((x1 - x0) * spacing.columns_mm, (y1 - y0) * spacing.rows_mm)
    return value, codes.MILLIMETRE if spacing.is_physical else codes.PIXELS


def _line(image: ChestImage, name: str, code: Code, site: Code, width: _Width | None, missing: str) -> Measurement:
    unit = codes.MILLIMETRE if image.spacing.is_physical else codes.PIXELS
    if width is None:
        return Measurement(name=name, code=code, value=None, unit=unit, site=site, reason=missing)
    points = image.orientation.points_to_source(((width.left, width.row), (width.right, width.row)), image.shape)
    value, unit = _length(points, image.spacing)
    return Measurement(
        name=name,
        code=code,
        value=value,
        unit=unit,
        site=site,
        points=points,
        method="horizontal extent of the outline",
    )


def _ratio(heart: _Width | None, thorax: _Width | None) -> Measurement:
    missing = " and ".join(text for text, width in (("no heart", heart), ("not both lungs", thorax)) if width is None)
    return Measurement(
        name="cardiothoracic_ratio",
        code=_RATIO,
        value=_quotient(heart, thorax),
        unit=codes.RATIO,
        site=codes.THORAX,
        derived_from=("cardiac_width", "thoracic_width"),
        method="greatest transverse cardiac diameter over greatest inner transverse thoracic diameter (Danzer 1919)",
        reason=f"{missing} outlined" if missing else "",
    )


def _quotient(heart: _Width | None, thorax: _Width | None) -> float | None:
    if heart is None or thorax is None or thorax.right <= thorax.left:
        return None
    return (heart.right - heart.left) / (thorax.right - thorax.left)


def _spine_distance(image: ChestImage, upright: Mapping[str, Region], thorax: _Width | None) -> Iterable[Measurement]:
    """How far the patient is turned or bent: spine to the middle of the thorax, on the widest row."""
    spine = upright.get("spine")
    if spine is None or thorax is None:
        return
    row = int(thorax.row) - spine.box.top
    columns = np.flatnonzero(spine.pixels[row]) if 0 <= row < len(spine.pixels) else np.zeros(0)
    if not columns.size:
        return
    centre = spine.box.left + (float(columns[0]) + float(columns[-1]) + 1) / 2
    yield _line(
        image, "spine_centre_distance", _SPINE_DISTANCE, codes.SPINE, _Width(centre, thorax.centre, thorax.row), ""
    )


def _area(image: ChestImage, mask: Mask) -> Measurement:
    name, site, laterality = _MEASURED_AREAS[mask.structure.name]
    spacing = image.spacing
    return Measurement(
        name=name,
        code=codes.AREA,
        value=mask.region.area * spacing.rows_mm * spacing.columns_mm,
        unit=codes.SQUARE_MILLIMETRE if spacing.is_physical else codes.PIXELS,
        site=site,
        laterality=laterality,
        points=mask.region.box.corners,
        method="pixels of the outline; the box is its extent",
    )


def _statements(image: ChestImage, model: ModelInfo, measurements: Iterable[Measurement]) -> Iterable[Statement]:
    ratio = next(m for m in measurements if m.name == "cardiothoracic_ratio")
    if ratio.value is None:
        return
    rule = (
        f"Cardiothoracic ratio above {CARDIOTHORACIC_RATIO_LIMIT} on a PA radiograph of an adult "
        "(Danzer CS, Am J Med Sci 1919;157:513-521)."
    )
    obstacle = _no_call(image) or _too_close(ratio.value, model)
    call = Presence.INDETERMINATE
    if not obstacle:
        call = Presence.PRESENT if ratio.value > CARDIOTHORACIC_RATIO_LIMIT else Presence.ABSENT
    yield Statement(
        name="cardiothoracic_ratio_above_limit",
        concept=_RATIO_RAISED,
        call=call,
        rule=f"{rule} {obstacle or _assumption(image)}".strip(),
        measurement=ratio.name,
    )


def _no_call(image: ChestImage) -> str:
    """Why the rule does not apply to this image; empty when it does."""
    if image.view == "AP":
        return "No call: the view is AP, which magnifies the heart."
    if image.view != "PA":
        return "No call: the view is not stated to be PA."
    years = completed_years(image.header)
    if years is not None and years < ADULT_YEARS:
        return "No call: the patient is no adult."
    return ""


def _too_close(ratio: float, model: ModelInfo) -> str:
    """Why the model cannot tell on which side of the limit a ratio lies; empty when it can."""
    stated = model.error_of("cardiothoracic_ratio")
    error = stated.root_mean_square if stated else UNKNOWN_ERROR
    if abs(ratio - CARDIOTHORACIC_RATIO_LIMIT) > error:
        return ""
    whose = "this model's error" if stated else "what is assumed for a model that states no error"
    return f"No call: the ratio is within {error:.3f} of the limit, {whose}."


def _assumption(image: ChestImage) -> str:
    """What the rule takes for granted on this image; empty when the image says all that it needs."""
    return "The age is not stated: taken for an adult." if completed_years(image.header) is None else ""
