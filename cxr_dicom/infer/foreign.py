"""A model of another package, held to what `infer.base.Model` says.

It gets copies of what others use too, its answer is checked and copied, and whatever it raises is the
failure of one image. Its package and version stand in the version of the model, and so in every object.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from cxr_dicom.errors import CxrDicomError, ModelError, SettingsError
from cxr_dicom.infer.base import Model
from cxr_dicom.infer.contract import problem, problem_of_info
from cxr_dicom.plugins import Choice
from cxr_dicom.records import Heatmap, Mask, Prediction, Radiograph
from cxr_dicom.records.guard import guarded_predictions, guarded_radiograph
from cxr_dicom.system import telemetry


class ForeignModel:
    """See the module.

    Raises
    ------
    SettingsError
        If it does not describe itself as the model that was chosen.
    """

    def __init__(self, model: Model, choice: Choice) -> None:
        self._model = model
        self._name = f"{choice.name} of {choice.package}"
        if wrong := problem_of_info(getattr(model, "info", None)):
            raise SettingsError(f"models.names: {self._name}: info: {wrong}")
        self._own = own = model.info
        if own.name != choice.name:
            raise SettingsError(f"models.names: {self._name}: info: expected the name {choice.name}, got {own.name}")
        self.info = replace(own, version=f"{own.version} ({choice.package})")

    def predict(self, radiograph: Radiograph, earlier: Sequence[Prediction]) -> Prediction:
        """Predict on one radiograph.

        Raises
        ------
        ModelError
            If the model fails in any way, or says what it may not say.
        """
        try:
            made = self._model.predict(guarded_radiograph(radiograph), guarded_predictions(earlier))
        except (CxrDicomError, KeyboardInterrupt):
            raise
        except BaseException as error:  # not ours: `sys.exit` in it must not end a worker
            raise ModelError(f"{self._name}: {telemetry.safe_description(error)}") from error
        if wrong := problem(made, self._own, radiograph.image):
            raise ModelError(f"{self._name}: {wrong}")
        masks = tuple(map(_mask, made.masks))
        vector = None if made.embedding is None else np.array(made.embedding)
        heatmaps = tuple(map(_heatmap, made.heatmaps))
        return replace(made, model=self.info, masks=masks, heatmaps=heatmaps, embedding=vector)

    def close(self) -> None:
        """Give memory back; what goes wrong there changes no result."""
        try:
            self._model.close()
        except Exception as error:
            telemetry.failure("close", error)


def _mask(mask: Mask) -> Mask:
    """With an array that nobody else has: a model may use its memory again for the next image."""
    return replace(mask, region=replace(mask.region, pixels=np.array(mask.region.pixels, order="C")))


def _heatmap(heatmap: Heatmap) -> Heatmap:
    return replace(heatmap, values=np.array(heatmap.values, order="C"))
