"""Between a worker and the process with the networks: short messages, and memory that both see for the numbers.

The memory has no name, and the connection none either: both go with the last process that holds them, however it ends.
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

_ALIGNED = 64  # bytes between the beginnings of arrays are a multiple of this
_LONGEST_MESSAGE = 1 << 20
_NUMBER = 4  # bytes of a float32


class BrokenLineError(Exception):
    """The other side is gone, or says what nobody understands."""


@dataclass(frozen=True, kw_only=True)
class Form:
    """What goes into a network for one image and what comes out, all of them float32."""

    question: Shape  # (1, channels, size, size)
    answers: tuple[Shape, ...]
    is_tuple: bool  # even of one

    @property
    def size(self) -> int:
        """Bytes of memory for one image."""
        return _ALIGNED + sum(map(_room, (self.question, *self.answers)))

    def told(self) -> dict[str, Any]:
        """Return it for a message."""
        return {"question": self.question, "answers": self.answers, "is_tuple": self.is_tuple}

    @classmethod
    def heard(cls, told: dict[str, Any]) -> Form:
        """Read it from a message."""
        return cls(
            question=tuple(told["question"]), answers=tuple(map(tuple, told["answers"])), is_tuple=told["is_tuple"]
        )


class Line:
    """One side of a connection, with the memory."""

    def __init__(self, connection: socket.socket, descriptor: int) -> None:
        self.connection: Connection[Any, Any] = Connection(connection.detach())
        self._descriptor = descriptor
        self._memory: mmap.mmap | None = None

    def __del__(self) -> None:
        os.close(self._descriptor)

    def close(self) -> None:
        """Let the other side see that this one is gone."""
        self.connection.close()

    def tell(self, message: dict[str, Any]) -> None:
        """Say something.

        Raises
        ------
        BrokenLineError
            If nobody hears it.
        """
        try:
            self.connection.send_bytes(json.dumps(message).encode())
        except OSError as error:
            raise BrokenLineError from error

    def hear(self) -> dict[str, Any]:
        """Wait for what the other side says.

        Raises
        ------
        BrokenLineError
            If it is gone.
        """
        try:
            heard = json.loads(self.connection.recv_bytes(_LONGEST_MESSAGE))
        except (EOFError, OSError, ValueError, RecursionError) as error:
            raise BrokenLineError from error
        if not isinstance(heard, dict):
            raise BrokenLineError
        return heard

    def make_room(self, size: int) -> None:
        """Make the memory so large, where it is smaller."""
        if os.fstat(self._descriptor).st_size < size:
            os.ftruncate(self._descriptor, size)

    @property
    def is_at_work(self) -> bool:
        """Whether the image that lies in the memory is, or was, being computed."""
        return self._seen(_ALIGNED)[0] != 0

    @is_at_work.setter
    def is_at_work(self, value: bool) -> None:
        self._seen(_ALIGNED)[0] = value

    def arrays(self, form: Form) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the question and the answers as they lie in the memory.

        Raises
        ------
        BrokenLineError
            If the other side made no room for them.
        """
        question, *answers = self._arrays((form.question, *form.answers), form.size)
        return question, answers

    def _arrays(self, shapes: Sequence[Shape], size: int) -> Iterator[torch.Tensor]:
        import torch

        memory, at = self._seen(size), _ALIGNED
        for shape in shapes:
            yield torch.frombuffer(memory, dtype=torch.float32, count=math.prod(shape), offset=at).view(shape)
            at += _room(shape)

    def _seen(self, size: int) -> mmap.mmap:
        if self._memory is None or len(self._memory) < size:
            try:
                self._memory = mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size)
            except (OSError, ValueError) as error:
                raise BrokenLineError from error
        if len(self._memory) < size:
            raise BrokenLineError
        return self._memory


def _room(shape: Shape) -> int:
    return -(-math.prod(shape) * _NUMBER // _ALIGNED) * _ALIGNED


def pair() -> tuple[socket.socket, socket.socket]:
    """Make an inbox: what many processes send into the first comes out of the second, message by message."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)


def ask_for(inbox: socket.socket) -> Line:
    """Ask whoever reads an inbox for a line.

    Raises
    ------
    BrokenLineError
        If nobody ever will.
    """
    ours, theirs = socket.socketpair()
    line = Line(ours, _anonymous())
    line.make_room(_ALIGNED)
    with theirs:
        try:
            socket.send_fds(inbox, [b"line"], [theirs.fileno(), line._descriptor])
        except OSError as error:
            raise BrokenLineError from error
    return line


def next_of(inbox: socket.socket) -> Line | None:
    """Take the next line that was asked for; None where it came without what makes one."""
    _, descriptors, _, _ = socket.recv_fds(inbox, 16, 2, getattr(socket, "MSG_CMSG_CLOEXEC", 0))
    if len(descriptors) != 2:
        for descriptor in descriptors:
            os.close(descriptor)
        return None
    connection, memory = descriptors
    return Line(socket.socket(fileno=connection), memory)


def _anonymous() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("cxr-dicom")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
