"""Where the workers' images arrive in the process with the networks, and from where their answers leave."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from typing import Any

from cxr_dicom.infer import choose
from cxr_dicom.infer.batches import building, near
from cxr_dicom.infer.batches.batch import Batch
from cxr_dicom.infer.batches.device import Device
from cxr_dicom.infer.batches.line import BrokenLineError, Line, next_of
from cxr_dicom.infer.batches.network import Network, Networks
from cxr_dicom.infer.batches.process import ANSWERED, Order
from cxr_dicom.infer.batches.turns import Question, Turns
from cxr_dicom.system import telemetry
from cxr_dicom.system.loading import loading

_AT_ONCE = 3  # batches: one is gathered, one computed, and of one the answers are copied


def loaded(order: Order) -> list[Network]:
    """Load the networks, and prove that they answer in batches as they do alone.

    Raises
    ------
    SettingsError, WeightsError
        If one cannot be loaded, or does not.
    """
    networks = Networks(order.device)
    with loading(), building(networks):
        settings = near(order.settings)
        for name in order.names:
            choose(name, settings).build("models.names", name, settings)
    for network in networks.loaded:
        network.prove(order.settings.models.batch, order.device)
    return networks.loaded


class Desk:
    """Takes in images, lets the networks compute them, and gives the answers out."""

    def __init__(self, order: Order, device: Device, networks: Sequence[Network]) -> None:
        self._order = order
        self._device = device
        self._networks = {network.info.name: network for network in networks}
        self._turns = Turns()
        self._gathering = threading.Lock()
        self._greeting = {
            "device": device.title,
            "weights": {network.info.name: network.info.weights_sha256 for network in networks},
            "networks": {network.info.name: network.form.told() for network in networks},
        }

    def serve(self) -> None:
        """Go on for ever."""
        for _ in range(_AT_ONCE):
            threading.Thread(target=self._compute, daemon=True).start()
        with _fatal():
            self._take_in_all()

    def _take_in_all(self) -> None:
        lines: dict[Any, Line] = {}
        while True:
            for ready in wait([self._order.inbox, *lines]):
                if ready is self._order.inbox:
                    self._greet(lines)
                elif not self._take_in(lines[ready]):
                    lines.pop(ready).close()

    def _greet(self, lines: dict[Any, Line]) -> None:
        """Take a line that somebody asks for."""
        if line := next_of(self._order.inbox):
            lines[line.connection] = line
            with suppress(BrokenLineError):  # heard again, and seen then
                line.tell(self._greeting)

    def _take_in(self, line: Line) -> bool:
        """Take in an image; tell whether it was one."""
        try:
            heard = line.hear()
            network = self._networks[heard["network"]]
            pixels, room = line.arrays(network.form)
        except (BrokenLineError, KeyError, TypeError):
            return False
        is_alone = bool(heard.get("is_alone"))
        self._turns.come(Question(line=line, network=network.info.name, is_alone=is_alone, pixels=pixels, room=room))
        return True

    def _compute(self) -> None:
        """Gather a batch, compute it when its turn comes, and answer it while others do the same."""
        copying = self._device.stream()
        with _fatal():
            while True:
                with self._gathering:
                    batch = self._gathered(copying)
                with self._order.watch.item():
                    found = batch.compute()
                self._turns.end()
                batch.answer(found)
                self._order.progress[ANSWERED] += len(batch.questions)

    def _gathered(self, copying: Any) -> Batch:
        """Gather a batch until its turn comes."""
        first = self._turns.first()
        batch = Batch(self._networks[first.network], self._device, copying)
        batch.add(first)
        while more := self._turns.next(first, has_room=batch.has_room):
            batch.add(more)
        return batch


@contextmanager
def _fatal() -> Iterator[None]:
    """End this process, which will be started again, when something fails of which no image is the cause."""
    try:
        yield
    except BaseException as error:
        telemetry.failure("networks", error)
        os._exit(1)
