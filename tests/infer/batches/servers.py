"""Networks that misbehave, and a server in a process of its own that has them."""

import multiprocessing
import os
import signal
import threading

import torch

from cxr_dicom.config import Settings
from cxr_dicom.infer.batches.channel import listen
from cxr_dicom.infer.batches.client import Client
from cxr_dicom.infer.batches.network import Device, Network
from cxr_dicom.infer.batches.process import READY, WATCHED, ServerOptions
from cxr_dicom.infer.batches.server import Server
from cxr_dicom.records import ModelInfo
from cxr_dicom.system.watch import Watch

INFO = ModelInfo(
    name="twice",
    version="1",
    title="Doubles",
    predicts=("a",),
    input_size=4,
    manufacturer="Test",
    licence="MIT",
    citation="None",
    weights_sha256="00",
)
FATAL, BAD = 13.0, 7.0
MOST = 4
SETTINGS = Settings.model_validate({"models": {"batch": MOST, "device": "cpu"}})


def image(value):
    return torch.full((1, 1, 4, 4), float(value))


class Twice(Network):
    """Doubles, and notes how many images it saw at once; ``gate`` holds it up."""

    def __init__(self, info=INFO, most=MOST):
        super().__init__(lambda pixels: (pixels * 2, pixels.mean()[None]), info, 1)
        self.verify(most, "cpu")
        self.sizes = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, pixels):
        if hasattr(self, "gate"):
            self.gate.wait(60)
            self.sizes.append(int((pixels.flatten(1).abs().amax(dim=1) > 0).sum()))
            self.fail_at(pixels)
        return super().__call__(pixels)

    def fail_at(self, pixels):
        """Do nothing."""


class Bad(Twice):
    """Fails at one value."""

    def fail_at(self, pixels):
        if (pixels == BAD).any():
            raise RuntimeError("no such number\nof patient X")


class Small(Twice):
    """Has no memory for more than two images."""

    def fail_at(self, pixels):
        if len(pixels) > 2:
            raise torch.OutOfMemoryError("out of memory")


class Fatal(Twice):
    """Dies at one value."""

    def fail_at(self, pixels):
        if (pixels == FATAL).any():
            os.kill(os.getpid(), signal.SIGKILL)


def options(listener):
    return ServerOptions(
        settings=SETTINGS,
        names=(),
        device="cpu",
        listener=listener,
        watch=Watch(WATCHED),
        progress=multiprocessing.get_context("spawn").RawArray("Q", 2),
        log=None,
    )


_OPEN = []  # until the tests end: nothing closes a server but the end of its process


class CountingServer(Server):
    """Counts who came."""

    came = 0

    def _receive(self, channel):
        is_valid = super()._receive(channel)
        self.came += is_valid
        return is_valid


def open_here(*networks):
    """Serve in threads of this process; return who asks, and the server."""
    address, listener = listen()
    server = CountingServer(options(listener), Device("cpu"), networks)
    _OPEN.append((address, listener))
    threading.Thread(target=server.serve, daemon=True).start()
    return Client([address]), server


def main(options, parent):
    """Be the process of a network that dies at one value."""
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    networks = [Fatal()]
    options.progress[READY] += 1
    Server(options, Device("cpu"), networks).serve()


def exiting(options, parent):
    """Be a process that dies before it is ready."""
    os._exit(3)


def hanging(options, parent):
    """Be the process of a network that never answers."""
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    network = Twice()
    if not options.progress[READY]:
        network.gate.clear()
    options.progress[READY] += 1
    Server(options, Device("cpu"), [network]).serve()


def end_with(parent):
    try:
        parent.recv_bytes()
    except (EOFError, OSError):
        os._exit(0)
