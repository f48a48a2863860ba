"""A network that outlines structures on one square, each on its own: structures may overlap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_dicom.infer.device import running
from cxr_dicom.records import Mask, ModelInfo, Prediction, Radiograph, Structure

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True, eq=False)
class Segmenter:
    """A network with its structures; those that it does not find are left out."""

    info: ModelInfo
    network: Callable[[torch.Tensor], torch.Tensor]  # (1, 3, size, size) -> logits (1, structures, size, size)
    structures: tuple[Structure, ...]
    device: str

    def predict(self, radiograph: Radiograph, earlier: Sequence[Prediction]) -> Prediction:
        """Outline every structure."""
        with running(self.info, radiograph, self.device) as (pixels, placement):
            planes = self.network(imagenet(pixels))[0].cpu()
        masks = (
            Mask(structure=structure, region=placement.mask(logits.sigmoid().numpy()))
            for structure, logits in zip(self.structures, planes, strict=True)  # one by one: it stays in the cache
        )
        return Prediction(model=self.info, masks=tuple(mask for mask in masks if mask.region.area))

    def close(self) -> None:
        """Nothing to give back but the memory of the network, which goes with this object."""


def imagenet(pixels: torch.Tensor) -> torch.Tensor:
    """Make (1, 1, rows, columns) of -1024 to 1024 into the three channels of a network pretrained on ImageNet."""
    import torch

    mean = torch.tensor(IMAGENET_MEAN, device=pixels.device).view(1, 3, 1, 1)
    deviation = torch.tensor(IMAGENET_DEVIATION, device=pixels.device).view(1, 3, 1, 1)
    return ((pixels + 1024) / 2048).sub(mean).div(deviation)
