"""ONNX files, run only if they are one graph of standard operators with bounded results.

ONNX is no language that can write files, but runtimes load libraries for operators of other domains, open the files
that weights name as theirs, and reserve as much memory as a shape says. So a file is looked at before any runtime
sees it (`graph`), and the runtime gets the bytes that were looked at: ONNX Runtime, or OpenVINO where it is installed
alone or named in ``models.backend``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.config import Settings
from cxr_dicom.dicom.private_parts import forget_model_bytes
from cxr_dicom.errors import ModelError, SettingsError, WeightsError, how_to_install
from cxr_dicom.infer import weights
from cxr_dicom.infer.backend import compiled
from cxr_dicom.infer.onnx.refusal import RefusedError
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    from cxr_dicom.infer.onnx.activation import Head
    from cxr_dicom.infer.onnx.graph import Interface

_Run: TypeAlias = Callable[[NDArray[Any]], tuple[NDArray[Any], ...]]

LARGEST_FILE = (1 << 31) - 1  # bytes; protobuf cannot hold more
MOST_MEMORY = 4 << 30  # bytes, of all networks of a process together whose results are of no known size
_NOT_BOUNDED = "sizes of its results follow from what it sees; ONNX Runtime can bound its memory, OpenVINO cannot"
_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}  # float32, as PyTorch; see `device.in_float32`


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A file that is loaded."""

    info: ModelInfo  # with a version that names the runtime
    compute: Callable[[NDArray[np.float32]], dict[str, NDArray[Any]]]
    """Of (1, channels, size, size) float32: what it gives of ``batch`` images that are all this one, by name."""
    batch: int
    outputs: tuple[str, ...]  # their names, as the file has them
    heads: Mapping[str, Head]  # of outputs that have class activation maps
    squashed: Mapping[str, str]  # outputs that are probabilities, and the operator that made them so


def read(
    path: Path, info: ModelInfo, settings: Settings, channels: int, device: str, *, threads: int, grows: bool = False
) -> Network:
    """Load an ONNX file.

    Parameters
    ----------
    channels
        Of its input; its size is that of ``info``.
    device
        What ``models.device`` stands for.
    threads
        That it computes on.
    grows
        Whether it may make results whose size follows from what it sees, as detectors do; see `_bounded`.

    Raises
    ------
    WeightsError
        If it is damaged, or holds anything but standard operators with bounded results.
    SettingsError
        If nothing is installed that reads or runs it.
    """
    try:
        from cxr_dicom.infer.onnx import graph
    except ImportError as error:
        raise SettingsError(f"models.own: {info.name}: onnx is not installed; {how_to_install('onnx')}") from error
    if info.input_size is None:
        raise SettingsError(f"models.own: {info.name} has no input size")
    try:
        if (size := path.stat().st_size) > LARGEST_FILE:
            raise RefusedError(f"found {size} bytes")
        content = path.read_bytes()
        weights.expect_same(content, info, path)
        interface = graph.check(content, channels, info.input_size, grows=grows)
    except RefusedError as error:
        raise WeightsError(f"{path}: expected a network of standard operators, {error}; nothing of it ran") from error
    outputs = interface.outputs
    content, interface = graph.with_maps(content, interface)
    run, info = _runtime(content, interface, info, settings, device, threads)
    return Network(
        info=info,
        compute=_of_one(run, interface),
        batch=interface.batch,
        outputs=outputs,
        heads=interface.heads,
        squashed=interface.squashed,
    )


def _runtime(
    content: bytes, interface: Interface, info: ModelInfo, settings: Settings, device: str, threads: int
) -> tuple[_Run, ModelInfo]:
    """Let ONNX Runtime run it, or OpenVINO."""
    if settings.models.backend == "openvino":
        return _openvino(content, interface, info)
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        if interface.grows:
            raise SettingsError(f"models.own: {info.name}: {_NOT_BOUNDED}; {how_to_install('onnx')}") from None
        try:
            return _openvino(content, interface, info)
        except SettingsError:
            text = f"models.own: {info.name}: neither ONNX Runtime nor OpenVINO is installed; {how_to_install('onnx')}"
            raise SettingsError(text) from None
    return _onnxruntime(content, interface, info, _provider(settings, device), threads)


