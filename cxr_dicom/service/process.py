"""A worker in a process of its own, and how the service starts, watches and stops it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from cxr_dicom.config import Settings
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.service.worker import Build, Worker
from cxr_dicom.store.ledger import owner
from cxr_dicom.system import telemetry
from cxr_dicom.system.bell import Bell
from cxr_dicom.system.limits import bound_memory
from cxr_dicom.system.loading import loading
from cxr_dicom.system.watch import Watch

_PAUSE = 0.3  # seconds between looks at an empty queue, for studies that come due or that a person wants
_STOP = "stop"
STARTS = 3  # of a worker that is killed while it loads the models


class KilledError(CxrDicomError):
    """A signal ended a worker while it loaded the models."""


@dataclass(frozen=True, kw_only=True)
class Bells:
    """What wakes the workers, and what they wake."""

    study: Bell = field(default_factory=Bell)  # a study is complete
    result: Bell = field(default_factory=Bell)  # a study was processed


class WorkerProcess:
    """A worker in a process of its own, seen from the service.

    Parameters
    ----------
    build
        Makes the pipeline, in the new process; must be importable there.
    bells
        Shared by all workers of a service.
    only_loads
        End when the models are loaded, and take no study.
    """

    def __init__(
        self, settings: Settings, build: Build, bells: Bells | None = None, *, only_loads: bool = False
    ) -> None:
        self.owner = owner()
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._watch = Watch()
        self._bells = bells or Bells()  # kept: they end with the last who has them here
        log = telemetry.configuration()
        arguments = (settings, build, self.owner, theirs, self._watch, self._bells, log, only_loads)
        self._process = context.Process(target=_work, args=arguments, name="cxr-dicom-worker", daemon=True)
        self._process.start()
        theirs.close()

    def wait_until_ready(self) -> None:
        """Wait until the models are loaded.

        Raises
        ------
        KilledError
            If a signal ended it.
        CxrDicomError
            If they cannot be loaded.
        """
        try:
            problem = self._connection.recv()
        except EOFError:
            code = self._join(5)
            problem = f"the worker process died while it loaded the models (exit code {code})"
            if code is not None and code < 0:
                raise KilledError(problem) from None
        if problem:
            raise CxrDicomError(problem)

    @property
    def process_id(self) -> int:
        """Of the process, for as long as it is not replaced."""
        return self._process.pid or 0

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def seconds_at_stage(self) -> float:
        """How long it is at one stage of a study; 0 while it has none."""
        return self._watch.seconds()

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()
        self._join(10)

    def ask_to_stop(self) -> None:
        """Let it finish the study at work, and no other."""
        try:
            self._connection.send(_STOP)
        except OSError:  # it is gone already
            return

    def stop(self, seconds: float) -> None:
        """Wait so long for its end, then kill it."""
        if self._join(seconds) is None:
            self.kill()
        self._connection.close()

    def _join(self, seconds: float) -> int | None:
        self._process.join(seconds)
        return self._process.exitcode


def ready(worker: WorkerProcess, again: Callable[[], WorkerProcess]) -> WorkerProcess:
    """Wait for a worker, or for another one that is made in its place: want of memory may kill it while it loads.

    Raises
    ------
    CxrDicomError
        If the models cannot be loaded, or `STARTS` workers in a row were killed.
    """
    for _ in range(STARTS - 1):
        try:
            worker.wait_until_ready()
            return worker
        except KilledError:
            telemetry.event("worker_died", level=logging.WARNING, study_instance_uid=None)
            worker.stop(0)
            worker = again()
    worker.wait_until_ready()
    return worker


def _work(
    settings: Settings,
    build: Build,
    name: str,
    parent: Connection,
    watch: Watch,
    bells: Bells,
    log: tuple[int, bool] | None,
    only_loads: bool,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # only where the spool can be locked, and there it is known
    telemetry.configure_as(log)
    bound_memory(settings.service.worker_memory_mb)
    stop = threading.Event()
    threading.Thread(target=_listen, args=(parent, stop, bells.study), daemon=True).start()
    try:
        with loading():
            worker = Worker(settings, build(settings), name, build)
    except CxrDicomError as error:
        telemetry.failure("worker", error)  # the service asks its first workers only
        parent.send(str(error))
        return
    parent.send(None)
    while not only_loads and not stop.is_set():
        try:
            with watch.item():
                busy = worker.step()
        except Exception as error:  # a locked ledger: the claim is taken back when this process ends
            telemetry.failure("worker", error)
            raise SystemExit(1) from error
        if busy:
            bells.result.ring()
        bells.study.wait(0 if busy else _PAUSE)  # the ring for a study that was taken is used up
    worker.close()


def _listen(parent: Connection, stop: threading.Event, bell: Bell) -> None:
    """Wait for the word to stop; end at once when the parent is gone, for its successor owns the studies."""
    try:
        parent.recv()
    except (EOFError, OSError):
        os._exit(1)
    stop.set()
    bell.ring()  # perhaps for another worker, which then only looks once more
