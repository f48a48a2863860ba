"""Which objects an image gets, by reference: the findings report cites what it does not hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.uid import EnhancedSRStorage, ParametricMapStorage, SecondaryCaptureImageStorage

from cxr_dicom.config import Settings
from cxr_dicom.encode.identity import Reference, image_identity
from cxr_dicom.encode.segments import plan_segmentations
from cxr_dicom.encode.succession import Succession, chain, succeed
from cxr_dicom.records import Heatmap, ImageAnalysis, Measurement, ObjectKind, Prediction, WrittenObject


def results(analysis: ImageAnalysis, earlier: Sequence[WrittenObject], settings: Settings) -> Iterator[Reference]:
    """Yield the objects that the settings ask for about one image, but for reports on the study."""
    written = settings.encode.objects
    if "seg" in written:
        for prediction in analysis.predictions:
            yield from (plan.reference for plan in plan_segmentations(analysis, prediction, settings))
    if "sr" in written and drawn_predictions(analysis):
        yield measurement_report(analysis, earlier, settings).reference
    for prediction in analysis.predictions:
        if "parametric-map" in written:
            yield from (parametric_map(analysis, prediction, heatmap, settings) for heatmap in prediction.heatmaps)
        if "secondary-capture" in written:
            yield from (
                secondary_capture(analysis, prediction, name, settings) for name in pictured(analysis, prediction)
            )


def measurement_report(analysis: ImageAnalysis, earlier: Sequence[WrittenObject], settings: Settings) -> Succession:
    """Return the measurement report of one image, and the one that it takes the place of."""
    kind, drawn = ObjectKind.MEASUREMENT_REPORT, drawn_predictions(analysis)
    report = Reference(EnhancedSRStorage, image_identity(kind, analysis, drawn, settings))
    return succeed(report, chain(earlier, kind, analysis.image.instance.sop_instance_uid))


def parametric_map(analysis: ImageAnalysis, prediction: Prediction, heatmap: Heatmap, settings: Settings) -> Reference:
    """Return the parametric map of one heatmap."""
    identity = image_identity(ObjectKind.PARAMETRIC_MAP, analysis, [prediction], settings, heatmap.name)
    return Reference(ParametricMapStorage, identity)


def secondary_capture(analysis: ImageAnalysis, prediction: Prediction, name: str, settings: Settings) -> Reference:
    """Return the secondary capture of picture ``name``."""
    identity = image_identity(ObjectKind.SECONDARY_CAPTURE, analysis, [prediction], settings, name)
    return Reference(SecondaryCaptureImageStorage, identity)


def pictured(analysis: ImageAnalysis, prediction: Prediction) -> list[str]:
    """Name the pictures of a prediction: its anatomy, and each of its heatmaps; none without a preview."""
    if analysis.preview is None:
        return []
    return ["anatomy"] * bool(prediction.masks) + [heatmap.name for heatmap in prediction.heatmaps]


def drawn_predictions(analysis: ImageAnalysis) -> list[Prediction]:
    """Return the predictions with something that a measurement report can draw."""
    return [p for p in analysis.predictions if any(is_box(m) or is_drawn(m, p) for m in p.measurements)]


def is_box(measurement: Measurement) -> bool:
    """Whether the points are a closed outline: a box that is drawn, and a number that is not."""
    return len(measurement.points) > 2 and measurement.value is not None


def is_drawn(measurement: Measurement, prediction: Prediction) -> bool:
    """Whether the value can be stated with a line: its own, or the first that it derives from."""
    return measurement.value is not None and line_of(measurement, prediction) is not None


def line_of(measurement: Measurement, prediction: Prediction) -> Measurement | None:
    """Return the measurement of two points that ``measurement`` is stated with; itself, if it is one."""
    if measurement.points:
        return measurement if len(measurement.points) == 2 else None
    origins = (other for other in prediction.measurements if other.name in measurement.derived_from[:1])
    return next((other for other in origins if len(other.points) == 2), None)


def structure_of(measurement: Measurement, prediction: Prediction) -> str:
    """Return the name of the structure that a box belongs to: ``heart`` of ``heart_area``."""
    names = [mask.structure.name for mask in prediction.masks if measurement.name.startswith(f"{mask.structure.name}_")]
    return max(names, key=len, default=measurement.name)
