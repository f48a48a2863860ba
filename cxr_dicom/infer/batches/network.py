"""The networks of a server, and the device that computes them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

from cxr_dicom.errors import SettingsError
from cxr_dicom.infer.batches import TOLERANCE
from cxr_dicom.infer.batches.channel import Signature
from cxr_dicom.infer.device import in_float32, titled
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cxr_dicom.config import Settings
    from cxr_dicom.infer.batches import Compute

Stream: TypeAlias = "torch.cuda.Stream | None"  # None: the device has none

_MAX_PIXEL = 1024.0


class Device:
    """Computes, and copies from and to the host: with CUDA in streams side by side, elsewhere one after the other.

    It computes in float32 throughout: with TF32, outputs would depend on the batch.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.title = titled(name)  # with the kind of GPU, for the last bits of outputs depend on it
        self._has_streams = name.startswith("cuda")
        if self._has_streams:
            torch.cuda.set_device(name)  # else pinned memory would belong to the first GPU, and use some of its own
        self.compute_stream = self.stream()
        in_float32()

    def stream(self) -> Stream:
        """Make a stream."""
        return torch.cuda.Stream(self.name) if self._has_streams else None  # type: ignore[no-untyped-call]

    def on(self, stream: Stream) -> AbstractContextManager[Any]:
        """Queue the work of the block on a stream."""
        return torch.cuda.stream(stream)

    def wait(self, stream: Stream) -> None:
        """Wait until a stream has done all its work."""
        if stream is not None:
            stream.synchronize()

    def pinned_zeros(self, shape: Sequence[int]) -> torch.Tensor:
        """Return zeros in host memory that the device can copy from and to by itself."""
        return torch.zeros(tuple(shape), pin_memory=self._has_streams)

    def to_host(self, output: torch.Tensor, stream: Stream) -> torch.Tensor:
        """Copy an output to the host."""
        copy = self.pinned_zeros(output.shape)
        with self.on(stream):
            copy.copy_(output, non_blocking=True)
        self.wait(stream)
        return copy

    def recover(self) -> None:
        """Free unused memory after a failure; end this process if the device no longer works."""
        if not self._has_streams:
            return
        try:
            torch.cuda.synchronize(self.name)
            torch.cuda.empty_cache()
        except RuntimeError:
            os._exit(1)


class Network:
    """Computes several images at once, each as if it were alone."""

    def __init__(self, compute: Compute, info: ModelInfo, channels: int) -> None:
        assert info.input_size is not None  # noqa: S101  checked by `in_batches`
        self.info = info
        self.signature = Signature(input=(1, channels, info.input_size, info.input_size), outputs=(), is_tuple=False)
        self.max_batch = 1
        self._compute = compute

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute (images, 1, channels, size, size); the first dimension of each output counts the images."""
        outputs = self._forward(pixels)
        return outputs if isinstance(outputs, tuple) else (outputs,)

    def verify(self, batch: int, device: str) -> None:
        """Compute a batch of noise and one of its images alone, and compare; then allow batches of this size.

        Raises
        ------
        SettingsError
            If the network cannot compute batches, or the outputs differ by more than `TOLERANCE`.
        """
        noise = torch.rand((batch, *self.signature.input), generator=torch.Generator().manual_seed(1))
        noise = ((noise * 2 - 1) * _MAX_PIXEL).to(device)
        noise[-1] = noise[0]
        where = f"models.batch: {self.info.name} in batches of {batch} on {device}"
        try:
            together, alone = self._forward(noise), self(noise[:1])
        except RuntimeError as error:
            raise SettingsError(f"{where}: {str(error).splitlines()[0]}; expected a smaller one") from error
        outputs = together if isinstance(together, tuple) else (together,)
        difference = max(_difference(batched, one[0]) for batched, one in zip(outputs, alone, strict=True))
        if not difference <= TOLERANCE:
            raise SettingsError(f"{where}: answers move by {difference:.1g} of their deviation; expected 1")
        shapes = tuple(tuple(one.shape[1:]) for one in alone)
        self.signature = Signature(input=self.signature.input, outputs=shapes, is_tuple=isinstance(together, tuple))
        self.max_batch = batch

    def _forward(self, pixels: torch.Tensor) -> Any:
        with torch.inference_mode():
            return torch.vmap(self._compute)(pixels)


def _difference(together: torch.Tensor, alone: torch.Tensor) -> float:
    """Return how far the first and the last output are from the one alone, in its standard deviations."""
    deviation = alone.std() if alone.numel() > 1 else alone.abs()
    return float((together[[0, -1]] - alone).abs().max() / deviation)


class LoadedNetworks:
    """The server's end: the networks that were loaded; see `infer.batches.Endpoint`."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.networks: list[Network] = []

    def local_settings(self, settings: Settings) -> Settings:
        """Return the settings with the device of the server."""
        return settings.model_copy(update={"models": settings.models.model_copy(update={"device": self._device})})

    def register(self, compute: Compute, info: ModelInfo, channels: int) -> Compute:
        """Keep a network."""
        self.networks.append(Network(compute, info, channels))
        return compute
