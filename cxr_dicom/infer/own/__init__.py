"""Networks of the user's, which ``[[models.own]]`` describes: a file and a table instead of a module.

To the seam it is one more module with ``build(name, settings)``; what it can build stands in the settings.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cxr_dicom import __version__
from cxr_dicom.config import Settings
from cxr_dicom.config.own import BoxesOutput, EmbeddingsOutput, HeatmapsOutput, MasksOutput, OwnModel, ScoresOutput
from cxr_dicom.errors import ModelError, SettingsError, WeightsError
from cxr_dicom.plugins import OURS, Choice
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from cxr_dicom.infer.base import Model
    from cxr_dicom.infer.own.apart import Network
    from cxr_dicom.infer.own.outputs import Compute

_BLACK = -1024.0
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
    black = torch.full((1, 1, table.input.size, table.input.size), _BLACK)
    try:
        compute, info = _network(table, settings, choose(settings.models))
        with torch.inference_mode():
            outputs.expect_fit(table, info, compute(black)[0])
    except WeightsError:
        raise
    except (ModelError, RuntimeError) as error:
        raise SettingsError(f"models.own: {str(error).splitlines()[0]}") from error
    return outputs.model(table, info, compute, "cpu")  # what it gives comes from its process as numbers


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
    """Identify a file, and let the process apart load it."""
    from cxr_dicom.infer import weights
    from cxr_dicom.infer.backend import in_turn
    from cxr_dicom.infer.own.apart import Network

    info = _info(table)
    info = weights.identified(info, weights.verify(info, settings, None))
    models = settings.models.model_copy(update={"batch": 1})
    network = Network(table, info, weights.source_path(info, settings), models, device)
    info = replace(info, version=info.version + network.runtime)

    def compute(pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        if not table.input.transposed:
            return _read(table, info, network, network(pixels.numpy()))
        found, maps = _read(table, info, network, network(pixels.mT.contiguous().numpy()))
        has_places = isinstance(table.output, MasksOutput | HeatmapsOutput) and found.ndim > 2
        return found.mT if has_places else found, None if maps is None else maps.mT

    return in_turn(compute), info


def _read(
    table: OwnModel, info: ModelInfo, network: Network, found: dict[str, NDArray[Any]]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Make of what came out of the process apart what the network gives for one image, and its maps."""
    import torch

    from cxr_dicom.infer.own.network import FEATURES, MAPS, taken

    maps, features = (torch.from_numpy(found.pop(name)) if name in found else None for name in (MAPS, FEATURES))
    tensors = [torch.from_numpy(each) for each in found.values()]
    if features is not None and network.weight is not None:
        maps = torch.einsum("nc,crl->nrl", torch.from_numpy(network.weight), features[0])
    return (tensors[0] if network.batch is None else taken(table, info, tensors, network.batch)), maps
