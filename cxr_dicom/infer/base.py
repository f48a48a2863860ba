"""The contract between the pipeline and a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from cxr_dicom.records import ModelInfo, Prediction, Radiograph


class Model(Protocol):
    """One network with its weights, labels and preprocessing, loaded and ready.

    An implementation must provide:

    - Masks on the source matrix as stored, and heatmaps with a grid that says where their samples lie on it: it
      undoes its own crop, pad and resize, and `records.plane.Orientation.to_source` undoes the turn.
    - The same answer to the same pixels, whatever came before and whatever runs beside it: no state between
      images, no random numbers, no clock. `predict` may be called from two threads at once.
    - Names that `ModelInfo.predicts` lists, each once, in lower case with underscores; a code for each of them.
    - Scores, probabilities and heatmaps of 0 to 1, as finite floats; what was not found is an empty mask, or none.
    - Nothing of the patient in a warning or an error.

    It is built in each process by ``build(name, settings)``, and is never pickled. What it gets is read-only or a
    copy; what it gives is checked, copied, and marked with its package and version. `synthetic.contract.check_model`
    tries all of this.
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
            What the models before this one predicted for the same radiograph, in the order of the settings.

        Raises
        ------
        ModelError
            If the network fails; the text holds no patient data.
        """

    def close(self) -> None:
        """Release memory. Called once, at the end."""
