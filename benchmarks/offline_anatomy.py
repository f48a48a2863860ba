"""The forward pass of ``chestx-det`` against that of ``offline-anatomy``: how much smaller the offline model is.

Neither time depends on the values of weights, so ``chestx-det`` has random ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib.resources import files
from time import process_time
from typing import Any

from benchmarks._harness import Plan, Row, in_turn, ratios


def measure(plan: Plan) -> Iterator[Row]:
    """Yield the row: processor time, one thread."""
    pairs = plan.apart(compare, plan.repeats, 64 if plan.is_quick else 512, threads=1)
    yield ratios("offline anatomy: time of a forward pass of chestx-det, against offline-anatomy", pairs)


def compare(repeats: int, size: int) -> list[tuple[float, float]]:
    """Measure pairs; a first one, which warms up, does not count."""
    from torchxrayvision.baseline_models.chestx_det.ptsemseg.pspnet import pspnet

    from cxr_dicom.infer.models import chestx_det, offline_anatomy
    from cxr_dicom.infer.offline.unet import load

    weights = files("cxr_dicom.infer.offline").joinpath(offline_anatomy.WEIGHTS_FILE).read_bytes()
    large = partial(spent, pspnet(len(chestx_det.STRUCTURES)).eval(), 3, size)
    small = partial(spent, load(weights), 1, offline_anatomy.INPUT_SIZE)
    return in_turn(large, small, repeats + 1)[1:]


def spent(network: Any, channels: int, size: int) -> float:
    """Processor time of one forward pass on a square of ``size`` pixels."""
    import torch

    pixels = torch.zeros(1, channels, size, size)
    with torch.inference_mode():
        start = process_time()
        network(pixels)
        return process_time() - start
