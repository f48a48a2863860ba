"""What a worker of the service gives up where networks of the user's run in it: see `system.confinement`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from cxr_dicom.config import Settings
from cxr_dicom.infer import model_infos, resolve, running, strangers, weights
from cxr_dicom.infer.catalogue import runnable
from cxr_dicom.system import confinement


def confine(settings: Settings) -> None:
    """Confine this process, before it has threads, where a network in a file may run and no package of others does.

    It may where there is one: a person may ask for it (`jobs reprocess`) although the settings name other models.

    A worker needs no network, for others fetch and deliver; and it writes to its spool only. A package of others may
    need more, and nobody here knows what.
    """
    if _applies(settings):
        confinement.confine(_writable(settings))


def words(settings: Settings) -> str | None:
    """Say what becomes of a worker; None where there is no network of the user's."""
    if not _own(settings):
        return None
    beside = "is not confined: packages of others run beside them, and may need more"
    return f"a worker that runs them {confinement.words() if _applies(settings) else beside}"


def _own(settings: Settings) -> bool:
    return bool(settings.models.own)


def _applies(settings: Settings) -> bool:
    return _own(settings) and not any(strangers(each, resolve(each)) for each in settings.by_route.values())


def _writable(settings: Settings) -> Iterator[Path]:
    """Yield the spool, the folder of temporary files, and those where a first use of weights is yet to be recorded."""
    yield settings.spool.folder.absolute()
    yield Path(tempfile.gettempdir())
    may_run = {*running(settings), *(info.name for info in runnable(settings))}
    for name, info in model_infos(settings).items():
        if name not in may_run:
            continue
        if info.weights_file is None:
            continue
        source = weights.source_path(info, settings)
        is_pinned = settings.models.own_named(name) is not None and settings.models.pinned(name) is not None
        if not is_pinned and not weights.lock_path(source).is_file():
            yield source.parent
