"""Whether settings work on this machine. Each answer names the key."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

import psutil

from cxr_dicom import synthetic
from cxr_dicom.config import Settings
from cxr_dicom.config.service import ListenerTls
from cxr_dicom.deliver import build_destination
from cxr_dicom.dicom.pixels import read
from cxr_dicom.encode import build_encoders
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.infer import build_models, resolve
from cxr_dicom.ingest.archive import build_archive
from cxr_dicom.ingest.folder import scan
from cxr_dicom.records import Prediction, Radiograph
from cxr_dicom.select import select
from cxr_dicom.store.ledger import FILE_NAME, Ledger, OlderLedgerError
from cxr_dicom.system import telemetry
from cxr_dicom.system.network import server_tls

_EMPTY = {
    "calling_ae_titles": "empty: any name may send",
    "calling_addresses": "empty: only this machine may send",
}


class Level(StrEnum):
    """How bad an answer is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One answer."""

    key: str  # of the setting that is checked
    level: Level
    text: str


def check(settings: Settings, *, models: bool = True) -> Iterator[Check]:
    """Check everything that the settings name.

    Parameters
    ----------
    models
        Load the models and encoders too, and say what memory each model takes; that takes a while.
    """
    yield from _spool(settings)
    if settings.listener.enabled:
        yield from _listener(settings)
    if not settings.destinations:
        yield Check(
            key="destinations", level=Level.WARNING, text="none: objects are deleted after retention.objects_days"
        )
    for each in settings.destinations:
        yield _tried(f"destinations.{each.name}", build_destination(each, lambda uid: None).check)
    for archive in settings.poller.archives:
        yield _tried(f"poller.archives.{archive.name}", build_archive(archive, settings.listener).check)
    if models:
        yield _tried("encode.objects", lambda: f"{len(build_encoders(settings))} kinds of objects")
        yield from _models(settings)


def _tried(key: str, act: Callable[[], str]) -> Check:
    try:
        return Check(key=key, level=Level.OK, text=act())
    except CxrDicomError as error:
        return Check(key=key, level=Level.WRONG, text=str(error))
    except Exception as error:  # whatever is wrong is an answer
        return Check(key=key, level=Level.WRONG, text=telemetry.safe_description(error))


def _spool(settings: Settings) -> Iterator[Check]:
    folder = settings.spool.folder.absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Check(key="spool.folder", level=Level.WRONG, text=f"{there} cannot be written by this user")
    elif there == folder and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        yield Check(key="spool.folder", level=Level.WARNING, text=f"{folder} is open to others; `serve` makes it 0700")
    else:
        yield Check(key="spool.folder", level=Level.OK, text=f"{folder} can be written")
    free, wanted = shutil.disk_usage(there).free >> 20, settings.spool.min_free_mb
    level = Level.OK if free >= wanted else Level.WRONG
    yield Check(key="spool.min_free_mb", level=level, text=f"{free} MB free, {wanted} MB wanted")
    if (folder / FILE_NAME).exists():
        yield _tried("ledger", lambda: _ledger(folder))


def _ledger(folder: Path) -> str:
    try:
        ledger = Ledger(folder, create=False, lock_seconds=2)
    except OlderLedgerError as error:  # what an update finds at its first check
        return str(error)
    try:
        ledger.verify()
    finally:
        ledger.close()
    return "is whole"


def _listener(settings: Settings) -> Iterator[Check]:
    listener = settings.listener
    yield _tried("listener.port", lambda: _port(listener.address, listener.port))
    if listener.tls:
        tls = listener.tls
        yield _tried("listener.tls", lambda: _certificate(tls))
        if tls.key.exists() and stat.S_IMODE(tls.key.stat().st_mode) & 0o077:
            yield Check(key="listener.tls.key", level=Level.WARNING, text=f"{tls.key} can be read by others")
    for key in ("calling_ae_titles", "calling_addresses"):
        if not getattr(listener, key):
            yield Check(key=f"listener.{key}", level=Level.WARNING, text=_EMPTY[key])


def _certificate(tls: ListenerTls) -> str:
    server_tls(tls)
    return "certificate and key fit"


def _port(address: str, port: int) -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise CxrDicomError(f"{address}:{port}: {error.strerror}; is the service running?") from error
    return f"{address}:{port} is free"


def _models(settings: Settings) -> Iterator[Check]:
    """Load each model and let it see a synthetic radiograph, for weights take their memory when they are used."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "radiograph.dcm"
        synthetic.radiograph(1024, 1024).save_as(path, enforce_file_format=True)
        (study,), _ = scan([path])
        radiograph = read(select(study, settings.select).images[0], settings.pixels)
    earlier: list[Prediction] = []
    for name in resolve(settings):
        yield _tried(f"models.names: {name}", partial(_model, name, settings, radiograph, earlier))


def _model(name: str, settings: Settings, radiograph: Radiograph, earlier: list[Prediction]) -> str:
    import torch  # noqa: F401  its own memory is no model's

    before = _peak_memory_mb()
    only = settings.models.model_copy(update={"names": (name,)})
    (model,) = build_models(settings.model_copy(update={"models": only}))
    earlier.append(model.predict(radiograph, earlier))
    model.close()
    return f"works; {_peak_memory_mb() - before:.0f} MB of memory more, {_peak_memory_mb():.0f} MB in all"


def _peak_memory_mb() -> float:
    """Greatest resident set of this process so far."""
    try:
        import resource
    except ImportError:  # Windows, where psutil knows the peak
        now = psutil.Process().memory_info()
        return getattr(now, "peak_wset", now.rss) / 1e6
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
