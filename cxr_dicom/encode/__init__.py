"""DICOM objects: what the settings name is built here; the kinds are in ``objects/``, what they share beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cxr_dicom.plugins import ENCODERS

if TYPE_CHECKING:
    from cxr_dicom.config import Settings
    from cxr_dicom.encode.base import Encoder


def build_encoders(settings: Settings) -> list[Encoder]:
    """Make the encoders that the settings name, in their order.

    Raises
    ------
    SettingsError
        For a name that does not exist; the text lists the choices.
    """
    from cxr_dicom.encode.foreign import ForeignEncoder

    built: list[Encoder] = []
    for name in settings.encode.written:
        choice = ENCODERS.choose("encode.objects", name)
        encoder = choice.build("encode.objects", settings)
        built.append(encoder if choice.is_ours else ForeignEncoder(encoder, choice))
    return built


def encoder_names() -> list[str]:
    """Every kind of object that a user can name."""
    return ENCODERS.names
