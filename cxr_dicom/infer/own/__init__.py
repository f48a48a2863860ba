"""Networks of the user's, which ``[[models.own]]`` describes: a file and a table instead of a module.

To the seam it is one more module with ``build(name, settings)``; what it can build stands in the settings.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_dicom import __version__
from cxr_dicom.config import Settings
from cxr_dicom.config.own import BoxesOutput, EmbeddingsOutput, Input, OwnModel, ScoresOutput
from cxr_dicom.errors import ModelError, SettingsError, WeightsError
from cxr_dicom.plugins import OURS, Choice
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    import torch

    from cxr_dicom.infer.base import Model
    from cxr_dicom.infer.own.outputs import Compute

_RANGE = 2048  # of pixels as they are read, from -1024
_POINTS = "those of its table in the settings; a score at or above is called present"


def choice(name: str, settings: Settings) -> Choice | None:
    """Return the choice of a name that is one of the user's networks, else None."""
    if settings.models.own_named(name) is None:
        return None
    return Choice(name=name, module=sys.modules[__name__], distribution=OURS, version=__version__, is_ours=True)


def infos(settings: Settings) -> dict[str, ModelInfo]:
    """Describe every network of the user's, by name, without its file."""
    return {table.name: _info(table) for table in settings.models.own}


def points(name: str, settings: Settings) -> dict[str, float | None]:
    """Operating points of a network of the user's, by finding; empty for any other model."""
    table = settings.models.own_named(name)
    return {} if table is None else _points(table)


def build(name: str, settings: Settings) -> Model:
    """Load the network ``name``, and let it see a black square: what it gives has to fit its table.

    Raises
    ------
    SettingsError
        If what it gives does not fit its table.
    WeightsError
        If the file is missing, changed, damaged, or does more than compute.
    """
    import torch

    from cxr_dicom.infer.device import choose
    from cxr_dicom.infer.own import outputs

    table = settings.models.own_named(name)
    if table is None:
        raise SettingsError(f"models.names: {name!r} has no table [[models.own]]")
    device = choose(settings.models)
    black = torch.full((1, 1, table.input.size, table.input.size), -_RANGE / 2, device=device)
    try:
        compute, info = _network(table, settings, device)
        with torch.inference_mode():
            outputs.expect_fit(table, info, compute(black)[0])
    except WeightsError:
        raise
    except (ModelError, RuntimeError) as error:
        raise SettingsError(f"models.own: {str(error).splitlines()[0]}") from error
    return outputs.model(table, info, compute, device)


def _info(table: OwnModel) -> ModelInfo:
    named = tuple(label.name for label in table.labels if label.name)
    kind = table.output.kind
    return ModelInfo(
        name=table.name,
        version=table.version,
        title=table.title or f"{_content(table, len(named))} of {table.file.name}",
        predicts=named if kind != "values" else (),
        input_size=table.input.size,
        manufacturer=table.manufacturer,
        licence=table.licence,
        citation=table.citation,
        weights_file=table.file.name,
        trained_on=table.trained_on,
        operating_points=_POINTS if any(_points(table).values()) else "",
        failures=table.failures,
    )


def _content(table: OwnModel, named: int) -> str:
    """Say what a network gives, of so many labels with a name."""
    if isinstance(table.output, EmbeddingsOutput):
        return f"Vector of {table.output.width} numbers"
    return f"Boxes with {named} labels" if table.output.kind == "boxes" else f"{named} {table.output.kind}"


def _points(table: OwnModel) -> dict[str, float | None]:
    output = table.output
    if isinstance(output, BoxesOutput):
        return {label.name: output.threshold(label) for label in output.labels if label.name}
    labels = output.labels if isinstance(output, ScoresOutput) else ()
    return {label.name: label.operating_point for label in labels if label.name}


def _network(table: OwnModel, settings: Settings, device: str) -> tuple[Compute, ModelInfo]:
    """Load what a file holds, behind what its input wants."""
    from cxr_dicom.infer import weights

    info = _info(table)
    info = weights.identified(info, weights.verify(info, settings, None))
    path, prepare = weights.source_path(info, settings), _prepared(table.input, device)
    if path.suffix.lower() == ".onnx":
        from cxr_dicom.infer import onnx

        grows = isinstance(table.output, BoxesOutput)
        network = onnx.read(path, info, settings, table.input.channels, device, grows=grows)
        names = _chosen(table, network.outputs)
        head = network.heads.get(names[0])
        _expect_logits(table, names, network.squashed)

        def compute(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
            found = network.compute(prepare(pixels))
            return _taken(table, info, found, names, network.batch), head.maps(found[head.features]) if head else None

        return compute, network.info

    from cxr_dicom.infer.backend import on_backend

    if table.architecture is not None:
        run, info = on_backend(_architecture(table, path, info, prepare, device), info, settings)
        return lambda pixels: _with_maps(run(pixels)), info
    from cxr_dicom.infer import torchscript

    program = torchscript.read(path, device, info)
    squashed = torchscript.squashed(program)

    def of_program(pixels: torch.Tensor) -> torch.Tensor:
        found = _numbered(program(prepare(pixels)))
        names = _chosen(table, tuple(found))
        _expect_logits(table, names, squashed)
        return _taken(table, info, found, names, 1)

    run, info = on_backend(of_program, info, settings)
    return lambda pixels: (run(pixels), None), info


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


def _with_maps(found: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    return found if isinstance(found, tuple) else (found, None)


def _prepared(given: Input, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """Make (1, 1, size, size) of -1024 to 1024 into what the network was trained on."""
    import torch

    low, high = given.range
    shape = (1, given.channels, 1, 1)
    mean = torch.tensor(given.mean or (0.0,) * given.channels, device=device).view(shape)
    std = torch.tensor(given.std or (1.0,) * given.channels, device=device).view(shape)

    def prepare(pixels: torch.Tensor) -> torch.Tensor:
        return ((pixels + _RANGE / 2) / _RANGE * (high - low) + low).sub(mean).div(std)

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


def _taken(
    table: OwnModel, info: ModelInfo, found: Mapping[str, Any], names: tuple[str, ...], images: int
) -> torch.Tensor:
    """Return what a network gives of the first of so many images, (1, ...), from its outputs of these names."""
    if isinstance(table.output, BoxesOutput):
        from cxr_dicom.infer.own import boxes

        return boxes.joined(info, [found[name] for name in names], images)
    return _of_first(info, found[names[0]], images)


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
