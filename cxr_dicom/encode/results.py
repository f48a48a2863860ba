"""Which objects an image gets, by reference: the findings report cites what it does not hold."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic

from pydicom import Dataset
from pydicom.uid import (
    EnhancedSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
)

from cxr_dicom.config import Settings
from cxr_dicom.encode.grayscale import set_grayscale
from cxr_dicom.encode.identity import Reference, image_identity
from cxr_dicom.encode.numbers import is_line, line_numbers, structure_numbers
from cxr_dicom.encode.report_parts import Row, most_rows, parts
from cxr_dicom.encode.segments import plan_segmentations
from cxr_dicom.encode.succession import Succession, chain, succeed
from cxr_dicom.records import (
    Code,
    Detection,
    Heatmap,
    ImageAnalysis,
    Mask,
    Measurement,
    ObjectKind,
    Prediction,
    StudyAnalysis,
    WrittenObject,
)

MM2_PER_CM2 = 100
BOXES = "boxes"  # the picture of them


@dataclass(frozen=True, kw_only=True)
class Part(Generic[Row]):
    """One report of those that hold the rows of a table, in general the only one."""

    rows: Sequence[Row]
    number: int  # from 1
    count: int  # of all
    place: Succession

    @property
    def of_all(self) -> str:
        """What a title says of it, such as `` 2 of 3``."""
        return f" {self.number} of {self.count}" if self.count > 1 else ""


def results(study: StudyAnalysis, settings: Settings) -> Iterator[Reference]:
    """Yield the objects that the settings ask for about each image, but for reports on the study."""
    most = most_rows(study.images, settings)
    for analysis in study.images:
        for kind in settings.encode.written:
            if kind in _RESULTS:
                yield from _RESULTS[kind](analysis, study.earlier, settings, most)


def measurement_reports(
    analysis: ImageAnalysis, prediction: Prediction, earlier: Sequence[WrittenObject], settings: Settings, most: int
) -> list[Part[Measurement]]:
    """Return the reports of the lines of one model on one image, and what they take the place of."""
    columns = {
        line: [line.unit, *(_head(number) for number in numbers)] for line, numbers in line_numbers(prediction).items()
    }
    names = {line: line.name for line in columns}
    return _reports_of(ObjectKind.MEASUREMENT_REPORT, analysis, [prediction], earlier, settings, most, columns, names)


def structure_reports(
    analysis: ImageAnalysis, prediction: Prediction, earlier: Sequence[WrittenObject], settings: Settings, most: int
) -> list[Part[Mask]]:
    """Return the reports of what was measured of one model's structures, and what they take the place of."""
    found = structure_numbers(analysis, prediction)
    columns = {mask: list(map(_head, numbers)) for mask, numbers in found.items()}
    names = {mask: mask.structure.name for mask in columns}
    predictions = structure_predictions(analysis, prediction)
    return _reports_of(ObjectKind.STRUCTURE_REPORT, analysis, predictions, earlier, settings, most, columns, names)


def detection_reports(
    analysis: ImageAnalysis, prediction: Prediction, earlier: Sequence[WrittenObject], settings: Settings, _: int
) -> list[Part[Detection]]:
    """Return the report of the boxes of one model on one image; one, however many: Slicer does not load it anyway."""
    columns: dict[Detection, Sequence[Hashable]] = dict.fromkeys(prediction.detections, ())
    names = {detection: detection.key for detection in columns}
    kind = ObjectKind.DETECTION_REPORT
    return _reports_of(kind, analysis, [prediction], earlier, settings, sys.maxsize, columns, names)


def structure_predictions(analysis: ImageAnalysis, prediction: Prediction) -> list[Prediction]:
    """Return the predictions that a structure report is made from, that with the outlines first."""
    reported = {id(number) for numbers in structure_numbers(analysis, prediction).values() for number in numbers}
    rest = (other for other in analysis.predictions if other is not prediction)
    others = [other for other in rest if any(id(measurement) in reported for measurement in other.measurements)]
    return [prediction, *others]


def _head(number: Measurement) -> tuple[Code, Code]:
    return number.code, number.unit


def _reports_of(
    kind: ObjectKind,
    analysis: ImageAnalysis,
    predictions: Sequence[Prediction],
    earlier: Sequence[WrittenObject],
    settings: Settings,
    most: int,
    columns: Mapping[Row, Sequence[Hashable]],
    names: Mapping[Row, str],
) -> list[Part[Row]]:
    split = parts(columns, most)
    before = chain(earlier, kind, analysis.image.instance.sop_instance_uid)
    found = []
    for number, rows in enumerate(split, start=1):
        identity = image_identity(
            kind,
            analysis,
            predictions,
            settings,
            variant="" if number == 1 else f"part {number}",
            content="" if len(split) == 1 else repr([names[row] for row in rows]),
        )
        series = [other for other in before if other.identity.series_instance_uid == identity.series_instance_uid]
        place = succeed(Reference(EnhancedSRStorage, identity), series)
        found.append(Part(rows=rows, number=number, count=len(split), place=place))
    return found


