"""``chexpert``: five findings by the ensemble of the CheXpert authors, 30 DenseNet-121 for each.

The file is not served by HTTP: it is fetched as a torrent and put in its place by hand.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_dicom.config import Settings
from cxr_dicom.errors import WeightsError
from cxr_dicom.infer import weights
from cxr_dicom.infer.backend import on_backend
from cxr_dicom.infer.base import Model
from cxr_dicom.infer.classifier import FAILURES, Classifier, pooled_linear, targets_of
from cxr_dicom.infer.device import choose, prefer_onednn
from cxr_dicom.infer.findings import names
from cxr_dicom.infer.weights.pickles import read, state_of
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    import torch

MEMBERS = 30  # networks for each finding
_LABELS = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion")
_TASKS = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")  # upstream's own words
_GREY_SCALE = 512  # the networks were trained on -2 to 2
_NEGATIVE, _POSITIVE = 1, 2  # outputs of a network with three classes; 0 is "not mentioned"

MODELS = (
    ModelInfo(
        name="chexpert",
        version="1",
        title="5 findings, ensemble of DenseNet-121 trained on CheXpert; no operating points",
        predicts=names(*_LABELS),
        input_size=320,
        manufacturer="Stanford University",
        licence="Stanford University School of Medicine CheXpert research use agreement",
        citation=(
            "Irvin et al. CheXpert: A large chest radiograph dataset with uncertainty labels and expert comparison. "
            "AAAI 2019. https://arxiv.org/abs/1901.07031"
        ),
        weights_file="chexpert_weights.zip",
        weights_url="https://academictorrents.com/details/5c7ee21e6770308f2d2b4bd829e896dbd9d3ee87",
        trained_on="CheXpert",
        failures=FAILURES,
    ),
)


def build(name: str, settings: Settings) -> Model:
    """Load the ensemble: one network, into which the tensors of each member go in turn."""
    import torch
    from torchvision.models import densenet121

    device = choose(settings.models)
    upstream = weights.Upstream(
        state=lambda path: dict(_tensors(path)), targets=_LABELS, thresholds=[None] * len(_LABELS)
    )
    tensors, lock = weights.load(MODELS[0], settings, upstream)
    with torch.device("meta"):
        backbone = densenet121().features.eval()
    prefer_onednn(backbone, device)
    members: dict[str, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        member, _, parameter = key.partition(":")
        members.setdefault(member, {})[parameter] = tensor.to(device)

    def score(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return score_ensemble(backbone, members, (pixels / _GREY_SCALE).repeat(1, 3, 1, 1))

    compute, info = on_backend(score, weights.identified(MODELS[0], lock), settings)
    return Classifier(info=info, score=compute, targets=targets_of(lock), device=device)


def score_ensemble(
    backbone: torch.nn.Module, members: dict[str, dict[str, torch.Tensor]], pixels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean probability and mean activation map of each finding over the networks that score it."""
    import torch
    from torch.func import functional_call

    probabilities: dict[str, list[torch.Tensor]] = {task: [] for task in _TASKS}
    activations: dict[str, list[torch.Tensor]] = {task: [] for task in _TASKS}
    for member, tensors in members.items():
        parameters = {key: tensor for key, tensor in tensors.items() if not key.startswith("classifier.")}
        features = functional_call(backbone, parameters, (pixels,)).relu()
        logits, maps = pooled_linear(features, tensors["classifier.weight"], tensors["classifier.bias"])
        for task, logit, activation in zip(member.split("/")[0].split(","), logits, maps, strict=True):
            probabilities[task].append(logit.sigmoid())
            activations[task].append(activation)
    return (
        torch.stack([torch.stack(probabilities[task]).mean(dim=0) for task in _TASKS]),
        torch.stack([torch.stack(activations[task]).mean(dim=0) for task in _TASKS]),
    )


def _tensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of all members as ``TASK,TASK/NUMBER:PARAMETER``."""
    try:
        with zipfile.ZipFile(path) as archive:
            for tasks, checkpoints in _groups().items():
                for number, checkpoint in enumerate(checkpoints[:MEMBERS]):
                    for parameter, tensor in _member(archive, checkpoint, tasks):
                        yield f"{','.join(tasks)}/{number}:{parameter}", tensor
    except (zipfile.BadZipFile, KeyError, IndexError, TypeError, OSError) as error:
        raise WeightsError(
            f"{path}: expected a zip with the {MEMBERS} checkpoints of each finding, found a damaged or other one "
            f"({error}); delete it and fetch it again from {MODELS[0].weights_url}"
        ) from error


def _groups() -> dict[tuple[str, ...], list[tuple[str, bool]]]:
    """Checkpoints (name, has three classes) by the tasks that share them, as upstream lists them."""
    text = files("torchxrayvision.baseline_models.chexpert").joinpath("predict_configs.json").read_text()
    groups: dict[tuple[tuple[str, bool], ...], list[str]] = {}
    for task, checkpoints in json.loads(text)["task2models"].items():
        groups.setdefault(tuple((item["ckpt_path"], item["is_3class"]) for item in checkpoints), []).append(task)
    return {tuple(tasks): list(checkpoints) for checkpoints, tasks in groups.items()}


def _member(
    archive: zipfile.ZipFile, checkpoint: tuple[str, bool], tasks: tuple[str, ...]
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of one network, of its linear layer only the rows of its ``tasks``.

    The probability of a network with three classes is the softmax of positive over negative: the
    sigmoid of their difference, which a linear layer with one row says as well.
    """
    import torch

    name, has_three_classes = checkpoint
    content: Any = read(BytesIO(archive.read(name)), name)
    state = {key.removeprefix("module.model."): tensor for key, tensor in state_of(content).items()}
    rows = torch.tensor([content["task_sequence"][task] for task in tasks])
    for key in ("classifier.weight", "classifier.bias"):
        layer = state.pop(key)
        yield key, layer[3 * rows + _POSITIVE] - layer[3 * rows + _NEGATIVE] if has_three_classes else layer[rows]
    for key, tensor in state.items():
        yield key.removeprefix("features."), tensor
