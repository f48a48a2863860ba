"""A worker's end: sends images to the servers and waits for their outputs."""

from __future__ import annotations

import itertools
import os
import socket
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cxr_dicom.errors import ModelError, PlaceError, SettingsError, WeightsError
from cxr_dicom.infer.batches.channel import Channel, ChannelClosedError, Signature, connect
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    import torch

    from cxr_dicom.config import Settings
    from cxr_dicom.infer.batches import Compute

MAX_TRIES = 3  # of one image, each with a new server
_MAX_REFUSALS = 50  # of a connection in a row: far more than servers that die can cause, for they wait in line
ERRORS = {error.__name__: error for error in (ModelError, PlaceError, SettingsError, WeightsError)}


class Client:
    """Requests outputs; safe to use from several threads, and passed to each worker when it starts.

    Each thread uses a connection of its own while it waits, so a server never has more requests than workers have
    threads.

    Parameters
    ----------
    addresses
        Of the servers; images go to each in turn.
    """

    def __init__(self, addresses: Sequence[socket.socket]) -> None:
        self._addresses = tuple(addresses)
        self._turn = itertools.count(os.getpid())
        self._idle: deque[_Connection] = deque()

    def __reduce__(self) -> tuple[Any, ...]:
        return Client, (self._addresses,)

    @property
    def device(self) -> str:
        """The device of the networks."""
        connection = self._connection()
        self._idle.append(connection)
        return connection.device

    def local_settings(self, settings: Settings) -> Settings:
        """Return the settings of a worker, which keeps the networks off the GPU."""
        return settings.model_copy(update={"models": settings.models.model_copy(update={"device": "cpu"})})

    def register(self, compute: Compute, info: ModelInfo, channels: int) -> Compute:
        """Drop a network, and return a function that lets a server compute it.

        Raises
        ------
        CxrDicomError
            If the server cannot load the network, or loaded other weights.
        """

        def request(pixels: torch.Tensor) -> Any:
            return self._request(info, pixels)

        connection = self._connection()
        self._idle.append(connection)
        if connection.weights.get(info.name) != info.weights_sha256:
            raise WeightsError(f"{info.name}: the weights changed while they were loaded; start again")
        return request

    def _request(self, info: ModelInfo, pixels: torch.Tensor) -> Any:
        crashes = 0
        while crashes < MAX_TRIES:
            connection = self._connection()
            try:
                outputs = connection.request(info.name, pixels, is_alone=crashes > 0)
            except ChannelClosedError:
                crashes += connection.was_computing
                continue
            self._idle.append(connection)
            if isinstance(outputs, str):
                raise ModelError(f"{info.name}: the network failed on {connection.device}: {outputs}")
            return outputs
        raise ModelError(
            f"{info.name}: the process of the networks died {MAX_TRIES} times while it computed this image"
        )

    def _connection(self) -> _Connection:
        """Take an idle connection, or open one; wait while the server starts."""
        for _ in range(_MAX_REFUSALS):
            try:
                return self._idle.pop()
            except IndexError:
                pass
            address = self._addresses[next(self._turn) % len(self._addresses)]
            try:
                channel = connect(address)
            except ChannelClosedError:
                raise PlaceError("the process of the networks was ended") from None
            try:
                hello = channel.receive()
            except ChannelClosedError:  # the server died meanwhile
                continue
            if kind := hello.get("error"):
                raise ERRORS.get(kind, ModelError)(hello["text"])
            return _Connection(channel, hello)
        raise PlaceError("the process of the networks accepts no more workers: open files (ulimit -n) may be too few")


class _Connection:
    """A channel to a server, for one request at a time."""

    def __init__(self, channel: Channel, hello: dict[str, Any]) -> None:
        self.device: str = hello["device"]
        self.weights: dict[str, str | None] = hello["weights"]
        self._channel = channel
        self._signatures = {name: Signature.from_message(each) for name, each in hello["networks"].items()}
        channel.reserve(max((signature.size for signature in self._signatures.values()), default=0))
        self.was_computing = False  # when the server died

    def request(self, name: str, pixels: torch.Tensor, *, is_alone: bool) -> Any:
        """Return the outputs of a network, or why there are none."""
        signature = self._signatures[name]
        if tuple(pixels.shape) != signature.input:
            return f"expected an input of {signature.input}, got {tuple(pixels.shape)}"
        shared_input, shared_outputs = self._channel.tensors(signature)
        self._channel.is_computing = False
        shared_input.copy_(pixels)
        try:
            self._channel.send({"network": name, "is_alone": is_alone})
            reply = self._channel.receive()
        except ChannelClosedError:
            self.was_computing = self._channel.is_computing
            raise
        if "error" in reply:
            return str(reply["error"])
        outputs = tuple(output.clone() for output in shared_outputs)
        return outputs if signature.is_tuple else outputs[0]