def parametric_map(analysis: ImageAnalysis, prediction: Prediction, heatmap: Heatmap, settings: Settings) -> Reference:
    """Return the parametric map of one heatmap."""
    identity = image_identity(ObjectKind.PARAMETRIC_MAP, analysis, [prediction], settings, heatmap.name)
    return Reference(ParametricMapStorage, identity)


def mapped(analysis: ImageAnalysis, settings: Settings) -> list[tuple[Prediction, Heatmap]]:
    """Return the maps that are written: those of no finding, and of findings that of the highest score or all."""
    maps = [(prediction, heatmap) for prediction in analysis.predictions for heatmap in prediction.heatmaps]
    scores = {
        (prediction.model.name, finding.name): finding.probability
        for prediction in analysis.predictions
        for finding in prediction.findings
    }
    scored = [scores[key] for p, heatmap in maps if (key := (p.model.name, heatmap.name)) in scores]
    if settings.encode.maps == "all" or not scored:
        return maps
    top = next(pair for pair in maps if scores.get((pair[0].model.name, pair[1].name)) == max(scored))
    return [pair for pair in maps if pair is top or (pair[0].model.name, pair[1].name) not in scores]


def presentation_state(analysis: ImageAnalysis, settings: Settings) -> Reference:
    """Return the presentation state of one image."""
    shown_as = Dataset()
    set_grayscale(shown_as, analysis.image.header)
    identity = image_identity(
        ObjectKind.PRESENTATION_STATE, analysis, presented(analysis), settings, content=shown_as.to_json()
    )
    return Reference(GrayscaleSoftcopyPresentationStateStorage, identity)


def presented(analysis: ImageAnalysis) -> list[Prediction]:
    """Return the predictions with something to draw or to call on the image."""
    return [
        p
        for p in analysis.predictions
        if p.findings or p.detections or any(mask.region.area for mask in p.masks) or any(map(is_line, p.measurements))
    ]


def secondary_capture(analysis: ImageAnalysis, prediction: Prediction, name: str, settings: Settings) -> Reference:
    """Return the secondary capture of picture ``name``."""
    identity = image_identity(ObjectKind.SECONDARY_CAPTURE, analysis, [prediction], settings, name)
    return Reference(SecondaryCaptureImageStorage, identity)


def pictured(analysis: ImageAnalysis, prediction: Prediction) -> list[str]:
    """Name the pictures of a prediction: its anatomy, its boxes, each of its heatmaps; none without a preview."""
    if analysis.preview is None:
        return []
    drawn = ["anatomy"] * bool(prediction.masks) + [BOXES] * bool(prediction.detections)
    return drawn + [heatmap.name for heatmap in prediction.heatmaps]


def shown(measurement: Measurement) -> str:
    """Return a value with its unit as people write it: areas in cm2, ratios and scores without a unit."""
    value, unit = measurement.value, measurement.unit.value
    if value is None:
        return f"not measurable: {measurement.reason}"
    if unit == "mm2":
        return f"{value / MM2_PER_CM2:.1f} cm2"
    if unit in ("{ratio}", "1"):
        return f"{value:.2f}"
    return f"{value:.0f} {unit.strip('{}')}"


def _segmentations(
    analysis: ImageAnalysis, _: Sequence[WrittenObject], settings: Settings, most: int
) -> Iterator[Reference]:
    for prediction in analysis.predictions:
        yield from (plan.reference for plan in plan_segmentations(analysis, prediction, settings))


def _reports(
    analysis: ImageAnalysis, earlier: Sequence[WrittenObject], settings: Settings, most: int
) -> Iterator[Reference]:
    for prediction in analysis.predictions:
        for reports in (measurement_reports, structure_reports, detection_reports):
            yield from (part.place.reference for part in reports(analysis, prediction, earlier, settings, most))


def _states(analysis: ImageAnalysis, _: Sequence[WrittenObject], settings: Settings, most: int) -> Iterator[Reference]:
    if presented(analysis):
        yield presentation_state(analysis, settings)


def _maps(analysis: ImageAnalysis, _: Sequence[WrittenObject], settings: Settings, most: int) -> Iterator[Reference]:
    for prediction, heatmap in mapped(analysis, settings):
        yield parametric_map(analysis, prediction, heatmap, settings)


def _pictures(
    analysis: ImageAnalysis, _: Sequence[WrittenObject], settings: Settings, most: int
) -> Iterator[Reference]:
    for prediction in analysis.predictions:
        yield from (secondary_capture(analysis, prediction, name, settings) for name in pictured(analysis, prediction))


_RESULTS: Mapping[str, Callable[[ImageAnalysis, Sequence[WrittenObject], Settings, int], Iterator[Reference]]] = {
    "seg": _segmentations,
    "sr": _reports,
    "presentation-state": _states,
    "parametric-map": _maps,
    "secondary-capture": _pictures,
}
