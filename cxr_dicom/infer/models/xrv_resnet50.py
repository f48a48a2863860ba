"""``xrv-resnet50-all``: the ResNet-50 classifier of TorchXRayVision at 512 x 512."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cxr_dicom.config import Settings
from cxr_dicom.infer import weights
from cxr_dicom.infer.backend import on_backend
from cxr_dicom.infer.base import Model
from cxr_dicom.infer.classifier import FAILURES, UPSTREAM_POINTS, Classifier, pooled_linear, targets_of, thresholds
from cxr_dicom.infer.device import choose
from cxr_dicom.infer.findings import FINDINGS, names
from cxr_dicom.infer.weights.pickles import read_state
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    import torch

_FILE = "pc-nih-rsna-siim-vin-resnet50-test512-e400-state.pt"

MODELS = (
    ModelInfo(
        name="xrv-resnet50-all",
        version="1",
        title="18 findings, 16 with operating points, ResNet-50 at 512 x 512 trained on five public data sets",
        predicts=names(*FINDINGS),
        input_size=512,
        manufacturer="TorchXRayVision",
        licence="Apache-2.0",
        citation=(
            "Cohen et al. TorchXRayVision: A library of chest X-ray datasets and models. MIDL 2022. "
            "https://arxiv.org/abs/2111.00595"
        ),
        weights_file=_FILE,
        weights_url=weights.RELEASE + _FILE,
        trained_on="PadChest, NIH ChestX-ray14, RSNA Pneumonia Challenge, SIIM-ACR Pneumothorax, VinDr-CXR",
        operating_points=UPSTREAM_POINTS,
        failures=(
            "Upstream ships no operating points for lung_lesion and enlarged_cardiomediastinum: both are scored, never"
            " called.",
            *FAILURES,
        ),
    ),
)


def build(name: str, settings: Settings) -> Model:
    """Load the ResNet-50."""
    import torch
    from torchvision.models import resnet50
    from torchxrayvision.models import model_urls

    device = choose(settings.models)
    known = model_urls["resnet50-res512-all"]
    upstream = weights.Upstream(state=read_state, targets=known["labels"], thresholds=thresholds(known["op_threshs"]))
    tensors, lock = weights.load(MODELS[0], settings, upstream)
    with torch.device("meta"):
        network: Any = resnet50(num_classes=len(lock.targets))
        network.conv1 = torch.nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    weights.fill(network, tensors, device)
    features = torch.nn.Sequential(*list(network.children())[:-2])  # all but the pool and the linear layer

    def score(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, maps = pooled_linear(features(pixels), network.fc.weight, network.fc.bias)
        return logits.sigmoid(), maps

    compute, info = on_backend(score, weights.identified(MODELS[0], lock), settings)
    return Classifier(info=info, score=compute, targets=targets_of(lock), device=device)
