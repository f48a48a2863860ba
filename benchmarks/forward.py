"""How far the forward passes are from the processor: operations a second of each network against a matrix product.

One thread, in one process, in turn. Operations are those of the network as its authors wrote it, so that a way that
needs fewer of them counts as a faster one; a multiplication and its addition are two.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import _networks
from benchmarks._harness import Missing, Plan, Ratio, Row
from benchmarks._ways import forward_of, place, settings, shape_of
from benchmarks.by_hand import GOALS, lacks

SIDE = 2048  # of the matrices


def measure(plan: Plan) -> Iterator[Row]:
    """Yield a row for each network and backend."""
    side = 128 if plan.is_quick else SIDE
    with place(plan) as ways:
        for backend in GOALS:
            why = lacks(backend) or plan.spares(backend)
            for name in ways.models:
                row = f"forward: GFLOP/s of {name}, {backend}, against a matrix product, 1 thread"
                if why:
                    yield Missing(row, why)
                    continue
                arguments = (str(ways.path), name, backend, side, plan.repeats)
                yield Ratio(row, tuple(plan.apart(shares, *arguments, threads=1)))


def shares(path: str, name: str, backend: str, side: int, repeats: int) -> list[float]:
    """Be the process that measures one network."""
    import torch

    from cxr_dicom.infer import build_models
    from cxr_dicom.system.loading import loading

    operations = _operations(path, name)
    with loading():
        (model,) = build_models(settings(path, [name], backend))
    forward, pixels = forward_of(model), torch.rand(shape_of(model))
    first, second = torch.rand(side, side), torch.rand(side, side)
    found = []
    with torch.inference_mode():
        forward(pixels)
        first @ second
        for _ in range(repeats):
            start = time.perf_counter()
            forward(pixels)
            middle = time.perf_counter()
            first @ second
            end = time.perf_counter()
            found.append(operations / (middle - start) / (2 * side**3 / (end - middle)))
    return found


def _operations(path: str, name: str) -> int:
    """Count what TorchXRayVision's own network does for one image."""
    import torch
    import torchxrayvision as xrv
    from torch.utils.flop_counter import FlopCounterMode

    weights = str(Path(path) / "weights")
    if name == _networks.SEGMENTER:
        network, pixels = xrv.baseline_models.chestx_det.PSPNet(cache_dir=weights).model, torch.zeros(1, 3, 512, 512)
    else:
        network = xrv.models.DenseNet(weights="densenet121-res224-all", cache_dir=weights)
        pixels = torch.linspace(-1024, 1024, 224 * 224).reshape(1, 1, 224, 224)  # its range, or it prints a warning
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(pixels)
    return int(counter.get_total_flops())
