"""A connection between a worker and a server: short messages, and shared memory for images and outputs.

Neither the memory nor the connection has a name, so both vanish with the last process that holds them, however it ends.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

Shape = tuple[int, ...]

_ALIGNMENT = 64  # bytes
_MAX_MESSAGE = 1 << 20
_FLOAT32 = 4  # bytes


class ChannelClosedError(Exception):
    """The other end is closed, or sent something invalid."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Shapes of a network's input and outputs for one image, all of them float32."""

    input: Shape  # (1, channels, size, size)
    outputs: tuple[Shape, ...]
    is_tuple: bool  # whether the network returns a tuple, even of one

    @property
    def size(self) -> int:
        """Bytes of shared memory for one image."""
        return _ALIGNMENT + sum(map(_aligned_size, (self.input, *self.outputs)))

    def to_message(self) -> dict[str, Any]:
        """Return what `from_message` reads."""
        return {"input": self.input, "outputs": self.outputs, "is_tuple": self.is_tuple}

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Signature:
        """Read it from a message."""
        outputs = tuple(map(tuple, message["outputs"]))
        return cls(input=tuple(message["input"]), outputs=outputs, is_tuple=message["is_tuple"])


class Channel:
    """One end of a connection, with the shared memory."""

    def __init__(self, connection: socket.socket, descriptor: int) -> None:
        self.connection: Connection[Any, Any] = Connection(connection.detach())
        self._descriptor = descriptor
        self._memory: mmap.mmap | None = None

    def __del__(self) -> None:
        os.close(self._descriptor)

    def close(self) -> None:
        """Close this end; the other end notices."""
        self.connection.close()

    def send(self, message: dict[str, Any]) -> None:
        """Send a message.

        Raises
        ------
        ChannelClosedError
            If the other end is closed.
        """
        try:
            self.connection.send_bytes(json.dumps(message).encode())
        except OSError as error:
            raise ChannelClosedError from error

    def receive(self) -> dict[str, Any]:
        """Wait for a message.

        Raises
        ------
        ChannelClosedError
            If the other end is closed, or sent something invalid.
        """
        try:
            message = json.loads(self.connection.recv_bytes(_MAX_MESSAGE))
        except (EOFError, OSError, ValueError, RecursionError) as error:
            raise ChannelClosedError from error
        if not isinstance(message, dict):
            raise ChannelClosedError
        return message

    def reserve(self, size: int) -> None:
        """Grow the memory to at least so many bytes."""
        if os.fstat(self._descriptor).st_size < size:
            os.ftruncate(self._descriptor, size)

    @property
    def is_computing(self) -> bool:
        """Whether the server computes the image in the memory, or did when it died."""
        return self._map(_ALIGNMENT)[0] != 0

    @is_computing.setter
    def is_computing(self, value: bool) -> None:
        self._map(_ALIGNMENT)[0] = value

    def tensors(self, signature: Signature) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the input and the outputs as they lie in the memory.

        Raises
        ------
        ChannelClosedError
            If the memory is too small for them.
        """
        pixels, *outputs = self._tensors((signature.input, *signature.outputs), signature.size)
        return pixels, outputs

    def _tensors(self, shapes: Sequence[Shape], size: int) -> Iterator[torch.Tensor]:
        import torch

        memory, offset = self._map(size), _ALIGNMENT
        for shape in shapes:
            yield torch.frombuffer(memory, dtype=torch.float32, count=math.prod(shape), offset=offset).view(shape)
            offset += _aligned_size(shape)

    def _map(self, size: int) -> mmap.mmap:
        if self._memory is None or len(self._memory) < size:
            try:
                self._memory = mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size)
            except (OSError, ValueError) as error:
                raise ChannelClosedError from error
        if len(self._memory) < size:
            raise ChannelClosedError
        return self._memory


def _aligned_size(shape: Shape) -> int:
    return -(-math.prod(shape) * _FLOAT32 // _ALIGNMENT) * _ALIGNMENT


def listen() -> tuple[socket.socket, socket.socket]:
    """Make an address that many processes can `connect` to, and the listener that accepts their channels."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)


def connect(address: socket.socket) -> Channel:
    """Open a channel to whoever accepts from the listener of an address.

    Raises
    ------
    ChannelClosedError
        If the listener is closed.
    """
    ours, theirs = socket.socketpair()
    channel = Channel(ours, _anonymous_memory())
    channel.reserve(_ALIGNMENT)
    with theirs:
        try:
            socket.send_fds(address, [b"channel"], [theirs.fileno(), channel._descriptor])
        except OSError as error:
            raise ChannelClosedError from error
    return channel


def accept(listener: socket.socket) -> Channel | None:
    """Accept the next channel; None where its descriptors did not arrive."""
    _, descriptors, _, _ = socket.recv_fds(listener, 16, 2, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    if len(descriptors) != 2:
        for descriptor in descriptors:
            os.close(descriptor)
        return None
    connection, memory = descriptors
    return Channel(socket.socket(fileno=connection), memory)


def _anonymous_memory() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("cxr-dicom")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
