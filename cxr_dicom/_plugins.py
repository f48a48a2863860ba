"""Choices by name: a file in ``infer``, ``encode`` or ``export`` is a choice, its ``build`` makes it.

Listing loads nothing heavy: a choice's module imports torch or highdicom only when it is built.
A module of ``infer`` declares its models in ``MODELS`` (several networks may share one file);
a module of ``encode`` is one kind of object, one of ``export`` a format, and bears its name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType

from cxr_dicom import encode, export, infer
from cxr_dicom.config import Settings
from cxr_dicom.config_service import Destination as Described
from cxr_dicom.config_service import DicomDestination, DicomwebDestination
from cxr_dicom.deliver._base import Destination
from cxr_dicom.encode._base import Encoder
from cxr_dicom.errors import SettingsError
from cxr_dicom.export._base import Exporter
from cxr_dicom.infer._base import Model
from cxr_dicom.records import ModelInfo

AUTO = "auto"


def model_infos() -> dict[str, ModelInfo]:
    """Every model that a user can name, by name, without its weights."""
    return {info.name: info for module in _modules(infer) for info in module.MODELS}


def build_models(settings: Settings) -> list[Model]:
    """Load the models that the settings name, in their order.

    Raises
    ------
    SettingsError
        For a name that does not exist; the text lists the choices.
    WeightsError
        For weights that are missing or damaged.
    """
    modules = {info.name: module for module in _modules(infer) for info in module.MODELS}
    return [_choose("models.names", name, modules).build(name, settings) for name in resolve(settings)]


def build_encoders(settings: Settings) -> list[Encoder]:
    """Make the encoders that the settings name, in their order."""
    modules = {_choice(module): module for module in _modules(encode)}
    return [_choose("encode.objects", name, modules).build(settings) for name in settings.encode.objects]


def encoder_names() -> list[str]:
    """Every kind of object that a user can name."""
    return [_choice(module) for module in _modules(encode)]


def build_destination(described: Described, open_commitment: Callable[[str], None]) -> Destination:
    """Make the destination that a table ``[[destinations]]`` describes; see `deliver.dicom.Dicom`."""
    from cxr_dicom.deliver import dicom, dicomweb, folder

    if isinstance(described, DicomDestination):
        return dicom.build(described, open_commitment)
    if isinstance(described, DicomwebDestination):
        return dicomweb.build(described)
    return folder.build(described)


def build_exporters(names: Sequence[str], settings: Settings) -> list[Exporter]:
    """Make the exporters of the formats ``names``, each once, in their order.

    Raises
    ------
    SettingsError
        For a name that does not exist, with the choices, or a format whose library is missing.
    """
    modules = {_choice(module): module for module in _modules(export)}
    names = tuple(dict.fromkeys(names))
    return [_choose("also", name, modules).build(settings, names) for name in names]


def exporter_names() -> list[str]:
    """Every format that a user can name."""
    return [_choice(module) for module in _modules(export)]


def resolve(settings: Settings) -> tuple[str, ...]:
    """Replace ``auto`` by what is installed: TorchXRayVision's weights, else the offline models.

    Without a classifier's weights there are no finding scores; ``lung-opacity`` then gives the map.
    """
    from cxr_dicom.infer._weights import is_present

    infos = model_infos()

    def installed(name: str) -> bool:
        return is_present(infos[name], settings)

    names: list[str] = []
    for name in settings.models.names:
        if name != AUTO:
            names.append(name)
            continue
        names.append("chestx-det" if installed("chestx-det") else "offline-anatomy")
        names.append("xrv-densenet121-all" if installed("xrv-densenet121-all") else "lung-opacity")
    return tuple(dict.fromkeys(names))


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    for found in pkgutil.iter_modules(package.__path__):
        if not found.name.startswith("_") and not found.ispkg:
            yield importlib.import_module(f"{package.__name__}.{found.name}")


def _choice(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2].replace("_", "-")


def _choose(key: str, name: str, modules: dict[str, ModuleType]) -> ModuleType:
    try:
        return modules[name]
    except KeyError:
        raise SettingsError(f"{key}: {name!r} is not one of {', '.join(sorted(modules))}") from None
