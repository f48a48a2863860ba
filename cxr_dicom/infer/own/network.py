"""What a file of the user's holds, behind what its input wants: loaded and run in the process apart (`apart`).

ONNX needs no PyTorch here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.config import ModelSettings, Settings
from cxr_dicom.config.own import BoxesOutput, Input, OwnModel
from cxr_dicom.errors import ModelError
from cxr_dicom.infer.device import in_float32
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    import torch

MAPS, FEATURES = "maps", "features"  # names of what is given besides outputs
_RANGE = 2048  # of pixels as they are read, from -1024


@dataclass(frozen=True, kw_only=True, eq=False)
class Loaded:
    """A network that is ready."""

    runtime: str  # what runs it and how, behind its version; empty where that is PyTorch
    compute: Callable[[NDArray[np.float32]], dict[str, NDArray[Any]]]
    """Of (1, 1, size, size), -1024 to 1024: what it gives, by number, and class activation `MAPS`, (labels, rows,
    columns), or the `FEATURES` that they are made of, with ``weight``."""
    batch: int | None = None  # of how many images, all the same, its outputs are; None: `taken` was done
    weight: NDArray[np.float32] | None = None


def load(table: OwnModel, info: ModelInfo, path: Path, models: ModelSettings, device: str, threads: int) -> Loaded:
    """Load a file whose digest is that of ``info``.

    Parameters
    ----------
    device
        What ``models.device`` stands for.
    threads
        That it computes on.

    Raises
    ------
    WeightsError
        If the file was changed, is damaged, or does more than compute.
    SettingsError
        If nothing is installed that runs it.
    ModelError
        If it does not fit its table.
    """
    settings = Settings().model_copy(update={"models": models})
    if path.suffix.lower() == ".onnx":
        return _onnx(table, info, path, settings, device, threads)
    import torch

    torch.set_num_threads(threads)
    in_float32()
    return _of_torch(table, info, path, settings, device)


def _onnx(table: OwnModel, info: ModelInfo, path: Path, settings: Settings, device: str, threads: int) -> Loaded:
    from cxr_dicom.infer import onnx

    grows = isinstance(table.output, BoxesOutput)
    found = onnx.read(path, info, settings, table.input.channels, device, threads=threads, grows=grows)
    names = _chosen(table, found.outputs)
    head = found.heads.get(names[0])
    _expect_logits(table, names, found.squashed)
    prepare = _prepared(table.input, lambda values: np.array(values, np.float32))

    def compute(pixels: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        outputs = found.compute(prepare(pixels))
        chosen = {str(number): outputs[name] for number, name in enumerate(names)}
        return chosen | ({FEATURES: outputs[head.features][:1].astype(np.float32)} if head else {})

    return Loaded(
        runtime=found.info.version.removeprefix(info.version),
        compute=compute,
        batch=found.batch,
        weight=head.weight if head else None,
    )


def _of_torch(table: OwnModel, info: ModelInfo, path: Path, settings: Settings, device: str) -> Loaded:
    import torch

    from cxr_dicom.infer.backend import on_backend

    prepare = _prepared(table.input, lambda values: torch.tensor(values, device=device))
    make = _program if table.architecture is None else _architecture
    run, made = on_backend(make(table, path, info, prepare, device), info, settings)

    def compute(pixels: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        with torch.inference_mode():
            found = run(torch.from_numpy(pixels).to(device))
        given, maps = found if isinstance(found, tuple) else (found, None)
        return {"0": _array(given)} | ({} if maps is None else {MAPS: _array(maps)})

    return Loaded(runtime=made.version.removeprefix(info.version), compute=compute)


def _array(found: torch.Tensor) -> NDArray[Any]:
    plain: NDArray[Any] = (found.float() if "bfloat" in str(found.dtype) else found).cpu().numpy()
    return plain


def _program(
    table: OwnModel, path: Path, info: ModelInfo, prepare: Callable[[torch.Tensor], torch.Tensor], device: str
) -> Callable[[torch.Tensor], Any]:
    import torch

    from cxr_dicom.infer import torchscript

    program = torchscript.read(path, device, info)
    squashed = torchscript.squashed(program)

    kinds = (each.dtype for each in program.parameters() if each.is_floating_point())
    kind = next(kinds, torch.float32)  # one in half precision takes nothing else

    def compute(pixels: torch.Tensor) -> torch.Tensor:
        found = _numbered(program(prepare(pixels).to(kind)))
        names = _chosen(table, tuple(found))
        _expect_logits(table, names, squashed)
        return taken(table, info, [found[name] for name in names], 1)

    return compute


def _architecture(
    table: OwnModel, path: Path, info: ModelInfo, prepare: Callable[[torch.Tensor], torch.Tensor], device: str
) -> Callable[[torch.Tensor], Any]:
    """Fill one of our architectures with the bytes whose digest was checked."""
    from cxr_dicom.infer import weights
    from cxr_dicom.infer.own import architectures

    content = architectures.read(path)
    weights.expect_same(content, info, path)
    assert table.architecture is not None  # noqa: S101  the caller asked
    network, channels = architectures.load(content, path, table.architecture, device)
    if channels != table.input.channels:
        raise ModelError(f"{table.name}: input.channels: the weights are of {channels}, got {table.input.channels}")

    def compute(pixels: torch.Tensor) -> Any:
        found, maps = network(prepare(pixels))
        return found if maps is None else (found, maps)

    return compute


def _prepared(given: Input, made: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make (1, 1, size, size) of -1024 to 1024 into what the network was trained on; tensors or arrays."""
    low, high = given.range
    mean, std = (
        made(values).reshape(1, given.channels, 1, 1)
        for values in (given.mean or (0.0,) * given.channels, given.std or (1.0,) * given.channels)
    )

    def prepare(pixels: Any) -> Any:
        return (((pixels + _RANGE / 2) / _RANGE * (high - low) + low) - mean) / std

    return prepare


