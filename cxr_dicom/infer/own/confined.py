"""What a worker gives up where networks of the user's may run in it: see `system.confinement`.

They may where there is one: a person may ask for it (`jobs reprocess`) although the settings name other models.

A package of others may need more than a worker does, and nobody here knows what: beside one nothing is given up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from cxr_dicom.config import Settings
from cxr_dicom.infer import model_infos, resolve, running, strangers, weights
from cxr_dicom.infer.catalogue import runnable
from cxr_dicom.plugins import Seam
from cxr_dicom.plugins import strangers as strangers_among
from cxr_dicom.system import confinement


def writable(settings: Settings, folders: Iterable[Path], beside: Iterable[tuple[Seam, str]] = ()) -> list[Path] | None:
    """Return where a worker may write; None where it is not confined.

    Parameters
    ----------
    folders
        That the worker is there to write to.
    beside
        Choices that it uses, other than models and encoders.
    """
    routes = settings.by_route.values()
    if not _own(settings) or any(strangers(each, resolve(each)) for each in routes) or strangers_among(beside):
        return None
    return [*folders, Path(tempfile.gettempdir()), *_unrecorded(settings)]


def words(settings: Settings) -> str | None:
    """Say what becomes of a worker of the service; None where there is no network of the user's."""
    if not _own(settings):
        return None
    beside = "is not confined: packages of others run beside them, and may need more"
    said = beside if writable(settings, ()) is None else confinement.words()
    return f"a worker that runs them {said}"


def _own(settings: Settings) -> bool:
    return bool(settings.models.own)


def _unrecorded(settings: Settings) -> Iterator[Path]:
    """Yield the folders of weights whose first use is yet to be recorded there."""
    may_run = {*running(settings), *(info.name for info in runnable(settings))}
    for name, info in model_infos(settings).items():
        if name not in may_run or info.weights_file is None:
            continue
        source = weights.source_path(info, settings)
        is_pinned = settings.models.own_named(name) is not None and settings.models.pinned(name) is not None
        if not is_pinned and not weights.lock_path(source).is_file():
            yield source.parent
