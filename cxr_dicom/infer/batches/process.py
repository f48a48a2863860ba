"""The main program of the process with the networks."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, MutableSequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from cxr_dicom.config import Settings
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.infer.batches.line import BrokenLineError, next_of
from cxr_dicom.system import telemetry
from cxr_dicom.system.limits import allow_descriptors
from cxr_dicom.system.watch import Watch

_THREADS = 1  # of the networks: the last bits of an answer depend on their number
_LOOK_SECONDS = 0.2
READY, ANSWERED = range(2)  # places of what is counted


@dataclass(frozen=True, kw_only=True)
class Order:
    """What the process is to do; it goes to it at its start."""

    settings: Settings
    names: tuple[str, ...]  # of the models
    device: str
    inbox: socket.socket
    watch: Watch  # of the batch that is being computed
    progress: MutableSequence[int]  # shared: how often a process was ready, and images that were answered
    log: tuple[int, bool] | None


def main(order: Order, parent: Connection[Any, Any]) -> None:
    """Load the networks, and answer until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(_THREADS)  # before torch is imported
    telemetry.configure_as(order.log)
    allow_descriptors()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    from cxr_dicom.infer.batches.desk import Desk, loaded
    from cxr_dicom.infer.batches.device import Device

    device = Device(order.device)
    try:
        networks = loaded(order)
    except CxrDicomError as error:
        refuse(order.inbox, error)
    else:
        order.progress[READY] += 1
        Desk(order, device, networks).serve()


def refuse(inbox: socket.socket, error: CxrDicomError, is_over: Callable[[], bool] = lambda: False) -> None:
    """Tell everybody who comes why there are no networks."""
    while not is_over():
        if wait([inbox], _LOOK_SECONDS) and (line := next_of(inbox)):
            with suppress(BrokenLineError):
                line.tell({"error": type(error).__name__, "text": str(error)})


def _end_with(parent: Connection[Any, Any]) -> None:
    """Wait for the end of the parent, however it ends."""
    try:
        parent.recv_bytes()
    except (EOFError, OSError):
        os._exit(0)
