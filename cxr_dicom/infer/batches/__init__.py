"""A server process that computes the networks for all workers of a machine, in batches.

A GPU is busy only with full batches, and its memory then holds each network once. Workers read, prepare, interpret and
write. They exchange images and outputs with the server through shared memory (`channel`).

A batch always has the same shape; unused places stay black. So an output does not depend on the other images in the
batch, and hardly on its place in it. The server verifies this when it starts (`network.Network.verify`).
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

TOLERANCE = 1e-3  # between the outputs for an image alone and in a batch, in standard deviations of the output


class Endpoint(Protocol):
    """One end of the connection: a worker's client, or the server."""

    def local_settings(self, settings: Settings) -> Settings:
        """Return the settings with which a model is built at this end."""

    def register(self, compute: Compute, info: ModelInfo, channels: int) -> Compute:
        """Take a network that was loaded, and return the function that computes it from this end."""


_endpoint: ContextVar[Endpoint | None] = ContextVar("endpoint", default=None)


@contextmanager
def building_for(endpoint: Endpoint | None) -> Iterator[None]:
    """Build the models in the block for an endpoint; None: this process computes its own networks."""
    token = _endpoint.set(endpoint)
    try:
        yield
    finally:
        _endpoint.reset(token)


def local_settings(settings: Settings) -> Settings:
    """Return the settings with which a model that is computed in batches is built here."""
    endpoint = _endpoint.get()
    return endpoint.local_settings(settings) if endpoint else settings


def in_batches(compute: Compute, info: ModelInfo, models: ModelSettings, channels: int) -> tuple[Compute, ModelInfo]:
    """Compute a network in batches; see `infer.backend.on_backend`.

    Raises
    ------
    SettingsError
        If that is not possible here, or with this backend.
    """
    endpoint = _endpoint.get()
    if endpoint is None:
        raise SettingsError("models.batch: only `run` with the engines here and local computes in batches; expected 1")
    if models.backend != "torch":
        raise SettingsError("models.batch: OpenVINO computes one image at a time; expected 1")
    if info.input_size is None:
        raise SettingsError(f"models.batch: {info.name} has no input size; expected 1")
    version = f"{info.version}; batches of {models.batch}, within {TOLERANCE:g} SD"
    return endpoint.register(compute, info, channels), replace(info, version=version)
