"""Whether settings work on this machine. Each answer names the key."""

from __future__ import annotations

from collections.abc import Iterator

from cxr_dicom.config import Settings
from cxr_dicom.service.checks import files, machine, models, pages, peers, routes, sense, usual
from cxr_dicom.service.checks.answer import Check, Level

__all__ = ["Check", "Level", "check"]


def check(settings: Settings, *, with_models: bool = True) -> Iterator[Check]:
    """Check everything that the settings name, and whether they fit each other.

    Parameters
    ----------
    with_models
        Load the models and encoders too, and say what memory each model takes; that takes a while.
    """
    by_route, settings = settings.by_route, settings.decided(service=True)
    yield from machine.check(settings)
    yield from files.check(settings)
    yield from pages.check(settings)
    yield from sense.check(settings)
    yield from usual.check(settings)
    yield from routes.check(settings)
    yield from peers.check(settings, by_route)
    if with_models:
        yield from models.check(settings)
