"""Our architectures, filled with somebody's weights (`.safetensors`): what they compute is ours, the numbers theirs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_dicom.errors import WeightsError
from cxr_dicom.infer.own.tensors import Header, RefusedError, header

if TYPE_CHECKING:
    import torch

    Run = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]

LARGEST_FILE = 1 << 31  # bytes
_COUNTER = "num_batches_tracked"  # of a BatchNorm, for training only: files may leave it out
_WIDEST = 4096  # channels of a level
_SHOWN = 3  # names of an error


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """What the tensors of a file say."""

    channels: int
    outputs: int
    gives: str  # scores or masks


@dataclass(frozen=True, kw_only=True, slots=True)
class _Architecture:
    first: str  # name of the weight of the first convolution: its second length is the channels
    last: str  # of the last layer: its first length is the outputs
    sign: str  # a part of a name that no other architecture has
    gives: str
    channels: tuple[int, ...]
    make: Callable[[Header, int, int], Any]  # of header, channels and outputs
    run: Callable[[Any], Run]


def guess(tensors: Header) -> str | None:
    """Name the architecture that tensors are of, by their names alone."""
    found = [name for name, each in ALL.items() if any(each.sign in tensor for tensor in tensors.shapes)]
    return found[0] if len(found) == 1 else None


def look(content: bytes, architecture: str) -> Look:
    """Compare the tensors of a file with an architecture.

    Raises
    ------
    RefusedError
        Saying what was expected and found.
    """
    tensors = header(content)
    channels, outputs = _lengths(tensors, architecture)
    _expect_fit(tensors, _made(tensors, architecture), architecture)
    return Look(channels=channels, outputs=outputs, gives=ALL[architecture].gives)


def read(path: Path) -> bytes:
    """Read a file that may be taken into memory.

    Raises
    ------
    WeightsError
        If it is too large.
    """
    if (size := path.stat().st_size) > LARGEST_FILE:
        raise WeightsError(f"{path}: expected at most {LARGEST_FILE} bytes, found {size}")
    return path.read_bytes()


def load(content: bytes, path: Path, architecture: str, device: str) -> tuple[Run, int]:
    """Fill an architecture with the tensors of a file.

    Returns
    -------
    tuple
        What computes of (1, channels, size, size) what it gives, (1, ...), with class activation maps (outputs, rows,
        columns) where it has any; and its channels.

    Raises
    ------
    WeightsError
        If the file is damaged, or of another architecture.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as load_tensors

    from cxr_dicom.infer import weights

    try:
        tensors = header(content)
        network = _made(tensors, architecture)
        _expect_fit(tensors, network, architecture)
        found = load_tensors(content)
    except (RefusedError, SafetensorError) as error:
        raise WeightsError(f"{path}: expected the weights of {architecture}, {error}") from error
    whole = [name for name, tensor in found.items() if not (tensor.is_floating_point() or name.endswith(_COUNTER))]
    if whole:
        raise WeightsError(f"{path}: expected weights with a fraction, found whole numbers: {_some(whole)}")
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in found.items()}
    counters = {name: tensor for name, tensor in network.state_dict().items() if name.endswith(_COUNTER)}
    weights.fill(network, {name: _zero(tensor) for name, tensor in counters.items()} | state, device)
    return ALL[architecture].run(network), _lengths(tensors, architecture)[0]


