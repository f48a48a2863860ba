"""Whether a picture as it hangs is a frontal chest the right way round: a network of a few hundred thousand operations.

It sees 64 x 64 pixels of the whole picture and answers one question for one way round. Whoever
wants to know how a picture is stored asks for all ways. How it was trained and how well it does:
``docs/models/content.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.infer.placement import square
from cxr_dicom.records import AS_DECLARED, Radiograph, Way

if TYPE_CHECKING:
    from torch import nn

WEIGHTS_FILE = "frontal.safetensors"
SIZE = 64
_SQUARE = 256  # of offline-anatomy, which has made it already


def scores(radiograph: Radiograph, ways: Iterable[Way] = (AS_DECLARED,)) -> Mapping[Way, float]:
    """Say of each way how much the picture looks like a frontal chest when it is taken to be stored so.

    Returns
    -------
    Mapping
        A logit for each way: above 0 more likely than not.
    """
    import torch

    ways = list(ways)
    picture = _small(radiograph)
    batch = np.stack([_as(picture, way) for way in ways])[:, None]
    with torch.inference_mode():
        logits = _load()(torch.from_numpy(batch)).tolist()
    return dict(zip(ways, logits, strict=True))


def _small(radiograph: Radiograph) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The picture in a square of `SIZE`, 0 to 1, and where of the square it lies."""
    from cxr_dicom.infer.offline.postprocess import normalise

    pixels, placement = square(radiograph, _SQUARE, "pad")
    inside = placement.inside(_SQUARE)
    picture, mask = np.zeros_like(pixels), np.zeros_like(pixels)
    picture[inside], mask[inside] = normalise(pixels[inside]), 1
    small, covered = (
        each.reshape(SIZE, _SQUARE // SIZE, SIZE, _SQUARE // SIZE).mean(axis=(1, 3)) for each in (picture, mask)
    )
    return small, covered


def _as(picture: tuple[NDArray[np.float32], NDArray[np.float32]], way: Way) -> NDArray[np.float32]:
    small, covered = picture
    return np.ascontiguousarray(way.turn.to_standard(covered - small if way.inverted else small))


@cache
def _load() -> nn.Module:
    """Build the network from the file in the package, once per process."""
    import safetensors.torch

    network = frontal_network()
    content = files("cxr_dicom.infer.offline").joinpath(WEIGHTS_FILE).read_bytes()
    tensors = {name: tensor.float() for name, tensor in safetensors.torch.load(content).items()}
    missing, unexpected = network.load_state_dict(tensors, strict=False)
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        raise ValueError(f"expected the weights of the content network, got others: {missing} {unexpected}")
    return network.eval()


def frontal_network() -> nn.Module:
    """Return the network without its weights: (N, 1, 64, 64) in [0, 1] to (N,) logits."""
    from torch import nn

    layers: list[nn.Module] = []
    before = 1
    for width, stride in ((12, 2), (24, 2), (40, 2), (64, 1), (80, 2)):
        layers += [nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(inplace=True)]
        before = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(before * 16, 1), nn.Flatten(0))
