"""What comes of one radiograph on this process's instruction set: ``python -m tests.instruction_set FOLDER``."""

import hashlib
import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from cxr_dicom import synthetic
from cxr_dicom.config import Settings
from cxr_dicom.encode.common import write
from cxr_dicom.infer import build_models
from cxr_dicom.infer.classifier import Classifier, Target, pooled_linear
from cxr_dicom.infer.findings import FINDINGS
from cxr_dicom.ingest.folder import scan
from cxr_dicom.pipeline import Pipeline, encode
from tests.painted import model

SETTINGS = Settings.model_validate(
    {
        "models": {"names": ("offline-anatomy", "lung-opacity"), "device": "cpu"},
        "encode": {"objects": ("seg", "sr", "parametric-map", "presentation-state")},
    }
)
_SEED = 33  # with which no score and no cell of a map stands next to a limit of rounding
_CHANNELS = (1, 32, 64, 128, 128)


def network():
    """A classifier of four layers whose weights are the same on every machine."""
    random = np.random.default_rng(_SEED)

    def tensor(*shape):
        fan = np.prod(shape[1:])
        return torch.from_numpy((random.standard_normal(shape) * (2 / fan) ** 0.5).astype(np.float32))

    kernels = [tensor(many, few, 3, 3) for few, many in itertools.pairwise(_CHANNELS)]
    names = list(FINDINGS)[:12]
    weight, bias = tensor(len(names), _CHANNELS[-1]), torch.zeros(len(names))

    def score(pixels):
        features = pixels / 1024
        for kernel in kernels:
            features = functional.max_pool2d(functional.conv2d(features, kernel, padding=1).relu(), 2)
        logits, maps = pooled_linear(functional.avg_pool2d(features, 2), weight, bias)
        return logits.sigmoid(), maps

    targets = tuple(Target(finding=FINDINGS[name], threshold=0.5) for name in names)
    return Classifier(info=replace(model("small"), input_size=224), score=score, targets=targets, device="cpu")


def outcome(folder):
    """Return the scores, and the digest of each object by its name, which has its UID."""
    synthetic.write_study(folder / "in", [synthetic.radiograph(512, 448, seed=3)])
    (study,), _ = scan([folder / "in"])
    pipeline = Pipeline(SETTINGS, models=[*build_models(SETTINGS), network()])
    found = pipeline.analyse(study)
    scores = [finding.raw for prediction in found.images[0].predictions for finding in prediction.findings]
    paths = [write(encoded, folder).path for encoded in encode(found, pipeline.encoders)]
    objects = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    return {"scores": scores, "objects": objects}


if __name__ == "__main__":
    print(json.dumps(outcome(Path(sys.argv[1]))))