def _zero(tensor: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.zeros(tensor.shape, dtype=tensor.dtype)


def _lengths(tensors: Header, architecture: str) -> tuple[int, int]:
    """Return channels and outputs."""
    each = ALL[architecture]
    first, last = tensors.shapes.get(each.first, ()), tensors.shapes.get(each.last, ())
    if len(first) != 4 or not last:
        missing = each.first if len(first) != 4 else each.last
        raise RefusedError(f"found no weights {missing}: another architecture, or other names")
    if first[1] not in each.channels:
        wanted = " or ".join(map(str, each.channels))
        raise RefusedError(f"found an input of {first[1]} channels, expected {wanted}")
    if not 1 <= last[0] <= 1000:
        raise RefusedError(f"found {last[0]} outputs, expected 1 to 1000")
    return first[1], last[0]


def _made(tensors: Header, architecture: str) -> Any:
    """Make the network, without memory for weights."""
    import torch

    channels, outputs = _lengths(tensors, architecture)
    with torch.device("meta"):
        return ALL[architecture].make(tensors, channels, outputs)


def _expect_fit(tensors: Header, network: Any, architecture: str) -> None:
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    missing = [name for name in expected if name not in tensors.shapes and not name.endswith(_COUNTER)]
    strange = [name for name in tensors.shapes if name not in expected]
    if missing or strange:
        raise RefusedError(
            f"found {len(tensors.shapes)} tensors, expected {len(expected)}; missing: {_some(missing)}; "
            f"not of {architecture}: {_some(strange)}"
        )
    for name, shape in tensors.shapes.items():
        if shape != expected[name]:
            raise RefusedError(f"found {name} of {_text(shape)}, expected {_text(expected[name])}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(ascii(name)[1:-1][:80] for name in names[:_SHOWN]) + more if names else "none"


def _text(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"


# --- the architectures ---------------------------------------------------------------------------


def _densenet121(_: Header, channels: int, outputs: int) -> Any:
    from torchxrayvision.models import DenseNet

    return DenseNet(num_classes=outputs, in_channels=channels)


def _run_densenet121(network: Any) -> Run:
    return _pooled(lambda pixels: network.features(pixels).relu(), network.classifier)


def _resnet50(_: Header, channels: int, outputs: int) -> Any:
    import torch
    from torchvision.models import resnet50

    network: Any = resnet50(num_classes=outputs)
    network.conv1 = torch.nn.Conv2d(channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    return network


def _run_resnet50(network: Any) -> Run:
    import torch

    return _pooled(torch.nn.Sequential(*list(network.children())[:-2]), network.fc)


def _pooled(features: Callable[[torch.Tensor], torch.Tensor], linear: Any) -> Run:
    from cxr_dicom.infer.classifier import pooled_linear

    def run(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, maps = pooled_linear(features(pixels), linear.weight, linear.bias)
        return logits[None], maps

    return run


def _pspnet(_: Header, __: int, outputs: int) -> Any:
    from torchxrayvision.baseline_models.chestx_det.ptsemseg.pspnet import pspnet

    return pspnet(outputs)


def _run_pspnet(network: Any) -> Run:
    from cxr_dicom.infer.pspnet import logits
    from cxr_dicom.infer.winograd import lighten

    lighten(network)
    return lambda pixels: (logits(network, pixels), None)


def _unet(tensors: Header, _: int, outputs: int) -> Any:
    """Make our U-Net as wide as the tensors are: each level has a convolution of its own in the file."""
    from cxr_dicom.infer.offline.unet import CompactUNet

    widths: list[int] = []
    while shape := tensors.shapes.get(f"down.{len(widths)}.0.0.weight"):
        widths.append(shape[0])
    if not 1 <= len(widths) <= 8:
        raise RefusedError(f"found {len(widths)} levels, expected 1 to 8")
    stem = tensors.shapes["stem.0.weight"][0]
    if not all(1 <= width <= _WIDEST for width in (stem, *widths)):  # a length of 0 costs a file nothing
        raise RefusedError(f"found levels of {_text((stem, *widths))} channels, expected 1 to {_WIDEST} of each")
    return CompactUNet(widths, stem, outputs)


def _run_unet(network: Any) -> Run:
    return lambda pixels: (network(pixels), None)


ALL: Mapping[str, _Architecture] = {
    "densenet121": _Architecture(
        first="features.conv0.weight",
        last="classifier.weight",
        sign="denseblock4.denselayer16.",
        gives="scores",
        channels=(1, 3),
        make=_densenet121,
        run=_run_densenet121,
    ),
    "resnet50": _Architecture(
        first="conv1.weight",
        last="fc.weight",
        sign="layer3.5.bn3.",
        gives="scores",
        channels=(1, 3),
        make=_resnet50,
        run=_run_resnet50,
    ),
    "pspnet": _Architecture(
        first="convbnrelu1_1.cbr_unit.0.weight",
        last="classification.weight",
        sign="pyramid_pooling.",
        gives="masks",
        channels=(3,),
        make=_pspnet,
        run=_run_pspnet,
    ),
    "unet": _Architecture(
        first="stem.0.weight",
        last="head.weight",
        sign="fuse.",
        gives="masks",
        channels=(1,),
        make=_unet,
        run=_run_unet,
    ),
}
