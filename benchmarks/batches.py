"""Whether a network needs less for each image when it gets four at once: processor time, one thread."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from time import process_time
from typing import Any

from benchmarks._harness import Missing, Plan, Row, in_turn, ratios
from benchmarks.by_hand import GOALS, lacks

SHAPES = {"offline-anatomy": (1, 256, 256), "DenseNet-121": (1, 224, 224), "PSPNet": (3, 512, 512)}
BATCH = 4


def measure(plan: Plan) -> Iterator[Row]:
    """Yield a row for each network and backend."""
    for name in list(SHAPES)[: 1 if plan.is_quick else None]:
        for backend in GOALS:
            row = f"batches: time of {BATCH} images at once, against one by one, {name}, {backend}"
            why = lacks(backend)
            yield Missing(row, why) if why else ratios(row, plan.apart(compare, name, backend, plan.repeats, threads=1))


def compare(name: str, backend: str, repeats: int) -> list[tuple[float, float]]:
    """Measure pairs; a first one, which warms up, does not count. Speed does not depend on the values of weights."""
    import torch
    from torchxrayvision.baseline_models.chestx_det.ptsemseg.pspnet import pspnet
    from torchxrayvision.models import DenseNet

    from cxr_dicom.infer.offline.unet import CompactUNet

    makers = {"offline-anatomy": CompactUNet, "DenseNet-121": lambda: DenseNet().features, "PSPNet": pspnet}
    network, pixels = makers[name]().eval(), torch.rand(BATCH, *SHAPES[name])
    ways = [pixels.split(count) for count in (BATCH, 1)]
    with torch.inference_mode():
        return in_turn(*(partial(spent, on(backend, network, way[0].shape), way) for way in ways), repeats + 1)[1:]


def on(backend: str, network: Any, shape: tuple[int, ...]) -> Any:
    """Let OpenVINO compute as the package does, but of any shape."""
    if backend == "torch":
        return network
    from openvino import compile_model

    from cxr_dicom.infer.backend import PRECISION, _converted

    options = {"INFERENCE_PRECISION_HINT": PRECISION, "INFERENCE_NUM_THREADS": 1}
    model = compile_model(_converted(network, tuple(shape)), "CPU", options)
    return lambda pixels: model(pixels.numpy())


def spent(compute: Any, batches: Any) -> float:
    """Processor time of all batches, one after the other."""
    start = process_time()
    for pixels in batches:
        compute(pixels)
    return process_time() - start
