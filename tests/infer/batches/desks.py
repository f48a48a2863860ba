"""Networks that misbehave, and a desk in a process of its own that has them."""

import multiprocessing
import os
import signal
import threading

import torch

from cxr_dicom.config import Settings
from cxr_dicom.infer.batches.asker import Asker
from cxr_dicom.infer.batches.desk import Desk
from cxr_dicom.infer.batches.device import Device
from cxr_dicom.infer.batches.line import pair
from cxr_dicom.infer.batches.network import Network
from cxr_dicom.infer.batches.process import READY, Order
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
        self.prove(most, "cpu")
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


def order(inbox):
    return Order(
        settings=SETTINGS,
        names=(),
        device="cpu",
        inbox=inbox,
        watch=Watch(),
        progress=multiprocessing.get_context("spawn").RawArray("Q", 2),
        log=None,
    )


_OPEN = []  # until the tests end: nothing closes a desk but the end of its process


class CountingDesk(Desk):
    """Counts who came."""

    came = 0

    def _take_in(self, line):
        is_held = super()._take_in(line)
        self.came += is_held
        return is_held


def open_here(*networks):
    """Serve in threads of this process; return who asks, and the desk."""
    asked, inbox = pair()
    desk = CountingDesk(order(inbox), Device("cpu"), networks)
    _OPEN.append((asked, inbox))
    threading.Thread(target=desk.serve, daemon=True).start()
    return Asker([asked]), desk


def main(order, parent):
    """Be the process of a network that dies at one value."""
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    networks = [Fatal()]
    order.progress[READY] += 1
    Desk(order, Device("cpu"), networks).serve()


def stillborn(order, parent):
    """Be a process that dies before it is ready."""
    os._exit(3)


def hanging(order, parent):
    """Be the process of a network that never answers."""
    threading.Thread(target=end_with, args=(parent,), daemon=True).start()
    network = Twice()
    if not order.progress[READY]:
        network.gate.clear()
    order.progress[READY] += 1
    Desk(order, Device("cpu"), [network]).serve()


def end_with(parent):
    try:
        parent.recv_bytes()
    except (EOFError, OSError):
        os._exit(0)
