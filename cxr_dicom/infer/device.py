"""On what a network runs, and how."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cxr_dicom.config import ModelSettings
from cxr_dicom.errors import ModelError, SettingsError
from cxr_dicom.infer.placement import AS_READ, Fit, Placement, Sampling, square
from cxr_dicom.records import ModelInfo, Radiograph

if TYPE_CHECKING:
    import torch


def choose(models: ModelSettings) -> str:
    """Return the device that ``models.device`` names; ``auto`` takes the first of CUDA, MPS and CPU.

    OpenVINO is used on the CPU only. PyTorch computes in float32 from then on; see `in_float32`.

    Raises
    ------
    SettingsError
        If the named device is not on this machine, or not one for the backend.
    """
    import torch

    in_float32()
    name = models.device
    if models.backend == "openvino":
        if name not in ("auto", "cpu"):
            raise SettingsError(f"models.device: OpenVINO runs on 'cpu' here, not on {name!r}")
        return "cpu"
    devices = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    devices += ["mps"] if torch.backends.mps.is_available() else []
    devices += ["cpu"]
    if name == "auto":
        return devices[0]
    chosen = f"{name}:{torch.cuda.current_device()}" if name == "cuda" and torch.cuda.is_available() else name
    if chosen not in devices:
        raise SettingsError(f"models.device: {name!r} is not on this machine, which has {', '.join(devices)}")
    return chosen


def in_float32() -> None:
    """Let this process compute on CUDA in float32: by default PyTorch rounds the input of convolutions to TF32."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def prefer_onednn(network: torch.nn.Module, device: str) -> None:
    """Let oneDNN compute the convolutions of 1 x 1 of a network on a CPU, also with one thread; elsewhere do nothing.

    They get a dilation, which changes nothing but that choice. With one thread PyTorch otherwise takes MKL's product of
    matrices, which uses half the width of an AMD processor's registers. Where PyTorch has no oneDNN, a dilation
    would only cost time, and there is none.
    """
    import torch

    if device != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d) and layer.kernel_size == (1, 1):
            layer.dilation = (2, 2)


def devices(models: ModelSettings) -> list[str]:
    """Return all that can take a share of the images: where ``models.device`` is ``auto``, each GPU of CUDA."""
    import torch

    every = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    return every if every and models.device == "auto" else [choose(models)]


def device_name(models: ModelSettings) -> str:
    """Name what `choose` chooses; of a GPU also which, for their answers differ in the last bits."""
    return titled(choose(models))


def titled(device: str) -> str:
    """Name a device as `device_name` does."""
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device


@contextmanager
def running(
    info: ModelInfo, radiograph: Radiograph, device: str, fit: Fit = "crop", sampling: Sampling = AS_READ
) -> Iterator[tuple[torch.Tensor, Placement]]:
    """Give the square input of a network as a tensor (1, 1, size, size), and run the block without gradients.

    Raises
    ------
    ModelError
        If the network fails in the block, for want of memory above all.
    """
    import torch

    if info.input_size is None:
        raise ModelError(f"{info.name}: has no input size")
    pixels, placement = square(radiograph, info.input_size, fit, sampling)
    try:
        with torch.inference_mode():
            yield torch.tensor(pixels, device=device)[None, None], placement
    except RuntimeError as error:
        raise ModelError(f"{info.name}: the network failed on {device}: {str(error).splitlines()[0]}") from error
