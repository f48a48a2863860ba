"""``jfhealthcare``: five findings by the DenseNet-121 of JF Healthcare at 512 x 512."""

from __future__ import annotations

import json
from importlib.resources import files
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cxr_dicom.config import Settings
from cxr_dicom.infer import weights
from cxr_dicom.infer.backend import on_backend
from cxr_dicom.infer.base import Model
from cxr_dicom.infer.classifier import FAILURES, Classifier, targets_of
from cxr_dicom.infer.device import choose
from cxr_dicom.infer.findings import names
from cxr_dicom.infer.weights.pickles import read_state
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    import torch

_FILE = "baseline_models_jfhealthcare-DenseNet121_pre_train.pth"
_LABELS = ("Cardiomegaly", "Edema", "Consolidation", "Atelectasis", "Effusion")
_GREY_SCALE = 512  # the network was trained on -2 to 2

MODELS = (
    ModelInfo(
        name="jfhealthcare",
        version="1",
        title="5 findings, DenseNet-121 with attention trained on CheXpert; no operating points",
        predicts=names(*_LABELS),
        input_size=512,
        manufacturer="JF Healthcare",
        licence="Apache-2.0",
        citation=(
            "Ye et al. Weakly supervised lesion localization with probabilistic-CAM pooling. "
            "https://arxiv.org/abs/2005.14480"
        ),
        weights_file=_FILE,
        weights_url=weights.RELEASE + _FILE,
        trained_on="CheXpert",
        failures=FAILURES,
    ),
)


def build(name: str, settings: Settings) -> Model:
    """Load the network."""
    import torch
    from torchxrayvision.baseline_models.jfhealthcare.model.classifier import Classifier as Network

    device = choose(settings.models)
    upstream = weights.Upstream(state=read_state, targets=_LABELS, thresholds=[None] * len(_LABELS))
    tensors, lock = weights.load(MODELS[0], settings, upstream)
    with torch.device("meta"):
        network: Any = Network(_configuration())
    weights.fill(network, tensors, device)

    def score(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = network.backbone((pixels / _GREY_SCALE).repeat(1, 3, 1, 1))
        logits, maps = [], []
        for index in range(len(_LABELS)):
            features = network.attention_map(features)  # once more for each finding, as upstream does
            logit, activation = head(features, getattr(network, f"bn_{index}"), getattr(network, f"fc_{index}"))
            logits.append(logit)
            maps.append(activation)
        return torch.stack(logits).sigmoid(), torch.stack(maps)

    compute, info = on_backend(score, weights.identified(MODELS[0], lock), settings)
    return Classifier(info=info, score=compute, targets=targets_of(lock), device=device)


def head(features: torch.Tensor, norm: torch.nn.BatchNorm2d, linear: torch.nn.Conv2d) -> tuple[Any, torch.Tensor]:
    """Logit of one finding, and what each place adds to it.

    The head takes the average and the maximum of each channel, normalises and weighs them. Both are
    sums over places: an average takes all alike, a maximum takes the place where it is. So the mean
    of the map is the logit, less a constant of the head.

    Parameters
    ----------
    features
        (1, channels, rows, columns).
    norm, linear
        Of 2 x channels; one output.

    Returns
    -------
    tuple
        Scalar logit and (rows, columns) map.
    """
    import torch

    average, maximum = features.mean(dim=(2, 3), keepdim=True), features.amax(dim=(2, 3), keepdim=True)
    logit = linear(norm(torch.cat((average, maximum), dim=1))).squeeze()
    assert norm.running_var is not None  # noqa: S101  the norm of a trained network has it
    weight = linear.weight[0, :, 0, 0] * norm.weight / (norm.running_var + norm.eps).sqrt()
    of_average, of_maximum = weight.chunk(2)
    places = features[0].flatten(1)
    everywhere = of_average @ places
    is_peak = (places == maximum.flatten()[:, None]).to(places.dtype)
    peaks = (of_maximum * maximum.flatten() / is_peak.sum(dim=1)) @ is_peak
    return logit, (everywhere + peaks * places.shape[1]).view(features.shape[2:])


def _configuration() -> SimpleNamespace:
    """Upstream's own; but ``pretrained`` would fetch other weights first."""
    text = files("torchxrayvision.baseline_models.jfhealthcare").joinpath("config/example.json").read_text()
    return SimpleNamespace(**{**json.loads(text), "pretrained": False})
