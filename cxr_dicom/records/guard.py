"""What several parts of a run hold at once, before it is given to code that is not ours.

Arrays become read-only where they are; a header, which a data set lets anybody change, is given as a copy.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace

from cxr_dicom.records.prediction import ImageAnalysis, Prediction, Radiograph, StudyAnalysis
from cxr_dicom.records.result import InstanceResult, StudyResult
from cxr_dicom.records.study import ChestImage, Skipped


def guarded_radiograph(radiograph: Radiograph) -> Radiograph:
    """Return the radiograph with pixels that cannot be written to, and a header of its own."""
    pixels = radiograph.pixels.view()
    pixels.flags.writeable = False
    return replace(radiograph, pixels=pixels, image=_image(radiograph.image))


def guarded_predictions(predictions: Iterable[Prediction]) -> tuple[Prediction, ...]:
    """Make the arrays of predictions read-only, and return the same predictions."""
    predictions = tuple(predictions)
    for prediction in predictions:
        for array in (*(m.region.pixels for m in prediction.masks), *(h.values for h in prediction.heatmaps)):
            array.flags.writeable = False
        if prediction.embedding is not None:
            prediction.embedding.flags.writeable = False
    return predictions


def guarded_study(study: StudyAnalysis) -> StudyAnalysis:
    """Return the study with headers of its own and arrays that cannot be written to."""
    return replace(study, images=tuple(map(_analysis, study.images)), skipped=tuple(map(_skipped, study.skipped)))


def guarded_result(result: StudyResult) -> StudyResult:
    """Return the result with headers of its own and arrays that cannot be written to."""
    return replace(result, instances=tuple(map(_instance, result.instances)), seconds=dict(result.seconds))


def _image(image: ChestImage) -> ChestImage:
    return replace(image, header=deepcopy(image.header))


def _analysis(analysis: ImageAnalysis) -> ImageAnalysis:
    predictions, seconds = guarded_predictions(analysis.predictions), dict(analysis.seconds)
    return replace(analysis, image=_image(analysis.image), predictions=predictions, seconds=seconds)


def _skipped(skipped: Skipped) -> Skipped:
    return replace(skipped, image=_image(skipped.image)) if skipped.image else skipped


def _instance(result: InstanceResult) -> InstanceResult:
    analysis = _analysis(result.analysis) if result.analysis else None
    image = analysis.image if analysis else result.image and _image(result.image)
    return replace(result, analysis=analysis, image=image)
