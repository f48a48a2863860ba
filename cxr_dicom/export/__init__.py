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
    return [EXPORTERS.choose("also", name).module.build(settings, names) for name in names]


def exporter_names() -> list[str]:
    """Every format that a user can name."""
    return EXPORTERS.names
