"""What there is to say of a model that can be named: its card, its weights, the package that it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from cxr_dicom.config import Settings
from cxr_dicom.errors import SettingsError
from cxr_dicom.infer import AUTO, choose, model_infos, weights
from cxr_dicom.records import ModelInfo

_OUTLINES = "left_lung"  # what a model predicts that others need
_MEAN = "ensemble"  # of the classifiers before it


def runnable(settings: Settings) -> list[ModelInfo]:
    """Return the models whose weights are here, in an order in which each comes after those that it needs."""
    here = (info for info in model_infos(settings).values() if weights.is_present(info, settings))
    return sorted(here, key=lambda info: (_OUTLINES not in info.predicts, info.name == _MEAN))


def expect_runnable(names: Iterable[str], settings: Settings) -> None:
    """Check that models which a person asks for can run here.

    Raises
    ------
    SettingsError
        If one is not known, or its weights are not here; the text lists those that can.
    """
    known = [AUTO, *(info.name for info in runnable(settings))]
    for name in names:
        if name not in known:
            raise SettingsError(f"models: expected some of {', '.join(known)}, which are here, got {name!r}")


def described(info: ModelInfo, settings: Settings) -> dict[str, Any]:
    """Return the fields of ``info``, and what this machine has of it."""
    choice = choose(info.name, settings)
    files = weights.files(info, settings) if info.weights_file else ()
    lock = weights.read_lock(weights.source_path(info, settings)) if info.weights_file else None
    digest = lock.checked_sha256 if lock else settings.models.pinned(info.name)
    return asdict(info) | {
        "is_present": weights.is_present(info, settings),
        "bytes": sum(file.stat().st_size for file in files),
        "weights_sha256": digest if info.weights_file else None,
        "is_own": settings.models.own_named(info.name) is not None,
        "package": choice.package,
        "is_ours": choice.is_ours,
    }
