"""Models: what the settings name is built here; the choices are in ``models/``, their machinery beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cxr_dicom.infer import own
from cxr_dicom.plugins import MODELS, Choice, strangers_of
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    from cxr_dicom.config import Settings
    from cxr_dicom.infer.base import Model

AUTO = "auto"


def model_infos(settings: Settings | None = None) -> dict[str, ModelInfo]:
    """Every model that a user can name, by name, without its weights.

    Parameters
    ----------
    settings
        Whose own networks belong to them.
    """
    installed = {name: _info(choice) for name, choice in MODELS.choices.items()}
    return installed | own.infos(settings) if settings is not None else installed


def choose(name: str, settings: Settings) -> Choice:
    """Return the choice ``name``: a network of the user's, else a model that is installed.

    Raises
    ------
    SettingsError
        If there is none; the text lists those that are installed.
    """
    return own.choice(name, settings) or MODELS.choose("models.names", name)


def strangers(settings: Settings, names: Sequence[str]) -> tuple[tuple[str, str, str, str], ...]:
    """Identify the packages that models and encoders come from; see `plugins.strangers`."""
    installed = [name for name in names if settings.models.own_named(name) is None]
    return strangers_of(installed, settings.encode.written)


def _info(choice: Choice) -> ModelInfo:
    infos: tuple[ModelInfo, ...] = choice.module.MODELS
    return next(info for info in infos if info.name == choice.name)


def build_models(settings: Settings, names: Sequence[str] | None = None) -> list[Model]:
    """Load the models that the settings name, in their order.

    Parameters
    ----------
    names
        What `resolve` answered to these settings elsewhere; None: it is asked here.

    Raises
    ------
    SettingsError
        For a name that does not exist; the text lists the choices. For operating points of other weights.
    WeightsError
        For weights that are missing or damaged.
    """
    from cxr_dicom.infer.batches import local_settings
    from cxr_dicom.infer.foreign import ForeignModel
    from cxr_dicom.infer.site import at_site

    built: list[Model] = []
    for name in names or resolve(settings):
        choice = choose(name, settings)
        has_batches = choice.is_ours and settings.models.own_named(name) is None
        model = choice.build("models.names", name, local_settings(settings) if has_batches else settings)
        built.append(model if choice.is_ours else ForeignModel(model, choice))
    return at_site(built, settings)


def running(settings: Settings) -> tuple[str, ...]:
    """Return the models that run on any route, see `resolve`; without routes those of ``models.names``."""
    return tuple(dict.fromkeys(name for each in settings.by_route.values() for name in resolve(each)))


def resolve(settings: Settings) -> tuple[str, ...]:
    """Replace ``auto`` by what is installed: TorchXRayVision's weights, else the offline models.

    Without a classifier's weights there are no finding scores; ``lung-opacity`` then gives the map.
    """
    from cxr_dicom.infer.weights import is_present

    def installed(name: str) -> bool:
        return is_present(_info(MODELS.ours[name]), settings)

    names: list[str] = []
    for name in settings.models.names:
        if name != AUTO:
            names.append(name)
            continue
        names.append("chestx-det" if installed("chestx-det") else "offline-anatomy")
        names.append("xrv-densenet121-all" if installed("xrv-densenet121-all") else "lung-opacity")
    return tuple(dict.fromkeys(names))
