"""A network in the process that computes batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from cxr_dicom.errors import SettingsError
from cxr_dicom.infer.batches import TOLERANCE
from cxr_dicom.infer.batches.line import Form
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    from cxr_dicom.config import Settings
    from cxr_dicom.infer.batches import Compute

_GREY = 1024.0


class Network:
    """Computes several images at once, each as if it were alone."""

    def __init__(self, compute: Compute, info: ModelInfo, channels: int) -> None:
        assert info.input_size is not None  # noqa: S101  `in_batches` looked
        self.info = info
        self.form = Form(question=(1, channels, info.input_size, info.input_size), answers=(), is_tuple=False)
        self.most = 1  # images in a batch
        self._compute = compute

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute (images, 1, channels, size, size); each output has its images in the first dimension."""
        found = self._found(pixels)
        return found if isinstance(found, tuple) else (found,)

    def prove(self, batch: int, device: str) -> None:
        """Compute so many images of noise together and one of them alone, and compare.

        Raises
        ------
        SettingsError
            If the network cannot compute images together, or its answer depends on that by more than `TOLERANCE`.
        """
        noise = torch.rand((batch, *self.form.question), generator=torch.Generator().manual_seed(1))
        noise = ((noise * 2 - 1) * _GREY).to(device)
        noise[-1] = noise[0]
        where = f"models.batch: {self.info.name} in batches of {batch} on {device}"
        try:
            together, alone = self._found(noise), self(noise[:1])
        except RuntimeError as error:
            raise SettingsError(f"{where}: {str(error).splitlines()[0]}; expected a smaller one") from error
        every = together if isinstance(together, tuple) else (together,)
        moved = max(_moved(all_of, one[0]) for all_of, one in zip(every, alone, strict=True))
        if not moved <= TOLERANCE:
            raise SettingsError(f"{where}: answers move by {moved:.1g} of their deviation; expected 1")
        answers = tuple(tuple(one.shape[1:]) for one in alone)
        self.form = Form(question=self.form.question, answers=answers, is_tuple=isinstance(together, tuple))
        self.most = batch

    def _found(self, pixels: torch.Tensor) -> Any:
        with torch.inference_mode():
            return torch.vmap(self._compute)(pixels)


def _moved(together: torch.Tensor, alone: torch.Tensor) -> float:
    """Greatest difference of the first and the last answer to the one alone."""
    deviation = alone.std() if alone.numel() > 1 else alone.abs()
    return float((together[[0, -1]] - alone).abs().max() / deviation)


class Networks:
    """The networks that are loaded here; see `infer.batches.Side`."""

    def __init__(self, device: str) -> None:
        self._device = device
        self.loaded: list[Network] = []

    def near(self, settings: Settings) -> Settings:
        """Return the settings with the device of this process."""
        return settings.model_copy(update={"models": settings.models.model_copy(update={"device": self._device})})

    def take(self, compute: Compute, info: ModelInfo, channels: int) -> Compute:
        """Keep a network."""
        self.loaded.append(Network(compute, info, channels))
        return compute
