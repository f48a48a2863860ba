"""A network that draws a radiograph anew: what it cannot draw differs from what it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cxr_dicom.dicom.codes import private
from cxr_dicom.infer.device import running
from cxr_dicom.records import Code, Heatmap, Measurement, ModelInfo, Prediction, Radiograph

if TYPE_CHECKING:
    import torch

FULL_RANGE = 2048  # of grey values: -1024 to 1024

DEFINITION = (
    "Absolute difference between the radiograph and its reconstruction, as a fraction of the full range of grey "
    "values. 0: drawn as it is; 1: black for white."
)

_MAP = private("RECON_ERROR", "Reconstruction error")
_MEAN = private("RECON_ERROR_MEAN", "Mean reconstruction error")
_NO_UNITS = Code(value="1", scheme="UCUM", meaning="no units")


@dataclass(frozen=True, kw_only=True, eq=False)
class Autoencoder:
    """A network with its reconstruction."""

    info: ModelInfo
    redraw: Callable[[torch.Tensor], torch.Tensor]  # (1, 1, size, size), -1024 to 1024, to the same
    device: str

    def predict(self, radiograph: Radiograph, earlier: Sequence[Prediction]) -> Prediction:
        """Map the error, and give its mean as one score."""
        with running(self.info, radiograph, self.device) as (pixels, placement):
            error = ((pixels - self.redraw(pixels)).abs() / FULL_RANGE)[0, 0].clamp(max=1).cpu().numpy()
        heatmap = Heatmap(
            name="reconstruction_error",
            title="Reconstruction error",
            quantity=_MAP,
            definition=DEFINITION,
            values=placement.to_source(error),
            grid=placement.grid(error.shape),
        )
        score = Measurement(
            name="mean_reconstruction_error",
            code=_MEAN,
            value=float(error.mean()),
            unit=_NO_UNITS,
            method="Mean over the square that the network sees; 0 to 1, higher is more unlike its training images",
        )
        return Prediction(model=self.info, heatmaps=(heatmap,), measurements=(score,))

    def close(self) -> None:
        """Nothing to give back but the memory of the network, which goes with this object."""
