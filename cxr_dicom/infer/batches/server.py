"""The server: accepts workers, gathers their images into batches, computes them, and replies."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import wait
from typing import Any, TypeAlias

import torch

from cxr_dicom.infer import choose
from cxr_dicom.infer.batches import building_for, local_settings
from cxr_dicom.infer.batches.channel import Channel, ChannelClosedError, accept
from cxr_dicom.infer.batches.network import Device, LoadedNetworks, Network, Stream
from cxr_dicom.infer.batches.process import ANSWERED, BATCHES, ServerOptions
from cxr_dicom.infer.batches.request_queue import Request, RequestQueue
from cxr_dicom.system import telemetry, watch
from cxr_dicom.system.loading import loading

_Result: TypeAlias = "tuple[Sequence[Request], tuple[torch.Tensor, ...] | str]"

_BEAT_SECONDS = 1.0  # between signs of life of a server that has nothing to do


def load_networks(options: ServerOptions) -> list[Network]:
    """Load the networks, and verify that their outputs do not depend on the batch.

    Raises
    ------
    SettingsError, WeightsError
        If a network cannot be loaded, or its outputs do.
    """
    loaded = LoadedNetworks(options.device)
    with loading(), building_for(loaded):
        settings = local_settings(options.settings)
        for name in options.names:
            choose(name, settings).build("models.names", name, settings)
    for network in loaded.networks:
        network.verify(options.settings.models.batch, options.device)
    return loaded.networks


class Server:
    """Computes the images of all workers."""

    def __init__(self, options: ServerOptions, device: Device, networks: Sequence[Network]) -> None:
        self._options = options
        self._device = device
        self._networks = {network.info.name: network for network in networks}
        self._queue = RequestQueue()
        self._gathering = threading.Lock()
        self._hello = {
            "device": device.title,
            "weights": {network.info.name: network.info.weights_sha256 for network in networks},
            "networks": {network.info.name: network.signature.to_message() for network in networks},
        }

    def serve(self) -> None:
        """Serve forever."""
        for _ in range(BATCHES):
            threading.Thread(target=self._compute, daemon=True).start()
        with _exit_on_error(), self._options.watch.item():
            self._receive_all()

    def _receive_all(self) -> None:
        channels: dict[Any, Channel] = {}
        while True:
            watch.begin()
            for ready in wait([self._options.listener, *channels], _BEAT_SECONDS):
                if ready is self._options.listener:
                    self._accept(channels)
                elif not self._receive(channels[ready]):
                    channels.pop(ready).close()

    def _accept(self, channels: dict[Any, Channel]) -> None:
        if channel := accept(self._options.listener):
            channels[channel.connection] = channel
            with suppress(ChannelClosedError):  # noticed when it is read
                channel.send(self._hello)

    def _receive(self, channel: Channel) -> bool:
        """Receive a request; return whether it was a valid one."""
        try:
            message = channel.receive()
            network = self._networks[message["network"]]
            pixels, outputs = channel.tensors(network.signature)
        except (ChannelClosedError, KeyError, TypeError):
            return False
        is_alone = bool(message.get("is_alone"))
        name = network.info.name
        self._queue.put(Request(channel=channel, network=name, is_alone=is_alone, pixels=pixels, outputs=outputs))
        return True

    def _compute(self) -> None:
        """Gather a batch, compute it in its turn, and reply while other threads do the same."""
        copy_stream = self._device.stream()
        with _exit_on_error(), self._options.watch.item():
            while True:
                watch.pause()
                with self._gathering:
                    batch = self._gather(copy_stream)
                watch.begin()
                results = batch.compute()
                self._queue.end_turn()
                watch.begin()
                batch.reply(results)
                self._options.progress[ANSWERED] += len(batch.requests)

    def _gather(self, copy_stream: Stream) -> Batch:
        """Gather a batch until its turn comes."""
        first = self._queue.get()
        watch.begin()
        batch = Batch(self._networks[first.network], self._device, copy_stream)
        batch.add(first)
        while another := self._queue.get_another(first, has_room=batch.has_room):
            batch.add(another)
        return batch


class Batch:
    """Images for one network. The shape is always the same; unused places are black."""

    def __init__(self, network: Network, device: Device, copy_stream: Stream) -> None:
        self.requests: list[Request] = []
        self._network = network
        self._device = device
        self._copy_stream = copy_stream
        shape = (network.max_batch, *network.signature.input)
        self._on_host = device.pinned_zeros(shape)
        with device.on(copy_stream):
            self._on_device = torch.zeros(shape, device=device.name)

    @property
    def has_room(self) -> bool:
        """Whether there is a place for another image."""
        return len(self.requests) < len(self._on_host)

    def add(self, request: Request) -> None:
        """Put an image into the next place, and start to copy it to the device."""
        place = len(self.requests)
        self.requests.append(request)
        self._on_host[place].copy_(request.pixels)
        with self._device.on(self._copy_stream):
            self._on_device[place].copy_(self._on_host[place], non_blocking=True)

    def compute(self) -> list[_Result]:
        """Compute all images; one at which the network fails has a text in place of outputs."""
        self._mark(is_computing=True)
        self._device.wait(self._copy_stream)
        with self._device.on(self._device.compute_stream):
            results = list(self._results(self._on_device, self.requests))
        self._mark(is_computing=False)
        return results

    def reply(self, results: Sequence[_Result]) -> None:
        """Send each request its outputs."""
        for requests, outputs in results:
            if isinstance(outputs, str):
                for request in requests:
                    request.fail(outputs)
                continue
            on_host = [self._device.to_host(each[: len(requests)], self._copy_stream) for each in outputs]
            for number, request in enumerate(requests):
                request.reply([each[number] for each in on_host])

    def _mark(self, *, is_computing: bool) -> None:
        """Note in shared memory which images may be the cause if this process dies now."""
        for request in self.requests:
            request.channel.is_computing = is_computing

    def _results(self, pixels: torch.Tensor, requests: Sequence[Request]) -> Iterator[_Result]:
        """Compute the images; where that fails, for want of memory or because of one of them, compute each half."""
        if not requests:
            return
        outputs = self._try(pixels)
        if not isinstance(outputs, str) or len(pixels) == 1:
            yield requests, outputs
            return
        half = -(-len(pixels) // 2)
        yield from self._results(pixels[:half], requests[:half])
        yield from self._results(pixels[half:], requests[half:])

    def _try(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...] | str:
        try:
            outputs = self._network(pixels)
            self._device.wait(self._device.compute_stream)
            return outputs
        except torch.OutOfMemoryError:
            self._network.max_batch = max(1, len(pixels) // 2)
            text = "out of memory"
        except RuntimeError as error:
            text = str(error).splitlines()[0]
        except Exception as error:
            text = telemetry.safe_description(error)
        self._device.recover()
        return text


@contextmanager
def _exit_on_error() -> Iterator[None]:
    """End this process, which the supervisor replaces, on an error that no image causes."""
    try:
        yield
    except BaseException as error:
        telemetry.failure("networks", error)
        os._exit(1)
