"""A device that computes, and copies to it and back: on CUDA beside computing, elsewhere the same without streams."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from cxr_dicom.infer.device import titled

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

Stream: TypeAlias = "torch.cuda.Stream | None"  # None: the device has none


class Device:
    """One device. In float32 throughout: with TF32, answers would move by what is left of their neighbours."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.title = titled(name)  # with which GPU it is, for their answers differ in the last bits
        self._has_streams = name.startswith("cuda")
        if self._has_streams:
            torch.cuda.set_device(name)  # else pinned memory would be that of the first GPU, and take some of it
        self.computing = self.stream()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def stream(self) -> Stream:
        """Make a stream."""
        return torch.cuda.Stream(self.name) if self._has_streams else None  # type: ignore[no-untyped-call]

    def on(self, stream: Stream) -> AbstractContextManager[Any]:
        """Let a stream do what the block asks for."""
        return torch.cuda.stream(stream)

    def wait(self, stream: Stream) -> None:
        """Wait until a stream has done all."""
        if stream is not None:
            stream.synchronize()

    def host_memory(self, shape: Sequence[int]) -> torch.Tensor:
        """Make memory of zeros on this side, from which and to which the device copies by itself."""
        return torch.zeros(tuple(shape), pin_memory=self._has_streams)

    def fetched(self, found: torch.Tensor, stream: Stream) -> torch.Tensor:
        """Copy an answer to this side."""
        here = self.host_memory(found.shape)
        with self.on(stream):
            here.copy_(found, non_blocking=True)
        self.wait(stream)
        return here

    def after_failure(self) -> None:
        """Give memory back that nobody needs, or end this process where the device answers no more."""
        if not self._has_streams:
            return
        try:
            torch.cuda.synchronize(self.name)
            torch.cuda.empty_cache()
        except RuntimeError:
            os._exit(1)
