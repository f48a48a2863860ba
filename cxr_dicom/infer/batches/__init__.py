"""Networks in one process that all workers of a machine share: it computes in batches what they ask.

A GPU is at work only where batches are full, and memory holds the networks once. Workers read, prepare, interpret and
write; between them and the process lies memory that both see (`line`).

A batch always has the same shape; places that nobody needs stay black. So an answer does not depend on the neighbours
of an image, and hardly on its place; the process proves it when it starts (`network.Network.prove`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from cxr_dicom.errors import SettingsError
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    import torch

    from cxr_dicom.config import ModelSettings, Settings

    Compute = Callable[[torch.Tensor], Any]  # of (1, channels, size, size); gives a tensor or a tuple of tensors

TOLERANCE = 1e-3  # between answers to the same image alone and in batches, of the deviation of their numbers


class Side(Protocol):
    """One of the two sides: a worker, or the process with the networks."""

    def near(self, settings: Settings) -> Settings:
        """Return the settings with which a model is built on this side."""

    def take(self, compute: Compute, info: ModelInfo, channels: int) -> Compute:
        """Take a network that was loaded, and return how it is computed from here."""


_side: ContextVar[Side | None] = ContextVar("side", default=None)


@contextmanager
def building(side: Side | None) -> Iterator[None]:
    """Build the models in the block for one side; None: each process computes its own networks."""
    token = _side.set(side)
    try:
        yield
    finally:
        _side.reset(token)


def near(settings: Settings) -> Settings:
    """Return the settings with which a model that `in_batches` takes is built here."""
    side = _side.get()
    return side.near(settings) if side else settings


def in_batches(compute: Compute, info: ModelInfo, models: ModelSettings, channels: int) -> tuple[Compute, ModelInfo]:
    """Compute a network in batches; see `infer.backend.on_backend`.

    Raises
    ------
    SettingsError
        If it cannot be, here or by this backend.
    """
    side = _side.get()
    if side is None:
        raise SettingsError("models.batch: only `run` with the engines here and local computes in batches; expected 1")
    if models.backend != "torch":
        raise SettingsError("models.batch: OpenVINO computes one image at a time; expected 1")
    if info.input_size is None:
        raise SettingsError(f"models.batch: {info.name} has no input size; expected 1")
    version = f"{info.version}; batches of {models.batch}, within {TOLERANCE:g} SD"
    return side.take(compute, info, channels), replace(info, version=version)
