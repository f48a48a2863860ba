"""A network that scores findings on one square, with a class activation map for each.

Scores. ``raw`` is the network's probability. ``probability`` is scaled piecewise linearly so that
the operating point is at 0.5, as TorchXRayVision does. A finding whose operating point is not known
is INDETERMINATE, and its ``probability`` is ``raw``: upstream's constant 0.5 would hide the score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cxr_dicom.errors import ModelError
from cxr_dicom.infer.device import running
from cxr_dicom.infer.findings import FINDINGS, FindingType
from cxr_dicom.infer.placement import AS_READ, Fit, Placement, Sampling
from cxr_dicom.infer.weights import Lock
from cxr_dicom.records import (
    Code,
    Finding,
    Heatmap,
    ModelInfo,
    Prediction,
    Presence,
    Radiograph,
    SiteOperatingPoint,
)
from cxr_dicom.records.plane import Grid

if TYPE_CHECKING:
    import torch

    Scorer = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]

UPSTREAM_POINTS = "those that TorchXRayVision ships (op_threshs); a score at or above is called present"
FAILURES = (
    "Scores shift between sites: a threshold that fits one does not fit another (Cohen et al., MIDL 2020).",
    "It sees the square in the middle of an image, a few hundred pixels wide: what lies outside, or is smaller than a"
    " few pixels there, is not looked at.",
    "The labels of its training sets were mostly taken from reports by programs, with their errors.",
)

MAP_SIZE = 224  # rows and columns of a heatmap
MAP_LEVELS = 100  # that a cell of the network's last feature map has, from none to the strongest of the map
_TINY = np.finfo(np.float32).tiny
CLASS_ACTIVATION = Code(value="130402", scheme="DCM", meaning="Class activation")

DEFINITION = (
    "Class activation map: what each place of the network's last feature map adds to the finding's score; negative "
    f"values set to 0, rounded to 1/{MAP_LEVELS} of the greatest, interpolated bilinearly to {MAP_SIZE} x {MAP_SIZE}, "
    "divided by its own maximum. 0: no support; 1: the strongest support in this image; not comparable between "
    "findings or images."
)


@dataclass(frozen=True, kw_only=True)
class SitePoint:
    """What a file of this site's operating points says of one output."""

    sha256: str  # of the file
    upstream: float | None  # the model's own operating point
    probability: Callable[[float], float | None]  # from the network's output, on this site's images

    def at(self, raw: float) -> SiteOperatingPoint:
        """Say it of one score."""
        return SiteOperatingPoint(sha256=self.sha256, upstream=self.upstream, probability=self.probability(raw))


@dataclass(frozen=True, kw_only=True)
class Target:
    """One output of a network."""

    finding: FindingType | None  # None: an output that was not trained
    threshold: float | None  # operating point on the probability; None: not known
    site: SitePoint | None = None  # None: the operating point is the model's own


@dataclass(frozen=True, kw_only=True, eq=False)
class Classifier:
    """A network with its labels and operating points."""

    info: ModelInfo
    score: Scorer  # (1, 1, size, size), -1024 to 1024 -> probabilities (n,), activation maps (n, rows, columns) if any
    targets: tuple[Target, ...]  # aligned with the probabilities
    device: str
    fit: Fit = "crop"
    sampling: Sampling = AS_READ

    def predict(self, radiograph: Radiograph, earlier: Sequence[Prediction]) -> Prediction:
        """Score all findings, and map those called present and the top one, in one forward pass."""
        with running(self.info, radiograph, self.device, self.fit, self.sampling) as (pixels, placement):
            raw, maps = self.score(pixels)
            probabilities = raw.tolist()
        found = [
            (number, scored(target.finding, target, probability))
            for number, (target, probability) in enumerate(zip(self.targets, probabilities, strict=True))
            if target.finding is not None
        ]
        if any(math.isnan(finding.raw) for _, finding in found):
            raise ModelError(f"{self.info.name}: the network gave a score that is not a number")
        return Prediction(
            model=self.info,
            findings=tuple(finding for _, finding in found),
            heatmaps=()
            if maps is None
            else tuple(_heatmaps([(finding, maps[number]) for number, finding in found], placement)),
        )

    def close(self) -> None:
        """Nothing to give back but the memory of the network, which goes with this object."""


