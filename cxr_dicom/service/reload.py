"""Settings that are read again while the service runs: they are tried first, and wrong ones change nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from cxr_dicom.config import RESULT_TABLES, Settings
from cxr_dicom.deliver import build_destination
from cxr_dicom.errors import CxrDicomError, SettingsError
from cxr_dicom.ingest.archive import build_archive
from cxr_dicom.service.checks import machine
from cxr_dicom.service.pages import expect_pages
from cxr_dicom.service.process import WorkerProcess
from cxr_dicom.service.worker import Build
from cxr_dicom.store.spool import Spool
from cxr_dicom.system import telemetry
from cxr_dicom.system.network import server_tls

Port = tuple[str, int]


class Reload(threading.Thread):
    """Reads settings and tries all that a start needs, beside the service that runs.

    Parameters
    ----------
    load
        Reads the settings.
    current
        Of the service that runs.
    build
        Makes the pipeline in a worker process.
    done
        Set at the end, however it ends.

    Attributes
    ----------
    settings
        What was read, when it can be used; else None.
    problem
        Why it cannot be.
    """

    def __init__(self, load: Callable[[], Settings], current: Settings, build: Build, done: threading.Event) -> None:
        super().__init__(name="reload", daemon=True)
        self._load, self._current, self._build, self._done = load, current, build, done
        self.settings: Settings | None = None
        self.problem = ""

    def run(self) -> None:
        """Do it."""
        try:
            loaded = self._load()
            expect_startable(loaded, self._current, self._build)
            self.settings = loaded
        except Exception as error:  # whatever it is, the service goes on as it is
            self.problem = telemetry.safe_description(error)
            telemetry.failure("reload", error)
        finally:
            self._done.set()


def expect_startable(loaded: Settings, current: Settings, build: Build) -> None:
    """Try what a service with other settings needs to start, without touching the one that runs.

    Raises
    ------
    CxrDicomError
        If it could not start.
    """
    if loaded.spool.folder != current.spool.folder:
        raise SettingsError("spool.folder: expected the same as at the start; stop and start to change it")
    Spool(current).require_space()  # without it no service could start
    _expect_ports(loaded, current)
    if loaded.listener.enabled and loaded.listener.tls:
        server_tls(loaded.listener.tls)
    expect_pages(loaded)
    for destination in loaded.destinations:
        build_destination(destination, lambda uid: None)
    for archive in loaded.poller.archives:
        build_archive(archive, loaded.listener)
    if any(getattr(loaded, table) != getattr(current, table) for table in (*RESULT_TABLES, "routes", "service")):
        _expect_models(loaded, build)


def _expect_models(settings: Settings, build: Build) -> None:
    """Load the models in a process of its own; for a while there is one more that has them."""
    worker = WorkerProcess(settings, build, only_loads=True)
    try:
        worker.wait_until_ready()
    finally:
        worker.stop(settings.service.stop_seconds)


def _expect_ports(loaded: Settings, current: Settings) -> None:
    """Try the ports that the service does not have already."""
    ours = {port for _, (_, port) in _ports(current)}
    wanted = dict(_ports(loaded))
    if len({port for _, port in wanted.values()}) < len(wanted) and machine.is_here(loaded.listener.address):
        raise SettingsError("service.metrics_port: expected another port than listener.port")
    for key, (address, port) in wanted.items():
        try:
            machine.bind(address, 0 if port in ours else port)
        except PermissionError as error:
            raise SettingsError(f"{key} = {port}: {error.strerror}") from error
        except CxrDicomError as error:
            raise SettingsError(f"{key}: {error}") from error


def _ports(settings: Settings) -> Iterator[tuple[str, Port]]:
    if settings.listener.enabled:
        yield "listener.port", (settings.listener.address, settings.listener.port)
    if settings.service.metrics_port:
        yield "service.metrics_port", ("127.0.0.1", settings.service.metrics_port)
    if settings.web.port:
        yield "web.port", (settings.web.address, settings.web.port)
