"""``xrv-densenet121-*``: the DenseNet-121 classifiers of TorchXRayVision, one for each training set."""

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

_FILE = "{}-densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"
_CITATION = (
    "Cohen et al. TorchXRayVision: A library of chest X-ray datasets and models. MIDL 2022. "
    "https://arxiv.org/abs/2111.00595; Cohen et al. On the limits of cross-domain generalization in automated X-ray "
    "prediction. MIDL 2020. https://arxiv.org/abs/2002.02497"
)

_ALL = tuple(FINDINGS)
_NIH = _ALL[:14]
_CHEXPERT = (
    "Atelectasis",
    "Consolidation",
    "Pneumothorax",
    "Edema",
    "Effusion",
    "Pneumonia",
    "Cardiomegaly",
    "Lung Lesion",
    "Fracture",
    "Lung Opacity",
    "Enlarged Cardiomediastinum",
)

_TRAINED_ON = {  # name here: (words of the file name, training set, labels)
    "all": ("nih-pc-chex-mimic_ch-google-openi-kaggle", "seven public data sets", _ALL),  # named in `_ALL_SETS`
    "nih": ("nih", "NIH ChestX-ray14", _NIH),
    "pc": ("pc", "PadChest", (*_NIH, "Fracture")),
    "chex": ("chex", "CheXpert", _CHEXPERT),
    "mimic_nb": ("mimic_nb", "MIMIC-CXR, NegBio labels", _CHEXPERT),
    "mimic_ch": ("mimic_ch", "MIMIC-CXR, CheXpert labels", _CHEXPERT),
    "rsna": ("kaggle", "RSNA Pneumonia Challenge", ("Pneumonia", "Lung Opacity")),
}

_ALL_SETS = (
    "NIH ChestX-ray14, PadChest, CheXpert, MIMIC-CXR with CheXpert labels, Google's labels of NIH images, OpenI, and"
    " the RSNA Pneumonia Challenge"
)
_PREFIX = "xrv-densenet121-"

MODELS = tuple(
    ModelInfo(
        name=_PREFIX + key,
        version="1",
        title=f"{len(labels)} findings, DenseNet-121 trained on {data}",
        predicts=names(*labels),
        input_size=224,
        manufacturer="TorchXRayVision",
        licence="Apache-2.0",
        citation=_CITATION,
        weights_file=_FILE.format(words),
        weights_url=weights.RELEASE + _FILE.format(words),
        trained_on=_ALL_SETS if key == "all" else data,
        operating_points=UPSTREAM_POINTS,
        failures=FAILURES[:2] if key == "rsna" else FAILURES,  # radiologists labelled that set
    )
    for key, (words, data, labels) in _TRAINED_ON.items()
)


def build(name: str, settings: Settings) -> Model:
    """Load the weights of the training set that ``name`` ends with."""
    import torch
    from torchxrayvision.models import DenseNet, model_urls

    info = next(info for info in MODELS if info.name == name)
    device = choose(settings.models)
    known = model_urls["densenet121-res224-" + name.removeprefix(_PREFIX)]
    upstream = weights.Upstream(state=read_state, targets=known["labels"], thresholds=thresholds(known["op_threshs"]))
    tensors, lock = weights.load(info, settings, upstream)
    with torch.device("meta"):
        network: Any = DenseNet(num_classes=len(lock.targets))
    weights.fill(network, tensors, device)

    def score(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = network.features(pixels).relu()
        logits, maps = pooled_linear(features, network.classifier.weight, network.classifier.bias)
        return logits.sigmoid(), maps

    compute, info = on_backend(score, weights.identified(info, lock), settings)
    return Classifier(info=info, score=compute, targets=targets_of(lock), device=device)
