"""All 18 class activation maps of a DenseNet-121, in closed form as in ``run``, against 18 backward passes.

Grad-CAM as its libraries do it sends the gradient of each score through the whole network. A gradient
that stops at the last feature map is nearly as cheap as the closed form; that row has no goal.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks._harness import Plan, Row, in_turn, ratios, seconds

if TYPE_CHECKING:
    import torch


def measure(plan: Plan) -> Iterator[Row]:
    """Yield both rows; one thread."""
    side = 64 if plan.is_quick else 224
    both = [plan.apart(compare, plan.repeats, side, stop, threads=1) for stop in (False, True)]
    yield ratios("heatmaps: time of 18 backward passes, against the closed form", both[0], at_least=10)
    yield ratios("heatmaps: the same, where gradients stop at the last feature map", both[1])


def compare(repeats: int, side: int, stops_early: bool) -> list[tuple[float, float]]:
    """Measure pairs, from pixels to 18 maps each."""
    import torch
    from torchxrayvision.models import DenseNet

    torch.manual_seed(1)
    network, pixels = DenseNet(num_classes=18).eval(), torch.rand(1, 1, side, side)
    backward, closed = partial(by_backward, network, pixels, stops_early), partial(in_closed_form, network, pixels)
    if not torch.allclose(backward(), closed(), atol=1e-3):  # this warms up, too
        raise RuntimeError("expected the same maps in both ways, found others")
    return in_turn(lambda: seconds(backward)[0], lambda: seconds(closed)[0], repeats)


def in_closed_form(network: Any, pixels: torch.Tensor) -> torch.Tensor:
    """As `cxr_dicom.infer.models.xrv_densenet121` does."""
    import torch

    from cxr_dicom.infer.classifier import pooled_linear

    with torch.inference_mode():
        features = network.features(pixels).relu()
        _, maps = pooled_linear(features, network.classifier.weight, network.classifier.bias)
    return normal(maps)


def by_backward(network: Any, pixels: torch.Tensor, stops_early: bool) -> torch.Tensor:
    """Grad-CAM (Selvaraju et al. 2017), score by score."""
    import torch

    features = network.features(pixels).relu()
    scores, maps = network.classifier(features.mean((2, 3)))[0], []
    for score in scores:
        if stops_early:
            (gradient,) = torch.autograd.grad(score, features, retain_graph=True)
        else:
            gradient, *_ = torch.autograd.grad(
                score, [features, *network.parameters()], retain_graph=True, allow_unused=True
            )
        maps.append((gradient.mean((2, 3), keepdim=True) * features).sum(1)[0])
    return normal(torch.stack(maps).detach())


def normal(maps: torch.Tensor) -> torch.Tensor:
    """Divide the positive part of each map by its maximum."""
    positive = maps.relu()
    return positive / positive.amax((1, 2), keepdim=True).clamp(min=1e-30)
