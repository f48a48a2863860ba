"""The processes with the networks, from the side of who starts the workers: one for each GPU."""

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
from cxr_dicom.infer.batches.asker import Asker
from cxr_dicom.infer.batches.line import pair
from cxr_dicom.infer.batches.process import ANSWERED, READY, Order, main, refuse
from cxr_dicom.infer.device import devices
from cxr_dicom.system import telemetry
from cxr_dicom.system.watch import Watch

_LOOK_SECONDS = 1.0
_MOST_STILLBORN = 3  # processes in a row that died before they were ready
_MOST_FRUITLESS = 12  # that died before they had answered: more than what a few images that kill can cause


class Host:
    """Starts the processes, and starts them again when they die; workers go on asking meanwhile.

    Parameters
    ----------
    names
        Of all models; those of other packages, and the user's own, are computed in each worker as ever.

    Raises
    ------
    SettingsError
        If this platform cannot share memory between them.
    """

    def __init__(self, settings: Settings, names: Sequence[str]) -> None:
        if not hasattr(socket, "send_fds"):
            raise SettingsError("models.batch: needs Unix sockets, which this platform does not have; expected 1")
        own = {table.name for table in settings.models.own}
        ours = tuple(name for name in names if name not in own and choose(name, settings).is_ours)
        self._processes = [_Process(settings, ours, device) for device in devices(settings.models)]
        self.asker = Asker([process.asked for process in self._processes])

    def __enter__(self) -> Host:
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            process.end()

    @property
    def process_ids(self) -> list[int]:
        """Of those that are at work now."""
        return [process.process_id for process in self._processes]

    @property
    def answered(self) -> int:
        """How many images were answered."""
        return sum(process.progress[ANSWERED] for process in self._processes)


class _Process:
    """One of them, and its successors."""

    def __init__(self, settings: Settings, names: tuple[str, ...], device: str) -> None:
        self._context = multiprocessing.get_context("spawn")
        self.asked, self._inbox = pair()
        self.progress: Any = self._context.RawArray("Q", 2)
        self._seconds = settings.service.study_seconds / 2  # before its workers are ended for it
        self._order = partial(
            Order,
            settings=settings,
            names=names,
            device=device,
            inbox=self._inbox,
            progress=self.progress,
            log=telemetry.configuration(),
        )
        self._changing = threading.Lock()
        self._has_ended = False
        self._process: Any = None
        self._tending = threading.Thread(target=self._tend, name="networks", daemon=True)

    @property
    def process_id(self) -> int:
        return self._process.pid if self._process else 0

    def start(self) -> None:
        self._begin()
        self._tending.start()

    def end(self) -> None:
        with self._changing:
            self._has_ended = True
            self._process.kill()
        self._tending.join()
        self.asked.close()
        self._inbox.close()

    def _begin(self) -> bool:
        """Start one, unless that is over."""
        with self._changing:
            if self._has_ended:
                return False
            theirs, self._ours = self._context.Pipe(duplex=False)
            self._watch = Watch()
            arguments = self._order(watch=self._watch), theirs
            self._process = self._context.Process(target=main, args=arguments, name="cxr-dicom-networks", daemon=True)
            self._process.start()
            theirs.close()
            return True

    def _tend(self) -> None:
        """Replace what dies, until nothing comes of it."""
        stillborn = fruitless = 0
        counted = self.progress[:]
        while True:
            cause = self._cause_of_death()
            if self._has_ended:
                return
            telemetry.event("networks_died", level=logging.WARNING, error=cause)
            ready, answered = self.progress[:]
            stillborn = stillborn + 1 if ready == counted[READY] else 0
            fruitless = fruitless + 1 if answered == counted[ANSWERED] else 0
            counted = ready, answered
            if stillborn == _MOST_STILLBORN or fruitless == _MOST_FRUITLESS:
                break
            if not self._begin():
                return
        why = f"models.batch: the process of the networks dies again and again: {cause}"
        refuse(self._inbox, PlaceError(why), lambda: self._has_ended)

    def _cause_of_death(self) -> str:
        process = self._process
        while process.is_alive():
            process.join(_LOOK_SECONDS)
            if self._watch.seconds() > self._seconds:
                telemetry.event("networks_overdue", level=logging.WARNING, seconds=self._seconds)
                process.kill()
        code = process.exitcode
        return f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with code {code}"
