"""What computes a network: PyTorch, or OpenVINO, which is faster on a CPU and gives the same answer.

OpenVINO gets the program that PyTorch would run, so each network is defined once. It is converted
whenever a model is built, and not kept: a file of it would be a second copy of the weights, to be
trusted and renewed like the first.
"""

from __future__ import annotations

import importlib
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cxr_dicom.config import Settings
from cxr_dicom.errors import SettingsError, how_to_install
from cxr_dicom.infer.batches import in_batches
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    import torch

_computing = threading.Lock()
PRECISION = "f32"  # OpenVINO by itself takes bfloat16 where a processor has it, and scores then move by 0.01


def on_backend(
    compute: Callable[[torch.Tensor], Any], info: ModelInfo, settings: Settings, channels: int = 1
) -> tuple[Callable[[torch.Tensor], Any], ModelInfo]:
    """Let the backend of the settings run a network; see `in_turn`.

    Parameters
    ----------
    compute
        Of (1, ``channels``, input size, input size); gives a tensor or a tuple of tensors.

    Returns
    -------
    tuple
        The same of ``compute``, and ``info`` with a version that names the backend, unless it is PyTorch, and the
        batches.

    Raises
    ------
    SettingsError
        If the backend is not installed, or cannot run this network, or not in batches.
    """
    if settings.models.batch > 1:
        return in_batches(compute, info, settings.models, channels)
    if settings.models.backend == "torch":
        return in_turn(compute), info
    if info.input_size is None:
        raise SettingsError(f"models.backend: OpenVINO cannot run {info.name}, which has no input size")
    shape = (1, channels, info.input_size, info.input_size)
    return compiled(lambda: _converted(compute, shape), info)


def in_turn(compute: Callable[[torch.Tensor], Any]) -> Callable[[torch.Tensor], Any]:
    """Let one network of a process run at a time.

    Where two studies are at work at once, one is in the networks while the other one is read or
    written: so cores and memory are enough for one.
    """

    def run(pixels: torch.Tensor) -> Any:
        with _computing:
            return compute(pixels)

    return run


def compiled(make: Callable[[], Any], info: ModelInfo) -> tuple[Callable[[torch.Tensor], Any], ModelInfo]:
    """Let OpenVINO run the program of a network that ``make`` makes; see `on_backend`."""
    openvino = imported()
    import torch

    try:
        program = make()
        options = {
            "INFERENCE_PRECISION_HINT": PRECISION,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # else all workers sit on the first core
        }
        network = openvino.Core().compile_model(program, "CPU", options)
    except Exception as error:  # those of OpenVINO have no type in common
        why = str(error).strip().splitlines()[-1:]
        raise SettingsError(f"models.backend: OpenVINO cannot run {info.name}, take `torch`: {''.join(why)}") from error

    def run(pixels: torch.Tensor) -> Any:
        found = network(pixels.numpy())
        tensors = tuple(torch.from_numpy(found[output]) for output in network.outputs)
        return tensors if len(tensors) > 1 else tensors[0]

    version = openvino.__version__.partition("-")[0]
    return in_turn(run), replace(info, version=f"{info.version}; OpenVINO {version} float32")


def imported() -> ModuleType:
    """Import OpenVINO, which by itself tells its makers of every import, by a process that asks their server.

    Raises
    ------
    SettingsError
        If it is not installed.
    """
    reporter = "openvino_telemetry"
    is_first = reporter not in sys.modules
    if is_first:
        sys.modules[reporter] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        openvino: ModuleType = importlib.import_module("openvino")
    except ImportError as error:
        raise SettingsError(f"models.backend: OpenVINO is not installed; {how_to_install('openvino')}") from error
    finally:
        if is_first:
            del sys.modules[reporter]
    return openvino


def _converted(compute: Callable[[torch.Tensor], Any], shape: tuple[int, ...]) -> Any:
    """Make OpenVINO's program of a computation, without running it.

    Not by ``openvino.convert_model``: that reports its use to its makers.
    """
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    class Program(torch.nn.Module):
        def forward(self, pixels: torch.Tensor) -> Any:
            return compute(pixels)

    with _quiet(), torch.no_grad():
        exported = torch.export.export(Program(), (torch.zeros(shape),))
        decoder = TorchFXPythonDecoder.from_exported_program(exported)
        reader = FrontEndManager().load_by_framework("pytorch")
        program = reader.convert(reader.load(decoder))
    program.reshape(shape)
    return program


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the root logger, to which OpenVINO reports every operation that it does not know."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    root.addFilter(_drop)
    try:
        yield
    finally:
        root.removeFilter(_drop)
        root.removeHandler(handler)


def _drop(record: logging.LogRecord) -> bool:
    return False
