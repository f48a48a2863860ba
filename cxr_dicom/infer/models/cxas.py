"""``cxas``: 159 structures, some within others, by the UNet of Chest X-ray Anatomy Segmentation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_dicom.config import Settings
from cxr_dicom.dicom.private_parts import anatomy_logits, anatomy_state
from cxr_dicom.errors import SettingsError
from cxr_dicom.infer import weights
from cxr_dicom.infer.backend import on_backend
from cxr_dicom.infer.base import Model
from cxr_dicom.infer.cxas_structures import STRUCTURES
from cxr_dicom.infer.device import choose
from cxr_dicom.infer.segmenter import Segmenter
from cxr_dicom.infer.weights.pickles import read_state
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    import torch

_FILE = "baseline_models_cxas_UNet_ResNet50_default_repack.pth"

MODELS = (
    ModelInfo(
        name="cxas",
        version="1",
        title="159 structures, UNet with a ResNet-50 trained on CT projections; not for commercial use",
        predicts=tuple(item.name for item in STRUCTURES),
        input_size=512,
        manufacturer="Karlsruhe Institute of Technology",
        licence="CC-BY-NC-SA (not for commercial use)",
        citation=(
            "Seibold et al. Accurate fine-grained segmentation of human anatomy in radiographs via volumetric "
            "pseudo-labeling. 2023. https://arxiv.org/abs/2306.03934"
        ),
        weights_file=_FILE,
        weights_url=weights.RELEASE + _FILE,
        trained_on="projections of CT with labels that were made by programs",
        failures=(
            "It sees the square in the middle of an image: structures outside of it are cut off.",
            "Accuracy on patients was not measured by this project: see the paper.",
        ),
    ),
)


def build(name: str, settings: Settings) -> Model:
    """Load the UNet, if its licence was accepted."""
    import torch
    from torchxrayvision.baseline_models.chestx_anatomy import UNetResNet50

    from cxr_dicom.infer.winograd import lighten

    if name not in settings.models.accept_licence:
        raise SettingsError(
            f"models.accept_licence: {name!r} is not in it; its weights are under {MODELS[0].licence}. "
            f'To use it, write accept_licence = ["{name}"] under [models]'
        )
    device = choose(settings.models)
    upstream = weights.Upstream(state=_tensors, targets=MODELS[0].predicts)
    tensors, lock = weights.load(MODELS[0], settings, upstream)
    with torch.device("meta"):
        network: Any = UNetResNet50(weights=False)
    weights.fill(network, tensors, device)
    lighten(network)

    def logits(pixels: torch.Tensor) -> torch.Tensor:
        return anatomy_logits(network, pixels)

    compute, info = on_backend(logits, weights.identified(MODELS[0], lock), settings, channels=3)
    return Segmenter(info=info, network=compute, structures=STRUCTURES, device=device)


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a checkpoint, and rename and choose its tensors as TorchXRayVision does."""
    import torch
    from torchxrayvision.baseline_models import chestx_anatomy

    renamed = anatomy_state(read_state(path))
    with torch.device("meta"):
        known = chestx_anatomy.UNetResNet50(weights=False).state_dict()
    return {key: tensor for key, tensor in renamed.items() if key in known}
