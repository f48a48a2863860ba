"""``lung-opacity``: how opaque each part of a lung is, relative to the same radiograph.

No weights and no labels: the value of a lung pixel lies between two references of its own
radiograph, aerated lung (0) and mediastinum (1). It is a description of brightness, not a
diagnosis, and needs the lungs of an anatomy model that ran before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.config import Settings
from cxr_dicom.dicom import codes
from cxr_dicom.dicom.codes import private
from cxr_dicom.infer.offline.shapes import smoothed
from cxr_dicom.records import Code, Heatmap, Measurement, ModelInfo, Prediction, Radiograph
from cxr_dicom.records.plane import Grid

LONG_SIDE = 512  # samples along the longer side of the map
AERATED_PERCENTILE = 10  # of the pixels of both lungs
MEDIASTINUM_PERCENTILE = 50  # of the pixels between the lungs
SMOOTHING = 0.01  # standard deviation of the Gaussian, as a fraction of the longer side
OPAQUE = 0.6  # a pixel at or above it counts as opaque

MODELS = (
    ModelInfo(
        name="lung-opacity",
        version="1",
        title="Relative opacity of the lungs, measured on the radiograph itself",
        predicts=("relative_opacity",),
        input_size=None,
        manufacturer="cxr-dicom",
        licence="Apache-2.0",
        citation="docs/models/lung-opacity.md",
        trained_on="nothing: it is arithmetic on the pixels",
        failures=(
            "It describes brightness. It cannot tell pneumonia from effusion, nor an underexposed image from disease.",
            "Breast shadows, scapulae, skin folds, tubes and pacemakers are opaque and are counted.",
            "With both lungs opaque the map understates.",
            "A wrong outline puts chest wall, abdomen or air into the lung.",
        ),
    ),
)

DEFINITION = (
    f"Brightness of a lung pixel between aerated lung of this radiograph (0, percentile {AERATED_PERCENTILE} of both "
    f"lungs) and its mediastinum (1, median between the lungs), clipped, smoothed by {SMOOTHING:.0%} of the longer "
    "side; 0 outside the lungs."
)

_QUANTITY = private("REL_OPACITY", "Relative opacity of lung")
_OPAQUE_TEXT = f"fraction with relative opacity of {OPAQUE} or more"
_WHOLE = (
    private("REL_OPACITY_MEAN", "Mean relative opacity"),
    private("OPAQUE_FRACTION", _OPAQUE_TEXT.capitalize()),
)

_LUNGS: Mapping[str, Code] = {"right_lung": codes.RIGHT, "left_lung": codes.LEFT}
_ZONES = (  # name, site, its mean and its fraction
    (
        "upper_zone",
        Code(value="281392002", scheme="SCT", meaning="Upper zone of lung"),
        private("MEAN_UPPER", "Upper zone: mean relative opacity"),
        private("OPAQUE_UPPER", f"Upper zone: {_OPAQUE_TEXT}"),
    ),
    (
        "middle_zone",
        Code(value="281393007", scheme="SCT", meaning="Middle zone of lung"),
        private("MEAN_MIDDLE", "Middle zone: mean relative opacity"),
        private("OPAQUE_MIDDLE", f"Middle zone: {_OPAQUE_TEXT}"),
    ),
    (
        "lower_zone",
        Code(value="281394001", scheme="SCT", meaning="Lower zone of lung"),
        private("MEAN_LOWER", "Lower zone: mean relative opacity"),
        private("OPAQUE_LOWER", f"Lower zone: {_OPAQUE_TEXT}"),
    ),
)


def build(name: str, settings: Settings) -> LungOpacity:
    """Make the model; there is nothing to load."""
    return LungOpacity()


@dataclass(frozen=True)
class LungOpacity:
    """The map, and its numbers for each lung and zone."""

    info: ModelInfo = MODELS[0]

    def predict(self, radiograph: Radiograph, earlier: Sequence[Prediction]) -> Prediction:
        """Map the relative opacity of the lungs that an earlier model outlined."""
        step = max(1, round(max(radiograph.image.shape) / LONG_SIDE))
        lungs = _lungs(radiograph, earlier, step)
        if lungs is None:
            return Prediction(model=self.info, warnings=("lung-opacity: no anatomy model outlined both lungs",))
        pixels = _block_mean(radiograph.pixels, step)
        references = _references(pixels, lungs)
        if references is None:
            return Prediction(model=self.info, warnings=("lung-opacity: mediastinum is not denser than the lungs",))
        opacity = _relative_opacity(pixels, lungs, *references)
        values = np.ascontiguousarray(radiograph.image.orientation.to_source(opacity))
        heatmap = Heatmap(
            name="relative_opacity",
            title="Relative opacity",
            quantity=_QUANTITY,
            definition=DEFINITION,
            values=values,
            grid=_grid(radiograph, values, step),
        )
        return Prediction(model=self.info, heatmaps=(heatmap,), measurements=tuple(_measurements(opacity, lungs)))

    def close(self) -> None:
        """Nothing to give back."""


def _lungs(radiograph: Radiograph, earlier: Sequence[Prediction], step: int) -> dict[str, NDArray[np.bool_]] | None:
    """Both lungs of the last model that outlined them, in the standard view, reduced by ``step``."""
    for prediction in reversed(earlier):
        masks = {name: prediction.mask(name) for name in _LUNGS}
        turned = {
            name: radiograph.image.orientation.to_standard(mask.region.matrix()) for name, mask in masks.items() if mask
        }
        if len(turned) == len(_LUNGS):
            return {name: _block_mean(matrix.astype(np.float32), step) >= 0.5 for name, matrix in turned.items()}
    return None


def _block_mean(matrix: NDArray[Any], step: int) -> NDArray[np.float32]:
    """Mean of blocks of ``step`` x ``step`` pixels; the last ones repeat the border."""
    rows, columns = (-size % step for size in matrix.shape)
    padded = np.pad(matrix, ((0, rows), (0, columns)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step)
    return np.asarray(blocks.mean(axis=(1, 3)), np.float32)


def _grid(radiograph: Radiograph, values: NDArray[np.float32], step: int) -> Grid:
    """Where the map lies on the source: a border that was repeated may lie before its first row or column."""
    turn, (rows, columns) = radiograph.image.orientation, radiograph.image.shape
    surplus_rows, surplus_columns = values.shape[0] * step - rows, values.shape[1] * step - columns
    before_rows = turn.flip_columns if turn.transpose else turn.flip_rows
    before_columns = turn.flip_rows if turn.transpose else turn.flip_columns
    return Grid(
        shape=(values.shape[0], values.shape[1]),
        origin=(-float(surplus_rows * before_rows), -float(surplus_columns * before_columns)),
        step=(float(step), float(step)),
    )


def _references(pixels: NDArray[np.float32], lungs: Mapping[str, NDArray[np.bool_]]) -> tuple[float, float] | None:
    """Brightness of aerated lung and of mediastinum; None when they cannot be distinguished."""
    right, left = lungs["right_lung"], lungs["left_lung"]
    both = right | left
    between = (np.cumsum(right[:, ::-1], axis=1)[:, ::-1] == 0) & (np.cumsum(left, axis=1) == 0)
    between &= right.any(axis=1, keepdims=True) & left.any(axis=1, keepdims=True) & ~both
    if not both.any() or not between.any():
        return None
    aerated = float(np.percentile(pixels[both], AERATED_PERCENTILE))
    mediastinum = float(np.percentile(pixels[between], MEDIASTINUM_PERCENTILE))
    return (aerated, mediastinum) if mediastinum > aerated else None


def _relative_opacity(
    pixels: NDArray[np.float32], lungs: Mapping[str, NDArray[np.bool_]], aerated: float, mediastinum: float
) -> NDArray[np.float32]:
    """Smooth inside the lungs only, so that the chest wall does not bleed in."""
    both = (lungs["right_lung"] | lungs["left_lung"]).astype(np.float32)
    relative = np.clip((pixels - aerated) / (mediastinum - aerated), 0, 1) * both
    sigma = SMOOTHING * max(pixels.shape)
    wanted = _extent(both, 1), _extent(both, 0)
    weight = np.maximum(smoothed(both, sigma, wanted), 1e-6)
    smooth = np.zeros_like(both)
    smooth[wanted] = np.clip(smoothed(relative, sigma, wanted) / weight, 0, 1) * both[wanted]
    return smooth


def _extent(inside: NDArray[np.float32], across: int) -> slice:
    """From the first to the last row or column with anything."""
    places = np.flatnonzero(inside.any(axis=across))
    return slice(int(places[0]), int(places[-1]) + 1)


def _measurements(opacity: NDArray[np.float32], lungs: Mapping[str, NDArray[np.bool_]]) -> Iterator[Measurement]:
    for lung, laterality in _LUNGS.items():
        yield from _numbers(lung, codes.LUNG, laterality, _WHOLE, opacity[lungs[lung]])
        rows = np.flatnonzero(lungs[lung].any(axis=1))
        for (zone, site, *quantities), part in zip(_ZONES, np.array_split(rows, len(_ZONES)), strict=True):
            yield from _numbers(f"{lung}_{zone}", site, laterality, quantities, opacity[part][lungs[lung][part]])


def _numbers(
    name: str, site: Code, laterality: Code, quantities: Sequence[Code], values: NDArray[np.float32]
) -> Iterator[Measurement]:
    missing = "" if values.size else "no pixels"
    numbers = (float(values.mean()), float((values >= OPAQUE).mean())) if values.size else (None, None)
    suffixes = "mean_relative_opacity", "opaque_fraction"
    for suffix, code, number in zip(suffixes, quantities, numbers, strict=True):
        yield Measurement(
            name=f"{name}_{suffix}",
            code=code,
            value=number,
            unit=codes.RATIO,
            site=site,
            laterality=laterality,
            method=DEFINITION,
            reason=missing,
        )
