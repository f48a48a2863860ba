"""Boxes that a network of the user's gives, in the layouts that exporters write, laid back on the radiograph.

A finding is as likely as the best of its boxes: so an image has one score for each label, as Chakraborty's inferred
ROC has it (Med Phys 1989;16:561-568), and is called by the threshold that its boxes are reported by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.config.own import BoxesOutput
from cxr_dicom.errors import ModelError
from cxr_dicom.infer.classifier import Target, scored
from cxr_dicom.infer.device import running
from cxr_dicom.infer.placement import Fit, Placement, Sampling
from cxr_dicom.records import Detection, ModelInfo, Prediction, Radiograph

if TYPE_CHECKING:
    import torch

Numbers = NDArray[np.float64]

MOST_CANDIDATES = 3000  # boxes that compete for a place; those of highest score, before others are suppressed
_SIDES = 4
_ROUNDING = 1e-4  # what the last layer of a network in lower precision may be off
_FAR = 2  # times the input that a box may reach beyond it, as a regression does
_INVERTED = 1e-3  # of the input: what rounding may turn left and right by


def joined(info: ModelInfo, outputs: Sequence[Any], images: int) -> torch.Tensor:
    """Return (1, rows, columns) of the first of so many images: of one output, or of boxes, scores and numbers."""
    import torch

    found = [_of_first(info, each, images, 2 if number == 0 else 1) for number, each in enumerate(outputs)]
    if len(found) == 1:
        return found[0][None]
    boxes, scores, numbers = found[0], found[1].flatten(), found[2].flatten()
    if boxes.shape[1] != _SIDES or not len(boxes) == len(scores) == len(numbers):
        shapes = ", ".join(str(tuple(each.shape)) for each in found)
        raise ModelError(f"{info.name}: output.tensors: expected (boxes, 4), (boxes) and (boxes), got {shapes}")
    return torch.cat([boxes, scores[:, None], numbers[:, None]], dim=1)[None]


def expect_fit(info: ModelInfo, output: BoxesOutput, found: torch.Tensor) -> None:
    """Compare the shape of what a network gives with its table.

    Raises
    ------
    ModelError
        If it is another.
    """
    _in_rows(info, output, found)


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Boxes as fractions of the square, and what a network says of each."""

    boxes: Numbers  # (boxes, 4): left, top, right, bottom
    scores: Numbers  # (boxes, labels); not a number: not of the label


@dataclass(frozen=True, kw_only=True, eq=False)
class OwnBoxes:
    """Finds findings and where they are."""

    info: ModelInfo
    compute: Callable[[torch.Tensor], torch.Tensor]  # of the square, (1, 1, size, size): (1, rows, columns)
    output: BoxesOutput
    targets: tuple[Target, ...]  # aligned with the labels
    device: str
    fit: Fit
    sampling: Sampling

    def predict(self, radiograph: Radiograph, earlier: Sequence[Prediction]) -> Prediction:
        """Find every finding."""
        with running(self.info, radiograph, self.device, self.fit, self.sampling) as (pixels, placement):
            found = self.compute(pixels).double().cpu()
        return self._prediction(_read(self.info, self.output, found, self._thresholds), placement)

    def close(self) -> None:
        """Nothing to give back but the memory of the network, which goes with this object."""

    @property
    def _thresholds(self) -> Numbers:
        """Of each label; greater than any score where it is not reported."""
        reported = [target.threshold if target.finding else None for target in self.targets]
        return np.array([2 if threshold is None else threshold for threshold in reported], np.float64)

    def _prediction(self, rows: _Rows, placement: Placement) -> Prediction:
        places = np.round(placement.boxes(rows.boxes), 2)  # hundredths of a pixel
        lies = (places[:, 2] > places[:, 0]) & (places[:, 3] > places[:, 1])  # on the image, and not beside it
        places, scores, squares = places[lies], rows.scores[lies], rows.boxes[lies]
        chosen, reaching = self._chosen(squares, scores)
        best = np.max(np.nan_to_num(scores, nan=0.0), axis=0, initial=0.0).tolist()
        findings = (
            scored(target.finding, target, score)
            for target, score in zip(self.targets, best, strict=True)
            if target.finding is not None
        )
        return Prediction(
            model=self.info,
            findings=tuple(findings),
            detections=self._detections(places, scores, chosen),
            warnings=(self._too_many(reaching),) * (reaching > len(chosen)),
        )

    def _chosen(self, squares: Numbers, scores: Numbers) -> tuple[list[tuple[int, int]], int]:
        """Which box is of which label, the highest score first, and how many there would be without a bound."""
        import torch
        from torchvision.ops import batched_nms

        with np.errstate(invalid="ignore"):
            box, label = np.nonzero(scores >= self._thresholds)
        order = np.argsort(-scores[box, label], kind="stable")[:MOST_CANDIDATES]
        lost, box, label = len(box) - len(order), box[order], label[order]
        if self.output.iou_threshold is not None and len(box):
            kept = batched_nms(
                torch.from_numpy(squares[box]),
                torch.from_numpy(scores[box, label]),
                torch.from_numpy(label),
                self.output.iou_threshold,
            ).numpy()
            box, label = box[kept], label[kept]
        most = self.output.max_boxes
        return list(zip(box[:most].tolist(), label[:most].tolist(), strict=True)), len(box) + lost

    def _detections(self, places: Numbers, scores: Numbers, chosen: Sequence[tuple[int, int]]) -> tuple[Detection, ...]:
        made: list[Detection] = []
        counts = [0] * len(self.targets)
        for box, label in chosen:
            finding = self.targets[label].finding
            if finding is None:
                continue
            counts[label] += 1
            left, top, right, bottom = places[box].tolist()
            made.append(
                Detection(
                    name=finding.name,
                    number=counts[label],
                    title=finding.title,
                    code=finding.code,
                    site=finding.site,
                    score=float(scores[box, label]),
                    box=(left, top, right, bottom),
                )
            )
        return tuple(made)

    def _too_many(self, reaching: int) -> str:
        most = self.output.max_boxes
        return f"{self.info.name} found {reaching} boxes; the {most} of highest score are reported"


