"""``chestx-det``: 14 structures by the PSPNet that was trained on ChestX-Det."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_dicom.config import Settings
from cxr_dicom.dicom.codes import HEART, LUNG, SPINE
from cxr_dicom.infer import weights
from cxr_dicom.infer.backend import on_backend
from cxr_dicom.infer.base import Model
from cxr_dicom.infer.device import choose
from cxr_dicom.infer.pspnet import logits
from cxr_dicom.infer.segmenter import Segmenter
from cxr_dicom.infer.structures import snomed, structure
from cxr_dicom.infer.weights.pickles import read_state
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    import torch

_CLAVICLE = snomed("51299004", "Clavicle")
_SCAPULA = snomed("79601000", "Scapula")
_HILUM = snomed("46750007", "Hilum of lung")

STRUCTURES = (  # in the order of the network's outputs
    structure("left_clavicle", _CLAVICLE),
    structure("right_clavicle", _CLAVICLE),
    structure("left_scapula", _SCAPULA),
    structure("right_scapula", _SCAPULA),
    structure("left_lung", LUNG),
    structure("right_lung", LUNG),
    structure("left_hilum", _HILUM),
    structure("right_hilum", _HILUM),
    structure("heart", HEART),
    structure("aorta", snomed("15825003", "Aorta")),
    structure("diaphragm", snomed("5798000", "Diaphragm")),
    structure("mediastinum", snomed("72410000", "Mediastinum")),
    structure("esophagus", snomed("32849002", "Esophagus")),
    structure("spine", SPINE),
)

_FILE = "pspnet_chestxray_best_model_4.pth"

MODELS = (
    ModelInfo(
        name="chestx-det",
        version="1",
        title="14 structures, PSPNet trained on ChestX-Det",
        predicts=tuple(item.name for item in STRUCTURES),
        input_size=512,
        manufacturer="Deepwise AI Lab",
        licence="not stated by its authors",
        citation=(
            "Lian et al. A structure-aware relation network for thoracic diseases detection and segmentation. "
            "IEEE Transactions on Medical Imaging 2021. https://arxiv.org/abs/2104.10326"
        ),
        weights_file=_FILE,
        weights_url=weights.RELEASE + _FILE,
        trained_on="ChestX-Det: radiographs of NIH ChestX-ray14",
        failures=(
            "It sees the square in the middle of an image: structures outside of it are cut off.",
            "Accuracy on patients was not measured by this project: see the paper.",
        ),
    ),
)


def build(name: str, settings: Settings) -> Model:
    """Load the PSPNet."""
    import torch
    from torchxrayvision.baseline_models.chestx_det.ptsemseg.pspnet import pspnet

    from cxr_dicom.infer.winograd import lighten

    device = choose(settings.models)
    upstream = weights.Upstream(state=_tensors, targets=MODELS[0].predicts)
    tensors, lock = weights.load(MODELS[0], settings, upstream)
    with torch.device("meta"):
        network = pspnet(len(STRUCTURES))
    weights.fill(network, tensors, device)
    lighten(network)
    compute, info = on_backend(partial(logits, network), weights.identified(MODELS[0], lock), settings, channels=3)
    return Segmenter(info=info, network=compute, structures=STRUCTURES, device=device)


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a state dict that went through ``DataParallel``."""
    return {key.removeprefix("module."): tensor for key, tensor in read_state(path).items()}
