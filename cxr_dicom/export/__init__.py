"""Masks and pictures for those who train networks: what ``--also`` names is built here, from ``formats/``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cxr_dicom.plugins import EXPORTERS

if TYPE_CHECKING:
    from cxr_dicom.config import Settings
    from cxr_dicom.export.base import Exporter


def build_exporters(names: Sequence[str], settings: Settings) -> list[Exporter]:
    """Make the exporters of the formats ``names``, each once, in their order.

    Raises
    ------
    SettingsError
        For a name that does not exist, with the choices, or a format whose library is missing.
    """
    names = tuple(dict.fromkeys(names))
    from cxr_dicom.export.foreign import ForeignExporter

    built: list[Exporter] = []
    for name in names:
        choice = EXPORTERS.choose("also", name)
        exporter = choice.build("also", settings, names)
        built.append(exporter if choice.is_ours else ForeignExporter(exporter, choice))
    return built


def marked(names: Sequence[str]) -> list[str]:
    """Return the names as a state keeps them: that of another package's format with its package and version."""
    choices = [EXPORTERS.choose("also", name) for name in names]
    return [choice.name if choice.is_ours else f"{choice.name} of {choice.package}" for choice in choices]


def exporter_names() -> list[str]:
    """Every format that a user can name."""
    return EXPORTERS.names
