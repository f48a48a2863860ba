"""Random weights in the file formats of TorchXRayVision, and the forward passes under a clock.

Speed does not depend on the values of weights, as long as no number is denormal and scores differ:
batch normalisation gets the statistics that a synthetic chest has in each network.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cxr_dicom import synthetic

CLASSIFIER, SEGMENTER = "xrv-densenet121-all", "chestx-det"
MODELS = (CLASSIFIER, SEGMENTER)


def write(folder: str, models: Sequence[str]) -> None:
    """Write weights where TorchXRayVision would have put them."""
    import torch
    import torchxrayvision as xrv
    from torchxrayvision.baseline_models.chestx_det.ptsemseg.pspnet import pspnet

    from cxr_dicom.infer import model_infos

    torch.manual_seed(1)
    Path(folder).mkdir()
    files = {name: Path(folder) / str(model_infos()[name].weights_file) for name in models}
    chest = torch.from_numpy(synthetic.frontal_chest(96, 96))[None, None].repeat(2, 1, 1, 1)
    classifier = settled(xrv.models.DenseNet(num_classes=18), chest * 2048 - 1024)
    torch.save(classifier, files[CLASSIFIER], _use_new_zipfile_serialization=False)
    if SEGMENTER in models:
        segmenter = settled(pspnet(14), chest.repeat(1, 3, 1, 1) * 4 - 2)
        torch.save({f"module.{key}": value for key, value in segmenter.state_dict().items()}, files[SEGMENTER])


def settled(network: Any, pixels: Any) -> Any:
    """Give batch normalisation the statistics of these pixels."""
    import torch

    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
    with torch.no_grad():
        network.train()(pixels)
    return network.eval()


# Centre and half axes (row, column) of the structures of chestx-det in its order, on a square of side 1.
_ELLIPSES = (
    *((0.17, 0.68, 0.02, 0.15), (0.17, 0.32, 0.02, 0.15)),  # clavicles, left first
    *((0.30, 0.88, 0.15, 0.08), (0.30, 0.12, 0.15, 0.08)),  # scapulae
    *((0.47, 0.70, 0.33, 0.14), (0.47, 0.30, 0.33, 0.15)),  # lungs
    *((0.43, 0.60, 0.06, 0.04), (0.43, 0.41, 0.06, 0.04)),  # hila
    *((0.62, 0.56, 0.16, 0.15), (0.38, 0.55, 0.11, 0.05), (0.78, 0.50, 0.05, 0.36)),  # heart, aorta, diaphragm
    *((0.45, 0.51, 0.32, 0.09), (0.22, 0.50, 0.20, 0.02), (0.50, 0.50, 0.48, 0.04)),  # mediastinum, oesophagus, spine
)


def anatomy(side: int) -> Any:
    """Logits (1, 14, side, side) of plausible structures: those of random weights are blobs all over the picture."""
    import torch

    along = (torch.arange(side) + 0.5) / side
    row, column = along[:, None], along[None]
    planes = [8 - 8 * (((row - y) / b) ** 2 + ((column - x) / a) ** 2).sqrt() for y, x, b, a in _ELLIPSES]
    return torch.stack(planes)[None]


def one_map() -> Any:
    """Probabilities (18) below every operating point, and maps: random weights call most present, each with its map."""
    import torch

    return torch.full((18,), 1e-3), torch.rand(18, 7, 7)


class Clocked:
    """A forward pass that adds up the processor seconds of its thread; right for one thread of PyTorch.

    Parameters
    ----------
    instead
        What is given back instead of the result.
    """

    spent = 0.0  # by all of them

    def __init__(self, forward: Callable[..., Any], instead: Any = None) -> None:
        self._forward = forward
        self._instead = instead

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Do the forward pass."""
        start = time.thread_time()
        result = self._forward(*arguments, **options)
        Clocked.spent += time.thread_time() - start
        return result if self._instead is None else self._instead
