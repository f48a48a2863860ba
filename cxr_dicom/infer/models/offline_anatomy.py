"""``offline-anatomy``: lungs and heart from a small network whose weights ship in the package.

A reference and a fallback, so that the main job works on any machine at once; TorchXRayVision's
models are the product. The three outlines do not overlap: what lies behind the heart belongs to
neither lung. How it was trained and how well it does: ``docs/models/offline-anatomy.md``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.config import Settings
from cxr_dicom.dicom import codes
from cxr_dicom.infer.backend import on_backend
from cxr_dicom.infer.placement import PROBABLE, square
from cxr_dicom.records import Code, Mask, ModelInfo, NumberError, Prediction, Radiograph, Structure

if TYPE_CHECKING:
    from cxr_dicom.infer.offline.unet import CompactUNet

WEIGHTS_FILE = "anatomy.safetensors"
INPUT_SIZE = 256
_SURE = 0.1  # below, and above its complement, a probability leaves no doubt

MODELS = (
    ModelInfo(
        name="offline-anatomy",
        version="1",
        title="Lungs and heart, small network shipped in the package; a reference and a fallback",
        predicts=("right_lung", "left_lung", "heart"),
        input_size=INPUT_SIZE,
        manufacturer="cxr-dicom",
        licence="Apache-2.0",
        citation="docs/models/offline-anatomy.md",
        errors=(
            NumberError(
                measurement="cardiothoracic_ratio",
                bias=-0.015,
                spread=0.039,
                against="outlines by hand of 23 radiographs",
            ),
        ),
        trained_on="570 radiographs of NIH ChestX-ray14, with contours of a shape model; nobody outlined one by hand",
        failures=(
            "A lung that is white throughout: its outline is a guess. With effusion or consolidation at the base the"
            " lower border is often drawn at the upper edge of the density.",
            "The left base can wave or dip below the dome where gas or a breast shadow lies beside the diaphragm.",
            "A mass in the mediastinum, or a wide one, may pull the border of a lung with it.",
            "The heart comes out narrow by 0.015 of the width of the chest on average: a ratio just above 0.5 is missed"
            " more often than overcalled.",
            "Not measured: children under four, dextrocardia, pneumonectomy, mirrored and lateral views.",
            "Every radiograph that it learnt from and was measured on is of one hospital.",
        ),
    ),
)


def _structure(name: str, title: str, kind: Code, laterality: Code | None, colour: tuple[int, int, int]) -> Structure:
    return Structure(name=name, title=title, category=codes.ORGAN, type=kind, laterality=laterality, colour=colour)


STRUCTURES: Mapping[str, Structure] = {
    structure.name: structure
    for structure in (
        _structure("right_lung", "Right lung", codes.LUNG, codes.RIGHT, (56, 168, 232)),
        _structure("left_lung", "Left lung", codes.LUNG, codes.LEFT, (72, 200, 120)),
        _structure("heart", "Heart", codes.HEART, None, (232, 88, 72)),
    )
}


def build(name: str, settings: Settings) -> OfflineAnatomy:
    """Load the network on the device that the settings name."""
    from cxr_dicom.infer.device import choose

    return OfflineAnatomy(settings, choose(settings.models))


class OfflineAnatomy:
    """Lungs and heart of a frontal radiograph.

    Parameters
    ----------
    weights
        Content of a weights file, to try others; None: those in the package.
    """

    def __init__(self, settings: Settings, device: str, weights: bytes | None = None) -> None:
        network, digest = _load(device, weights)
        self._device = device
        self._network, self.info = on_backend(network, replace(MODELS[0], weights_sha256=digest), settings)

    def predict(self, radiograph: Radiograph, earlier: Sequence[Prediction]) -> Prediction:
        """Outline right lung, left lung and heart."""
        import torch

        from cxr_dicom.infer.offline.postprocess import clean, normalise

        pixels, placement = square(radiograph, INPUT_SIZE, "pad")
        image = np.zeros_like(pixels)
        inside = placement.inside(INPUT_SIZE)
        image[inside] = normalise(pixels[inside])
        with torch.inference_mode():
            logits = self._network(torch.from_numpy(image)[None, None].to(self._device))
            found = logits[0].sigmoid().cpu().numpy()
        probabilities = clean(found)
        undecided = _undecided(found[:, *inside], probabilities)
        # Where it is heart it is not lung; kept true by any interpolation, since both cannot exceed one half.
        probabilities[:2] = np.minimum(probabilities[:2], 1 - probabilities[2])
        masks = tuple(
            Mask(structure=STRUCTURES[label], region=placement.mask(probabilities[index]))
            for index, label in enumerate(self.info.predicts)
        )
        outlined = tuple(mask for mask in masks if mask.region.area)
        return Prediction(model=self.info, masks=outlined, undecided=undecided)

    def close(self) -> None:
        """Let the network go."""
        del self._network


def _undecided(found: NDArray[np.float32], outlined: NDArray[np.float32]) -> float:
    """Pixels that are neither in nor out, for each that is outlined; of the organ with most of them."""
    between = np.count_nonzero((found > _SURE) & (found < 1 - _SURE), axis=(1, 2))
    return float(np.max(between / np.maximum(1, np.count_nonzero(outlined > PROBABLE, axis=(1, 2)))))


@cache
def _load(device: str, weights: bytes | None) -> tuple[CompactUNet, str]:
    """Build the network from the file in the package, or another one, once per process."""
    from cxr_dicom.infer.offline.unet import load

    content = weights or files("cxr_dicom.infer.offline").joinpath(WEIGHTS_FILE).read_bytes()
    return load(content).to(device).eval(), hashlib.sha256(content).hexdigest()
