"""Starts the servers, one for each GPU, and replaces those that die."""

from __future__ import annotations

import logging
import multiprocessing
import signal
import socket
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

from cxr_dicom.config import Settings
from cxr_dicom.errors import PlaceError, SettingsError
from cxr_dicom.infer import choose
from cxr_dicom.infer.batches.channel import listen
from cxr_dicom.infer.batches.client import Client
from cxr_dicom.infer.batches.process import ANSWERED, READY, WATCHED, ServerOptions, main, refuse_all
from cxr_dicom.infer.device import devices
from cxr_dicom.system import telemetry
from cxr_dicom.system.watch import Watch

_POLL_SECONDS = 1.0
_MAX_FAILED_STARTS = 3  # in a row
_MAX_FRUITLESS = 12  # servers in a row that died without a reply: more than a few images that kill can cause


class Supervisor:
    """Keeps a server for each device; workers need not know that one was replaced.

    Parameters
    ----------
    names
        Of all models. Those of other packages and those of `[[models.own]]` are computed by each worker itself.

    Raises
    ------
    SettingsError
        If processes cannot share memory on this platform.
    """

    def __init__(self, settings: Settings, names: Sequence[str]) -> None:
        if not hasattr(socket, "send_fds"):
            raise SettingsError("models.batch: needs Unix sockets, which this platform does not have; expected 1")
        own = {table.name for table in settings.models.own}
        ours = tuple(name for name in names if name not in own and choose(name, settings).is_ours)
        self._servers = [_SupervisedServer(settings, ours, device) for device in devices(settings.models)]
        self.client = Client([server.address for server in self._servers])

    def __enter__(self) -> Supervisor:
        for server in self._servers:
            server.start()
        return self

    def __exit__(self, *error: object) -> None:
        for server in self._servers:
            server.end()

    @property
    def process_ids(self) -> list[int]:
        """Of the servers that run now."""
        return [server.process_id for server in self._servers]

    @property
    def answered(self) -> int:
        """How many images were answered."""
        return sum(server.progress[ANSWERED] for server in self._servers)


class _SupervisedServer:
    """The server of one device: a process, and those that replace it."""

    def __init__(self, settings: Settings, names: tuple[str, ...], device: str) -> None:
        self._context = multiprocessing.get_context("spawn")
        self.address, self._listener = listen()
        self.progress: Any = self._context.RawArray("Q", 2)
        # At one stage of a batch, or stopped: less than a worker has for a study.
        self._max_seconds = settings.service.study_seconds / 2
        self._options = partial(
            ServerOptions,
            settings=settings,
            names=names,
            device=device,
            listener=self._listener,
            progress=self.progress,
            log=telemetry.configuration(),
        )
        self._changing = threading.Lock()
        self._has_ended = False
        self._process: Any = None
        self._thread = threading.Thread(target=self._supervise, name="networks", daemon=True)

    @property
    def process_id(self) -> int:
        return self._process.pid if self._process else 0

    def start(self) -> None:
        self._start_process()
        self._thread.start()

    def end(self) -> None:
        with self._changing:
            self._has_ended = True
            self._process.kill()
        self._thread.join()
        self.address.close()
        self._listener.close()

    def _start_process(self) -> bool:
        """Start a process, unless the server has ended; return whether it started."""
        with self._changing:
            if self._has_ended:
                return False
            theirs, self._ours = self._context.Pipe(duplex=False)
            self._watch = Watch(WATCHED)
            arguments = self._options(watch=self._watch), theirs
            self._process = self._context.Process(target=main, args=arguments, name="cxr-dicom-networks", daemon=True)
            self._process.start()
            theirs.close()
            return True

    def _supervise(self) -> None:
        """Replace each process that dies, until too many have died in a row."""
        failed_starts = fruitless = 0
        before = self.progress[:]
        while True:
            cause = self._wait_for_exit()
            if self._has_ended:
                return
            telemetry.event("networks_died", level=logging.WARNING, error=cause)
            ready, answered = self.progress[:]
            failed_starts = failed_starts + 1 if ready == before[READY] else 0
            fruitless = fruitless + 1 if answered == before[ANSWERED] else 0
            before = ready, answered
            if failed_starts == _MAX_FAILED_STARTS or fruitless == _MAX_FRUITLESS:
                break
            if not self._start_process():
                return
        why = f"models.batch: the process of the networks dies again and again: {cause}"
        refuse_all(self._listener, PlaceError(why), lambda: self._has_ended)

    def _wait_for_exit(self) -> str:
        """Wait until the process has ended, and say how; kill one that hangs."""
        process = self._process
        while process.is_alive():
            process.join(_POLL_SECONDS)
            if self._watch.seconds() > self._max_seconds:
                telemetry.event("networks_overdue", level=logging.WARNING, seconds=self._max_seconds)
                process.kill()
        code = process.exitcode
        return f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with code {code}"
