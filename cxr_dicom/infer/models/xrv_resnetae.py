"""``xrv-resnetae``: reconstruction error of the ResNet autoencoder of TorchXRayVision."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cxr_dicom.config import Settings
from cxr_dicom.infer import weights
from cxr_dicom.infer.autoencoder import Autoencoder
from cxr_dicom.infer.backend import on_backend
from cxr_dicom.infer.base import Model
from cxr_dicom.infer.device import choose
from cxr_dicom.infer.weights.pickles import read_state
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    import torch

_FILE = "nihpcrsnamimic_ch-resnet101-2-ae-test2-elastic-e250.pt"

MODELS = (
    ModelInfo(
        name="xrv-resnetae",
        version="1",
        title="Reconstruction error of an autoencoder, ResNet-101 trained on five public data sets",
        predicts=("reconstruction_error", "mean_reconstruction_error"),
        input_size=224,
        manufacturer="TorchXRayVision",
        licence="Apache-2.0",
        citation=(
            "Cohen et al. Gifsplanation via latent shift: a simple autoencoder approach to counterfactual generation "
            "for chest X-rays. MIDL 2021. https://arxiv.org/abs/2102.09475"
        ),
        weights_file=_FILE,
        weights_url=weights.RELEASE + _FILE,
        trained_on=(
            "NIH ChestX-ray14, PadChest, RSNA Pneumonia Challenge, MIMIC-CXR and CheXpert, as upstream says; its file"
            " name leaves out CheXpert"
        ),
        failures=(
            "A high error says that an image is unlike those that it was trained on, not that it is diseased.",
            "There is no threshold: compare within your own images.",
        ),
    ),
)


def build(name: str, settings: Settings) -> Model:
    """Load the autoencoder."""
    import torch
    from torchxrayvision.autoencoders import ResNetAE101

    device = choose(settings.models)
    tensors, lock = weights.load(MODELS[0], settings, weights.Upstream(state=read_state))
    with torch.device("meta"):
        network: Any = ResNetAE101()
    weights.fill(network, tensors, device)

    def redraw(pixels: torch.Tensor) -> torch.Tensor:
        drawn: torch.Tensor = network(pixels)["out"]
        return drawn

    compute, info = on_backend(redraw, weights.identified(MODELS[0], lock), settings)
    return Autoencoder(info=info, redraw=compute, device=device)