def targets_of(lock: Lock) -> tuple[Target, ...]:
    """Targets of a network as they were recorded beside its weights."""
    return tuple(
        Target(finding=FINDINGS[label] if label else None, threshold=threshold)
        for label, threshold in zip(lock.targets, lock.thresholds, strict=True)
    )


def thresholds(values: Sequence[float]) -> list[float | None]:
    """Operating points as TorchXRayVision lists them, its NaN as None."""
    return [None if math.isnan(value) else float(value) for value in values]


def calibrate(raw: float, threshold: float | None) -> float:
    """Scale a probability so that ``threshold`` becomes 0.5, in single precision, as TorchXRayVision's ``op_norm``."""
    if threshold is None:
        return raw
    score, point, one = np.float32(raw), np.float32(threshold), np.float32(1)
    if score < point:
        return float(score / (point + point))
    room = (one - point) + (one - point)  # 0 where a site's threshold is the number next to 1
    return float(one - (one - score) / room) if room else 1.0


def pooled_linear(
    features: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and activation maps of a linear layer behind a global average pool.

    The layer is linear, so the logit is the mean of the map plus the bias, and one pass gives all.

    Parameters
    ----------
    features
        (1, channels, rows, columns).
    weight, bias
        (n, channels) and (n,).

    Returns
    -------
    tuple
        (n,) logits and (n, rows, columns) maps.
    """
    import torch

    logits = torch.nn.functional.linear(features.mean(dim=(2, 3)), weight, bias)[0]
    return logits, torch.einsum("nc,crl->nrl", weight, features[0])


def scored(kind: FindingType, target: Target, raw: float) -> Finding:
    """Make the finding of a target from the network's own score of it."""
    threshold = target.threshold
    call = Presence.PRESENT if threshold is not None and raw >= threshold else Presence.ABSENT
    return Finding(
        name=kind.name,
        code=kind.code,
        site=kind.site,
        raw=raw,
        probability=calibrate(raw, threshold),
        operating_point=threshold,
        call=Presence.INDETERMINATE if threshold is None else call,
        site_point=target.site.at(raw) if target.site else None,
    )


def _heatmaps(scored: Sequence[tuple[Finding, torch.Tensor]], placement: Placement) -> Iterator[Heatmap]:
    """Maps of the findings called present, and always of the top one."""
    top = max((finding for finding, _ in scored), key=lambda finding: finding.probability)
    for finding, activation in scored:
        if finding is top or finding.call is Presence.PRESENT:
            yield _heatmap(finding.name, activation, placement)


def _heatmap(name: str, activation: torch.Tensor, placement: Placement) -> Heatmap:
    """Make the heatmap of a finding from its activation map (rows, columns).

    It is rounded before it is enlarged, and enlarged without a sum whose order is open: equal on all processors.
    """
    cells = activation.float().relu().cpu().numpy()
    levels = np.rint(cells / max(cells.max(), _TINY) * MAP_LEVELS) / np.float32(MAP_LEVELS)
    (rows, columns), whole = cells.shape, (MAP_SIZE, MAP_SIZE)
    grid = Grid(shape=(rows, columns), origin=(0.0, 0.0), step=(MAP_SIZE / rows, MAP_SIZE / columns))
    enlarged = grid.resample(levels, whole, whole)
    values = enlarged / max(enlarged.max(), _TINY)
    return Heatmap(
        name=name,
        title=name.replace("_", " ").capitalize(),
        quantity=CLASS_ACTIVATION,
        definition=DEFINITION,
        values=placement.to_source(values),
        grid=placement.grid(values.shape),
    )