def _openvino(content: bytes, interface: Interface, info: ModelInfo) -> tuple[_Run, ModelInfo]:
    if interface.grows:
        raise SettingsError(f'models.own: {info.name}: {_NOT_BOUNDED}: backend = "torch"')

    def make() -> Any:
        from openvino import Core

        program = Core().read_model(BytesIO(content))
        channels = program.inputs[0].get_partial_shape()[1]
        program.reshape((interface.batch, channels, info.input_size, info.input_size))
        return program

    run, info = compiled(make, info)

    def numbers(pixels: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        import torch

        found = run(torch.from_numpy(pixels))
        return tuple(tensor.numpy() for tensor in (found if isinstance(found, tuple) else (found,)))

    return numbers, info


def _onnxruntime(
    content: bytes, interface: Interface, info: ModelInfo, provider: str, threads: int
) -> tuple[_Run, ModelInfo]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # only what ends it; that comes as an error too
    if interface.grows:
        provider = _bounded(options)
    try:
        session = onnxruntime.InferenceSession(
            content, options, providers=[provider], provider_options=[_OPTIONS.get(provider, {})]
        )
    except Exception as error:  # those of ONNX Runtime have no type in common
        why = str(error).strip().splitlines()[-1:]
        raise WeightsError(f"{info.name}: ONNX Runtime cannot run it: {''.join(why)[:300]}") from error

    forget_model_bytes(session)

    def run(pixels: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        try:
            found = session.run(list(interface.outputs), {interface.input: pixels})
        except Exception as error:  # as above
            raise ModelError(f"{info.name}: the network failed: {str(error).strip().splitlines()[0][:300]}") from error
        if odd := [each for each in found if not isinstance(each, np.ndarray) or each.dtype.kind not in "biufc"]:
            raise ModelError(f"{info.name}: the network failed: expected numbers, got {type(odd[0]).__name__}")
        return tuple(found)

    return run, replace(info, version=f"{info.version}; ONNX Runtime {onnxruntime.__version__} float32")


def _bounded(options: Any) -> str:
    """Let a session take its memory from one arena of this process that ends at `MOST_MEMORY`; on the CPU.

    A result whose size no one knows beforehand is an error there once it is too large, and not the end of the process.
    """
    import onnxruntime as ort

    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    as_needed = 1  # kSameAsRequested: the other way doubles, and so ends at half
    ort.create_and_register_allocator(
        place, ort.OrtArenaCfg({"max_mem": MOST_MEMORY, "arena_extend_strategy": as_needed})
    )
    options.add_session_config_entry("session.use_env_allocators", "1")
    return "CPUExecutionProvider"


def _provider(settings: Settings, device: str) -> str:
    """What ONNX Runtime calls the device; the CPU where ``auto`` found one that it was not built for."""
    import onnxruntime

    wanted = {"cuda": "CUDAExecutionProvider", "cpu": "CPUExecutionProvider"}.get(device.partition(":")[0], "")
    if wanted in onnxruntime.get_available_providers():
        return wanted
    if settings.models.device != "auto":
        raise SettingsError(f"models.device: the ONNX Runtime that is installed does not run on {device!r}")
    return "CPUExecutionProvider"


def _of_one(run: _Run, interface: Interface) -> Callable[[NDArray[np.float32]], dict[str, NDArray[Any]]]:
    """Give a network as many images as it takes, all the same."""

    def compute(pixels: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        kind = np.float16 if interface.half else np.float32
        repeated = np.broadcast_to(pixels.astype(kind), (interface.batch, *pixels.shape[1:]))
        return dict(zip(interface.outputs, run(np.ascontiguousarray(repeated)), strict=True))

    return compute
