"""What a network gives, as its table says, made into predictions: one model for each kind of output.

Each takes the square as the network was trained on it, and undoes the placement as our own models do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cxr_dicom.config.own import (
    BoxesOutput,
    EmbeddingsOutput,
    HeatmapsOutput,
    Label,
    MasksOutput,
    OwnModel,
    ScoresOutput,
    ValuesOutput,
)
from cxr_dicom.errors import ModelError
from cxr_dicom.infer.base import Model
from cxr_dicom.infer.classifier import Classifier, Target
from cxr_dicom.infer.device import running
from cxr_dicom.infer.own import boxes, vocabulary
from cxr_dicom.infer.placement import Fit, Placement, Sampling
from cxr_dicom.records import Code, Heatmap, Mask, Measurement, ModelInfo, Prediction, Radiograph, Structure

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    Compute = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]

_AS_TOLD = "As the network gives it."


def model(table: OwnModel, info: ModelInfo, compute: Compute, device: str) -> Model:
    """Make the model of a network.

    Parameters
    ----------
    compute
        Of the square, (1, 1, size, size), -1024 to 1024: what the network gives for it, (1, ...), and class activation
        maps (labels, rows, columns) where it has any.
    """
    output = table.output
    raw = _Raw(info=info, compute=compute, device=device, fit=table.input.fit, sampling=_sampling(table))
    if isinstance(output, BoxesOutput):
        return boxes.OwnBoxes(
            info=info,
            compute=lambda pixels: compute(pixels)[0],
            output=output,
            targets=tuple(_target(label, output.threshold(label)) for label in output.labels),
            device=device,
            fit=raw.fit,
            sampling=raw.sampling,
        )
    if isinstance(output, ScoresOutput):
        targets = tuple(_target(label, label.operating_point) for label in output.labels)

        def score(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
            found, maps = compute(pixels)
            return _probable(info, _flat(info, found, len(targets)), output.activation), maps

        return Classifier(
            info=info,
            score=score,
            targets=targets,
            device=device,
            fit=raw.fit,
            sampling=raw.sampling,
        )
    if isinstance(output, MasksOutput):
        return OwnMasks(raw=raw, output=output)
    if isinstance(output, ValuesOutput):
        return OwnValues(raw=raw, output=output)
    if isinstance(output, EmbeddingsOutput):
        return OwnEmbeddings(raw=raw, output=output)
    return OwnHeatmaps(raw=raw, output=output)


def expect_fit(table: OwnModel, info: ModelInfo, found: torch.Tensor) -> None:
    """Compare the shape of what a network gives with its table.

    Raises
    ------
    ModelError
        If it is another.
    """
    output = table.output
    if isinstance(output, BoxesOutput):
        boxes.expect_fit(info, output, found)
    elif isinstance(output, ScoresOutput | ValuesOutput):
        _flat(info, found, len(output.labels))
    elif isinstance(output, EmbeddingsOutput):
        _flat(info, found, output.width)
    else:
        _map(info, found, 1 if output.activation == "labels" else len(output.labels))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Raw:
    """A network, and how it sees a radiograph."""

    info: ModelInfo
    compute: Compute
    device: str
    fit: Fit
    sampling: Sampling

    def __call__(self, radiograph: Radiograph) -> tuple[torch.Tensor, Placement]:
        """Run the network; what it gives, and where the square lies."""
        with running(self.info, radiograph, self.device, self.fit, self.sampling) as (pixels, placement):
            return self.compute(pixels)[0].float().cpu(), placement


class _Own:
    """What the kinds have in common."""

    raw: _Raw

    @property
    def info(self) -> ModelInfo:
        """What made the prediction."""
        return self.raw.info

    def close(self) -> None:
        """Nothing to give back but the memory of the network, which goes with this object."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnMasks(_Own):
    """Outlines structures; those that it does not find are left out."""

    raw: _Raw
    output: MasksOutput

    def predict(self, radiograph: Radiograph, earlier: Sequence[Prediction]) -> Prediction:
        """Outline every structure."""
        found, placement = self.raw(radiograph)
        masks = (
            Mask(structure=structure, region=placement.mask(values, threshold))
            for structure, values, threshold in self._planes(found)
        )
        return Prediction(model=self.info, masks=tuple(mask for mask in masks if mask.region.area))

    def _planes(self, found: torch.Tensor) -> Iterator[tuple[Structure, NDArray[np.float32], float]]:
        """Yield of each structure the values that are laid back, and above which they belong to it."""
        activation, labels = self.output.activation, self.output.labels
        if activation == "labels":
            numbers = _numbers(self.info, _map(self.info, found, 1)[0], len(labels))
            planes = [(numbers == number).float() for number in range(len(labels))]
        else:
            planes = list(_probable(self.info, _map(self.info, found, len(labels)), activation))
        exclusive = activation in ("softmax", "labels") and len(planes) > 1
        for number, label in enumerate(labels):
            if not label.name:
                continue
            values = planes[number]
            if exclusive:  # by how much it is ahead of the others: what is interpolated cannot overlap
                others = [plane for other, plane in enumerate(planes) if other != number]
                values = values - _greatest(others)
            yield vocabulary.outlined(label), values.numpy(), 0.0 if exclusive else self.output.threshold


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnValues(_Own):
    """Measures."""

    raw: _Raw
    output: ValuesOutput

    def predict(self, radiograph: Radiograph, earlier: Sequence[Prediction]) -> Prediction:
        """Give a number for each label."""
        found, _ = self.raw(radiograph)
        values = _finite(self.info, _flat(self.info, found, len(self.output.labels))).tolist()
        measurements = (
            Measurement(
                name=label.name,
                code=vocabulary.code(label),
                value=value,
                unit=Code(value=label.unit, scheme="UCUM", meaning="no units" if label.unit == "1" else label.unit),
                method=self.info.title,
            )
            for label, value in zip(self.output.labels, values, strict=True)
            if label.name
        )
        return Prediction(model=self.info, measurements=tuple(measurements))


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnEmbeddings(_Own):
    """Gives a vector."""

    raw: _Raw
    output: EmbeddingsOutput

    def predict(self, radiograph: Radiograph, earlier: Sequence[Prediction]) -> Prediction:
        """Give the vector of the image."""
        found, _ = self.raw(radiograph)
        vector = _finite(self.info, _flat(self.info, found, self.output.width))
        return Prediction(model=self.info, embedding=np.array(vector.numpy(), np.float32))


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnHeatmaps(_Own):
    """Maps quantities of 0 to 1."""

    raw: _Raw
    output: HeatmapsOutput

    def predict(self, radiograph: Radiograph, earlier: Sequence[Prediction]) -> Prediction:
        """Map every quantity."""
        found, placement = self.raw(radiograph)
        labels = self.output.labels
        planes = _probable(self.info, _map(self.info, found, len(labels)), self.output.activation)
        heatmaps = (
            Heatmap(
                name=label.name,
                title=label.name.replace("_", " ").capitalize(),
                quantity=vocabulary.code(label),
                definition=_AS_TOLD,
                values=placement.to_source(plane.numpy()),
                grid=placement.grid((plane.shape[0], plane.shape[1])),
            )
            for label, plane in zip(labels, planes, strict=True)
            if label.name
        )
        return Prediction(model=self.info, heatmaps=tuple(heatmaps))


