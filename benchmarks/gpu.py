"""What a GPU is worth, and what holds it up; ten minutes. Without one, the CPU goes through the same code.

Forward passes by batch, precision and CUDA graphs, against one image at a time in float32, with how far they move
the answer; reading alone, by processes; ``run`` by workers, against one worker, against what is left without the
networks, and with how busy the GPU is and how much of its memory is taken; the same with one process that has the
networks, and fills batches from all workers.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import _networks
from benchmarks._harness import Missing, Plan, Ratio, Row, in_turn, ratios
from benchmarks._ways import PaintedTask, Place, images_per_second, place, settings
from cxr_dicom.cohort.engines.local import cores
from cxr_dicom.cohort.task import EntryTask

SIZES = {"DenseNet-121": (1, 224, 224), "PSPNet": (3, 512, 512)}
BATCHES = (1, 4, 16, 64)
PRECISIONS = ("float32", "TF32", "bfloat16")
MOST_WORKERS = 16
SHARED = 8  # images in a batch of the process that all workers ask
IMAGES = 6  # for each worker


def measure(plan: Plan) -> Iterator[Row]:
    """Yield the rows, for the first device that ``auto`` would take."""
    device = plan.apart(device_here)
    for name in list(SIZES)[: 1 if plan.is_quick else None]:
        for way in ways(plan.is_quick):
            row = f"gpu: {name}, {way}"
            if way.needs_cuda and device == "cpu":
                yield Missing(row, "there is no GPU")
                continue
            speed, moved = plan.apart(forward, name, device, *way.arguments, plan.repeats)
            yield Ratio(f"{row}: images/s, against batches of 1 in float32", tuple(speed))
            if (device, way.precision) != ("cpu", "float32"):
                yield Ratio(f"{row}: greatest move from the CPU's answer, against its deviation", tuple(moved))
    counts = [1] if plan.is_quick else [1 << n for n in range(5) if 1 << n <= min(cores(), MOST_WORKERS)]
    with place(plan, count=IMAGES * counts[-1]) as images:
        for count in counts[1:]:
            pairs = in_turn(partial(reading, images, count), partial(reading, images, 1), plan.repeats)
            yield ratios(f"gpu: reading alone, images/s of {count} processes, against one", pairs)
        yield from runs(plan, images, device, counts)


def runs(plan: Plan, images: Place, device: str, counts: Sequence[int]) -> Iterator[Row]:
    """Yield the rows of ``run``: each number of workers against one, and the best against no networks at all.

    With the networks in each worker, and in one process that all workers ask.
    """
    busy: dict[str, GpuUse] = {}
    shared = 2 if plan.is_quick else SHARED

    def run(workers: int, task: type[EntryTask] = PaintedTask, batch: int = 1) -> float:
        chosen = settings(str(images.path), images.models, "torch", device, batch)
        with watched(device) as used:
            found = images_per_second(str(images.path), images.models, chosen, workers, task)
        if task is PaintedTask:
            busy[f"{workers} workers{f', batches of {batch}' if batch > 1 else ''}"] = used
        return found

    for count in counts[1:]:
        yield ratios(
            f"gpu: run, images/s of {count} workers, against one",
            in_turn(partial(run, count), partial(run, 1), plan.repeats),
        )
    most = counts[-1]
    pairs = in_turn(partial(run, most), partial(run, most, WithoutNetworks), plan.repeats)
    yield ratios(f"gpu: run, images/s of {most} workers, against the same without networks", pairs, at_least=0.9)
    together = partial(run, most, PaintedTask, shared)
    row = f"gpu: run, images/s of {most} workers and one process with the networks, batches of {shared}"
    pairs = in_turn(together, partial(run, most), plan.repeats)
    yield ratios(f"{row}, against networks in each worker", pairs)
    pairs = in_turn(together, partial(run, most, WithoutNetworks), plan.repeats)
    yield ratios(f"{row}, against the same without networks", pairs, at_least=0.9)
    for way, used in busy.items():
        for what, value in (("time at work", used.at_work), ("memory taken", used.memory)):
            row = f"gpu: run with {way}, share of the GPU's {what}"
            yield Missing(row, "there is no GPU") if value is None else Ratio(row, (value,))


# --- forward passes ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """How forward passes are made."""

    batch: int
    precision: str
    with_graph: bool

    @property
    def needs_cuda(self) -> bool:
        """Whether the CPU cannot do it."""
        return self.with_graph or self.precision == "TF32"

    @property
    def arguments(self) -> tuple[int, str, bool]:
        """What travels to the process that measures."""
        return self.batch, self.precision, self.with_graph

    def __str__(self) -> str:
        return f"batches of {self.batch}, {self.precision}{', CUDA graph' if self.with_graph else ''}"


def ways(is_quick: bool) -> Iterator[Way]:
    """Yield all; of a quick run only some."""
    for precision in PRECISIONS:
        for batch in BATCHES[:1] if is_quick else BATCHES:
            yield from (Way(batch, precision, with_graph) for with_graph in (False, True))


def device_here() -> str:
    """Be the process that looks which device there is; it then has it no longer."""
    from cxr_dicom.config import ModelSettings
    from cxr_dicom.infer.device import choose

    return choose(ModelSettings())


def forward(
    name: str, device: str, batch: int, precision: str, with_graph: bool, repeats: int
) -> tuple[list[float], list[float]]:
    """Be the process that measures one way: images per second against batches of 1 in float32; how far answers move."""
    import torch

    torch.manual_seed(1)
    network, pixels = _network(name), torch.rand(batch, *SIZES[name])
    with torch.inference_mode():
        expected = network(pixels[:1])
        network, pixels = network.to(device), pixels.to(device)
        plain, one = _timed(network, device), pixels[:1].clone()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "TF32"
        enabled = precision == "bfloat16"
        with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=enabled):
            compute = _graphed(network, pixels) if with_graph else network
            moved = (compute(pixels)[:1].float().cpu() - expected).abs().max() / expected.std()
            fast = _timed(compute, device)
            speed = []
            for _ in range(repeats + 1):
                of_batch = fast(pixels)
                with torch.autocast(device.partition(":")[0], enabled=False):
                    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
                    of_one = plain(one)
                torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "TF32"
                speed.append(batch * of_one / of_batch)
    return speed[1:], [float(moved)]


def _network(name: str) -> Any:
    """Make a network with random weights, and the statistics of a chest, in evaluation mode."""
    import torch
    from torchxrayvision.baseline_models.chestx_det.ptsemseg.pspnet import pspnet
    from torchxrayvision.models import DenseNet

    from cxr_dicom import synthetic

    chest = torch.from_numpy(synthetic.frontal_chest(96, 96))[None, None].repeat(2, 1, 1, 1)
    if name == "PSPNet":
        return _networks.settled(pspnet(14), chest.repeat(1, 3, 1, 1) * 4 - 2)
    return _networks.settled(DenseNet(num_classes=18).features, chest * 2048 - 1024)


def _timed(compute: Callable[[Any], Any], device: str) -> Callable[[Any], float]:
    """Time a pass until the device has its answer."""
    import torch

    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None

    def seconds(pixels: Any) -> float:
        wait()
        start = time.perf_counter()
        compute(pixels)
        wait()
        return time.perf_counter() - start

    return seconds


def _graphed(network: Any, pixels: Any) -> Callable[[Any], Any]:
    """Record the kernels of a pass once, to be started by one call; see `torch.cuda.CUDAGraph`."""
    import torch

    given, aside = pixels.clone(), torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            network(given)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = network(given)

    def replay(fed: Any) -> Any:
        given.copy_(fed)
        graph.replay()
        return found

    return replay


# --- reading, and all but the networks -----------------------------------------------------------


def reading(images: Place, processes: int) -> float:
    """Images per second that so many processes decode and bring into the standard view."""
    paths = sorted(map(str, (images.path / "images").iterdir())) * (1 if images.plan.is_quick else 4)
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        list(pool.map(_read, paths[:1] * processes))  # imports are not timed
        start = time.perf_counter()
        list(pool.map(_read, paths))
        return len(paths) / (time.perf_counter() - start)


def _read(path: str) -> None:
    from cxr_dicom.config import PixelSettings, SelectSettings
    from cxr_dicom.dicom.pixels import read
    from cxr_dicom.ingest.folder import scan
    from cxr_dicom.select import select

    (study,), _ = scan([Path(path)])
    (image,) = select(study, SelectSettings()).images
    read(image, PixelSettings())


class WithoutNetworks(EntryTask):
    """The task of a worker whose networks answer at once: what decoding and encoding allow."""

    @cached_property
    def _tools(self) -> Any:
        tools = EntryTask._tools.func(self)
        tools.pipeline.models = [_answered(model) for model in tools.pipeline.models]
        return tools


def _answered(model: Any) -> Any:
    if hasattr(model, "score"):
        found = _networks.one_map()
        return replace(model, score=lambda pixels: found)
    planes = _networks.anatomy(model.info.input_size)
    return replace(model, network=lambda pixels: planes)


# --- how busy the GPU is -------------------------------------------------------------------------


@dataclass
class GpuUse:
    """Shares of 1; None without a GPU of NVIDIA."""

    at_work: float | None = None
    memory: float | None = None


class watched:  # noqa: N801 - used as a function
    """Ask ``nvidia-smi`` twice a second while the block runs; what it said is known at its end."""

    def __init__(self, device: str) -> None:
        self._used = GpuUse()
        self._ended = threading.Event()
        self._asking = threading.Thread(target=self._ask) if device.startswith("cuda") else None

    def __enter__(self) -> GpuUse:
        if self._asking:
            self._asking.start()
        return self._used

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._asking:
            self._asking.join()

    def _ask(self) -> None:
        query = ["nvidia-smi", "--query-gpu=utilization.gpu,memory.used,memory.total", "--format=csv,noheader,nounits"]
        at_work = []
        while not self._ended.wait(0.5):
            line = subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()[0]
            percent, taken, total = map(float, line.split(","))
            at_work.append(percent / 100)
            self._used.at_work = sum(at_work) / len(at_work)
            self._used.memory = max(self._used.memory or 0, taken / total)