def _read(info: ModelInfo, output: BoxesOutput, found: torch.Tensor, thresholds: Numbers) -> _Rows:
    """Read what a network gives: (1, rows, columns), as its layout says."""
    rows: Numbers = _in_rows(info, output, found).numpy()
    count = len(output.labels)
    given = _probable(info, rows[:, _SIDES:] if output.layout == "classes" else rows[:, 4], output.activation)
    if output.layout == "classes":
        scores = given
    else:
        scores = np.full((len(rows), count), np.nan)
        numbers = rows[:, 5]
        known = (numbers == np.round(numbers)) & (numbers >= 0) & (numbers < count)
        if strange := (~known & (given >= thresholds.min(initial=2))).nonzero()[0].tolist():
            raise ModelError(
                f"{info.name}: expected whole numbers of 0 to {count - 1}, the labels; got {numbers[strange[0]]:.4g}"
            )
        scores[known.nonzero()[0], numbers[known].astype(int)] = given[known]
    with np.errstate(invalid="ignore"):
        reported = np.any(scores >= thresholds, axis=1)
    return _Rows(boxes=_placed(info, output, rows[:, :_SIDES], reported), scores=scores)


def _placed(info: ModelInfo, output: BoxesOutput, given: Numbers, reported: NDArray[np.bool_]) -> Numbers:
    """Return boxes as left, top, right, bottom, 0 to 1 over the square; what is ``reported`` has to be one."""
    size = info.input_size or 1
    boxes = given.copy() if output.normalised else given / size
    if output.format == "cxcywh":
        centre, half = boxes[:, :2], boxes[:, 2:] / 2
        boxes = np.concatenate([centre - half, centre + half], axis=1)
    seen = boxes[reported]
    if not np.isfinite(seen).all():
        raise ModelError(f"{info.name}: the network gave a box that is not a number")
    if len(seen):
        one = _shown(given[reported][int(np.argmin((seen[:, 2:] - seen[:, :2]).min(axis=1)))])
        if (seen[:, 2:] - seen[:, :2]).min() < -_INVERTED:
            raise ModelError(
                f"{info.name}: output.format is {output.format}: expected left before right and top before bottom, "
                f"got {one}; if these are left, top, right, bottom, it is xyxy, and if centre and size, cxcywh"
            )
        if seen.min() < -_FAR or seen.max() > 1 + _FAR:
            unit = "0 to 1" if output.normalised else f"pixels of an input of {size}"
            far = _shown(given[reported][int(np.argmax(np.abs(seen).max(axis=1)))])
            raise ModelError(f"{info.name}: output.normalised: expected boxes in {unit}, got {far}")
        if not output.normalised and seen.max() * size <= 1 < size:
            raise ModelError(
                f"{info.name}: output.normalised: expected boxes in pixels of an input of {size}, got {one}; "
                "if they are of 0 to 1, it is true"
            )
    return boxes


def _shown(box: Numbers) -> str:
    return ", ".join(f"{side:.4g}" for side in box)


def _probable(info: ModelInfo, values: Numbers, activation: str) -> Numbers:
    """Make probabilities of scores."""
    if not np.isfinite(values).all():
        raise ModelError(f"{info.name}: the network gave a score that is not a number")
    if activation == "sigmoid":
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-values)))
    if values.size and (values.min() < -_ROUNDING or values.max() > 1 + _ROUNDING):
        raise ModelError(
            f"{info.name}: output.activation is none: expected scores of 0 to 1, "
            f"got {values.min():.4g} to {values.max():.4g}; if these are logits, it is sigmoid"
        )
    return values.clip(0, 1)


def _in_rows(info: ModelInfo, output: BoxesOutput, found: torch.Tensor) -> torch.Tensor:
    """Return (boxes, columns), also where a network gives (columns, boxes), as YOLO does."""
    rows = found[0]
    columns = _SIDES + len(output.labels) if output.layout == "classes" else _SIDES + 2
    if rows.ndim == 2 and rows.shape[1] == columns:
        return rows
    if rows.ndim == 2 and rows.shape[0] == columns and output.layout == "classes":
        return rows.T
    raise ModelError(
        f"{info.name}: output.layout is {output.layout}: expected (images, boxes, {columns}) by its labels, "
        f"got {tuple(found.shape)}"
    )


def _of_first(info: ModelInfo, found: Any, images: int, dimensions: int) -> torch.Tensor:
    """Return what is of the first of so many images; the dimension of the images may be missing where it is one."""
    import torch

    if not isinstance(found, torch.Tensor) or found.is_complex():
        raise ModelError(f"{info.name}: output: expected a tensor of real numbers, got {type(found).__name__}")
    if found.ndim == dimensions and images == 1:
        return found.float()
    if found.ndim > dimensions and found.shape[0] == images:
        return found[0].float()
    raise ModelError(
        f"{info.name}: output: expected {images} in the first dimension, the images; got shape {tuple(found.shape)}"
    )
