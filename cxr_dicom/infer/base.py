"""What a model owes to the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cxr_dicom.records import ModelInfo, Prediction, Radiograph


class Model(Protocol):
    """One network with its weights, labels and preprocessing, loaded and ready.

    An implementation undoes its own crop, pad and resize: masks come back on the source matrix
    as stored, heatmaps with their grid on it. It keeps no state between images, and gives the
    same answer to the same pixels.
    """

    @property
    def info(self) -> ModelInfo:
        """What made the prediction, the digest of the weights included."""

    def predict(self, radiograph: Radiograph, earlier: Sequence[Prediction]) -> Prediction:
        """Predict on one radiograph.

        Parameters
        ----------
        radiograph
            Decoded pixels in the standard view.
        earlier
            What the models before this one said of the same radiograph, in the order of the config.

        Raises
        ------
        ModelError
            If the network fails; the text holds no patient data.
        """

    def close(self) -> None:
        """Give memory back. Called once, at the end."""