def _numbered(found: Any) -> dict[str, torch.Tensor]:
    """Name the outputs of a network that has no names for them."""
    several = found if isinstance(found, (tuple, list)) else (found,)
    return {str(name): each for name, each in (found.items() if isinstance(found, dict) else enumerate(several))}


def _expect_logits(table: OwnModel, names: tuple[str, ...], squashed: Mapping[str, str]) -> None:
    """Refuse to make probabilities of probabilities: with a sigmoid twice every score is above one half."""
    activation = getattr(table.output, "activation", "none")
    name = names[1] if len(names) > 1 else names[0]  # of boxes: the scores
    if activation in ("sigmoid", "softmax") and (by := squashed.get(name)):
        raise ModelError(
            f"{table.name}: output.activation is {activation}: expected logits, and {name!r} comes out of {by}, "
            'which has made probabilities of them; it is "none"'
        )


def taken(table: OwnModel, info: ModelInfo, outputs: Sequence[Any], images: int) -> torch.Tensor:
    """Return what a network gives of the first of so many images, (1, ...), from those outputs that its table means."""
    if isinstance(table.output, BoxesOutput):
        from cxr_dicom.infer.own import boxes

        return boxes.joined(info, outputs, images)
    return _of_first(info, outputs[0], images)


def _of_first(info: ModelInfo, found: Any, images: int) -> torch.Tensor:
    """Return what a network gives of the first of so many images, (1, ...)."""
    import torch

    if not isinstance(found, torch.Tensor):
        raise ModelError(f"{info.name}: output: expected a tensor, got {type(found).__name__}")
    if found.is_complex() or not found.ndim or found.shape[0] != images:
        raise ModelError(
            f"{info.name}: output: expected real numbers, of {images} in the first dimension, the images; "
            f"got {str(found.dtype).removeprefix('torch.')} of shape {tuple(found.shape)}"
        )
    return found[:1]


def _chosen(table: OwnModel, outputs: tuple[str, ...]) -> tuple[str, ...]:
    """Name the output that the table means; of boxes in several outputs all of them."""
    if isinstance(table.output, BoxesOutput) and table.output.layout == "separate":
        if missing := [name for name in table.output.tensors if name not in outputs]:
            of = f"no output {', '.join(map(repr, missing))}; expected three of {', '.join(outputs)}"
            raise ModelError(f"{table.name}: output.tensors: the network has {of}")
        return table.output.tensors
    name = outputs[0] if table.output.tensor is None and len(outputs) == 1 else table.output.tensor
    if name is None or name not in outputs:
        what = "more than one output" if name is None else f"no output {name!r}"
        raise ModelError(f"{table.name}: output.tensor: the network has {what}; expected one of {', '.join(outputs)}")
    return (name,)
