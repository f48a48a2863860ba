"""The main function of a server's process; PyTorch is imported only there."""

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
from cxr_dicom.infer.batches.channel import ChannelClosedError, accept
from cxr_dicom.system import telemetry
from cxr_dicom.system.limits import allow_descriptors
from cxr_dicom.system.watch import Watch

_THREADS = 1  # of the networks: the last bits of outputs depend on their number
_POLL_SECONDS = 0.2
READY, ANSWERED = range(2)  # indices of `ServerOptions.progress`
BATCHES = 3  # at once: one is gathered, one computed, and the outputs of one are copied
WATCHED = 1 + BATCHES  # threads: one receives, the others compute


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """What a server's process gets when it starts."""

    settings: Settings
    names: tuple[str, ...]  # of the models
    device: str
    listener: socket.socket
    watch: Watch  # of `WATCHED` threads
    progress: MutableSequence[int]  # shared: how often a server became ready, and how many images were answered
    log: tuple[int, bool] | None


def main(options: ServerOptions, parent: Connection[Any, Any]) -> None:
    """Load the networks, and serve until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles it
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(_THREADS)  # before torch is imported
    telemetry.configure_as(options.log)
    allow_descriptors()
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()
    from cxr_dicom.infer.batches.network import Device
    from cxr_dicom.infer.batches.server import Server, load_networks

    device = Device(options.device)
    try:
        networks = load_networks(options)
    except CxrDicomError as error:
        refuse_all(options.listener, error)
    else:
        options.progress[READY] += 1
        Server(options, device, networks).serve()


def refuse_all(listener: socket.socket, error: CxrDicomError, is_over: Callable[[], bool] = lambda: False) -> None:
    """Tell every worker that connects why there are no networks."""
    while not is_over():
        if wait([listener], _POLL_SECONDS) and (channel := accept(listener)):
            with suppress(ChannelClosedError):
                channel.send({"error": type(error).__name__, "text": str(error)})


def _exit_with(parent: Connection[Any, Any]) -> None:
    """End this process when the parent has ended, however it did."""
    try:
        parent.recv_bytes()
    except (EOFError, OSError):
        os._exit(0)
