"""The network of `offline-anatomy`: a U-Net small enough to ship in the package."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

LABELS = ("right_lung", "left_lung", "heart")


class CompactUNet(nn.Module):
    """U-Net whose heavy work runs at half the input's resolution and below.

    Parameters
    ----------
    widths : sequence of int
        Channels of each level, from half resolution downwards; every level
        halves the resolution of the one before.
    stem : int
        Channels kept at full resolution for sharp borders.
    labels : int
        Output channels, each an independent logit.

    Notes
    -----
    The input is (N, 1, S, S) float32 in [0, 1] (see
    `cxr_dicom.infer.offline.postprocess.normalise`), S a multiple of
    ``2 ** len(widths)``; the output is (N, labels, S, S).
    """

    def __init__(self, widths: Sequence[int] = (24, 40, 64, 96, 128), stem: int = 8, labels: int = 3) -> None:
        super().__init__()
        self.arguments = {"widths": list(widths), "stem": stem, "labels": labels}
        self.input_size = 256  # edge in pixels that the weights were trained at
        self.stem = _convolution(1, stem)
        before = [stem, *widths[:-1]]
        self.down = nn.ModuleList(
            nn.Sequential(_convolution(a, b, stride=2), _Residual(b)) for a, b in zip(before, widths, strict=True)
        )
        pairs = list(itertools.pairwise(widths))
        self.up = nn.ModuleList(nn.Sequential(_convolution(a + b, a), _convolution(a, a)) for a, b in reversed(pairs))
        self.fuse = _convolution(widths[0] + stem, 2 * stem)
        self.head = nn.Conv2d(2 * stem, labels, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (N, labels, S, S) of images (N, 1, S, S)."""
        full = self.stem(image)
        levels = []
        features = full
        for stage in self.down:
            features = stage(features)
            levels.append(features)
        for stage, skipped in zip(self.up, reversed(levels[:-1]), strict=True):
            features = stage(torch.cat([_twice(features), skipped], dim=1))
        logits: torch.Tensor = self.head(self.fuse(torch.cat([_twice(features), full], dim=1)))
        return logits


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_convolution(width, width), _convolution(width, width))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + cast(torch.Tensor, self.body(features))


def _convolution(inward: int, outward: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inward, outward, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outward),
        nn.ReLU(inplace=True),
    )


def _twice(features: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)


def load(content: bytes) -> CompactUNet:
    """Build the network that a weights file describes, ready for inference.

    Parameters
    ----------
    content : bytes
        A safetensors file: half-precision tensors, and metadata with the
        constructor's arguments and the input size the network was trained at.

    Returns
    -------
    CompactUNet
        In evaluation mode, float32.
    """
    (length,) = struct.unpack("<Q", content[:8])
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    network = CompactUNet(**json.loads(metadata["architecture"]))
    network.input_size = int(metadata["input_size"])
    tensors = {name: tensor.float() for name, tensor in safetensors.torch.load(content).items()}
    # BatchNorm counts its steps for training only; the file leaves the counters out.
    missing, unexpected = network.load_state_dict(tensors, strict=False)
    if unexpected or any(not name.endswith("num_batches_tracked") for name in missing):
        raise ValueError(f"expected the weights of {metadata['architecture']}, got others: {missing} {unexpected}")
    return network.eval()


def predict(network: CompactUNet, image: NDArray[Any]) -> NDArray[np.float32]:
    """Probabilities of right lung, left lung and heart.

    Parameters
    ----------
    network : CompactUNet
        In evaluation mode, on any device.
    image : ndarray
        (S, S) float32 in [0, 1], bright is dense, from
        `cxr_dicom.infer.offline.postprocess.normalise`; padded to the square
        with 0.

    Returns
    -------
    ndarray
        (3, S, S) float32 in [0, 1], in the order of `LABELS`.
    """
    device = next(network.parameters()).device
    seen = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None, None].to(device)
    with torch.inference_mode():
        fitted = _resize(seen, network.input_size)
        probabilities = _resize(network(fitted).sigmoid(), len(image))[0].float().cpu()
    return cast(NDArray[np.float32], probabilities.numpy())


def _resize(images: torch.Tensor, size: int) -> torch.Tensor:
    if images.shape[-1] == size:
        return images
    return functional.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