def _target(label: Label, threshold: float | None) -> Target:
    return Target(finding=vocabulary.finding(label) if label.name else None, threshold=threshold)


def _sampling(table: OwnModel) -> Sampling:
    given = table.input
    return Sampling(resize=given.resize, antialias=given.antialias, intensity=given.intensity)


def _flat(info: ModelInfo, found: torch.Tensor, count: int) -> torch.Tensor:
    """Return (count,) of (1, count), whatever lengths of one stand about."""
    if found.numel() != count:
        raise _misfit(info, found, f"(images, {count})")
    return found.flatten().float()


def _map(info: ModelInfo, found: torch.Tensor, count: int) -> torch.Tensor:
    """Return (count, rows, columns) of (1, count, rows, columns), or of (1, rows, columns) where ``count`` is one."""
    planes = found[0] if found.ndim == 4 else found
    if planes.ndim != 3 or planes.shape[0] != count or not planes.numel():
        raise _misfit(info, found, f"(images, {count}, rows, columns)")
    return planes.float()


def _misfit(info: ModelInfo, found: torch.Tensor, expected: str) -> ModelError:
    return ModelError(f"{info.name}: output: expected {expected} by its table, got {tuple(found.shape)}")


def _finite(info: ModelInfo, values: torch.Tensor) -> torch.Tensor:
    if not values.isfinite().all():
        raise ModelError(f"{info.name}: the network gave something that is not a number")
    return values


def _numbers(info: ModelInfo, values: torch.Tensor, count: int) -> torch.Tensor:
    """Return the numbers of labels, 0 to ``count`` - 1; another one is of a label that the table does not have."""
    numbers = _finite(info, values).round()
    if (numbers != values).any() or numbers.min() < 0 or numbers.max() >= count:
        raise ModelError(
            f"{info.name}: output.activation is labels: expected whole numbers of 0 to {count - 1}, the labels; "
            f"got {values.min():.4g} to {values.max():.4g}"
        )
    return numbers.long()


def _probable(info: ModelInfo, values: torch.Tensor, activation: str) -> torch.Tensor:
    """Make probabilities of what the network gives, whose first dimension is the labels."""
    _finite(info, values)
    if activation == "sigmoid":
        return values.sigmoid()
    if activation == "softmax":
        return values.softmax(dim=0)
    if values.min() < -_ROUNDING or values.max() > 1 + _ROUNDING:
        raise ModelError(
            f"{info.name}: output.activation is none: expected 0 to 1, got {values.min():.4g} to {values.max():.4g};"
            " if these are logits, it is sigmoid or softmax"
        )
    return values.clamp(0, 1)


_ROUNDING = 1e-4  # what the last layer of a network in lower precision may be off


def _greatest(planes: Sequence[Any]) -> Any:
    import torch

    return torch.stack(tuple(planes)).amax(dim=0)
