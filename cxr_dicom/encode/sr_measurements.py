"""The measurement report of one image: what was measured and can be drawn.

Every group has coordinates, and a number has one SCOORD at most: OHIF loads such a report as a whole,
and nothing of it otherwise. A ratio of two lines therefore stands in the group of the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import highdicom.sr as hd

from cxr_dicom.config import Settings
from cxr_dicom.encode import results
from cxr_dicom.encode import sr_tree as tree
from cxr_dicom.encode.base import Encoded
from cxr_dicom.encode.common import NOT_FOR_CLINICAL_USE, Head, spacing_text
from cxr_dicom.encode.identity import tracking_uid
from cxr_dicom.encode.sr_document import evidence, report_document
from cxr_dicom.records import ChestImage, Code, ImageAnalysis, Measurement, ObjectKind, Prediction, WrittenObject

SERIES_NUMBER = 9002
TITLE = Code(value="126000", scheme="DCM", meaning="Imaging Measurement Report")
_STRUCTURE = Code(value="91723000", scheme="SCT", meaning="Anatomical Structure")

_OHIF_TOOL = "Cornerstone3DTools@^0.1.0"  # how OHIF knows with which tool to draw a group


def measurement_report(analysis: ImageAnalysis, earlier: Sequence[WrittenObject], settings: Settings) -> Encoded | None:
    """Return the report of one image; None when nothing on it has coordinates."""
    image, drawn = analysis.image, results.drawn_predictions(analysis)
    if not drawn:
        return None
    models = [prediction.model for prediction in drawn]
    root = tree.report(
        TITLE,
        [image],
        models,
        [group for prediction in drawn for group in _groups(image, prediction)],
        [NOT_FOR_CLINICAL_USE, spacing_text(image)],
    )
    place = results.measurement_report(analysis, earlier, settings)
    head = Head(
        reference=place.reference,
        image=image,
        models=models,
        settings=settings,
        modality="SR",
        series_number=SERIES_NUMBER,
        series_description="Measurements; not for clinical use",
    )
    dataset = report_document(head, root, evidence([image.instance]), place.predecessor)
    model = models[0].name if len(models) == 1 else None
    return Encoded(ObjectKind.MEASUREMENT_REPORT, dataset, (image.instance.sop_instance_uid,), model)


def _groups(image: ChestImage, prediction: Prediction) -> Iterator[hd.ContentItem]:
    for measurement in prediction.measurements:
        if measurement.value is None:
            continue
        if results.is_box(measurement):
            yield _box(image, measurement, measurement.value, prediction)
        elif len(measurement.points) == 2:
            yield _line(image, measurement, measurement.value, prediction)


def _line(image: ChestImage, measurement: Measurement, length: float, prediction: Prediction) -> hd.ContentItem:
    """A line with its length, and what derives from it first."""
    name, meaning = measurement.name, measurement.code.meaning
    numbers = [tree.number(measurement.code, length, measurement.unit, [tree.line(image, measurement.points)])]
    for other in prediction.measurements:
        if other is not measurement and other.value is not None and results.line_of(other, prediction) is measurement:
            numbers.append(tree.number(other.code, other.value, other.unit))
            meaning += f"; {other.code.meaning.lower()} {other.value:.2f}"
    return tree.group(
        tracking_uid(image, prediction.model, name),
        f"{_OHIF_TOOL}:Length:{name}",
        [
            *tree.sites(measurement.site, measurement.laterality),
            *tree.algorithm(prediction.model),
            *numbers,
            tree.comment(meaning),
        ],
    )


def _box(image: ChestImage, measurement: Measurement, value: float, prediction: Prediction) -> hd.ContentItem:
    """The box around a structure, with no number: OHIF loads a rectangle only without one.

    The segmentation tracks the structure under the same UID.
    """
    structure = results.structure_of(measurement, prediction)
    title, quantity, unit = structure.replace("_", " ").capitalize(), measurement.code.meaning, measurement.unit.value
    return tree.group(
        tracking_uid(image, prediction.model, structure),
        f"{_OHIF_TOOL}:RectangleROI:{structure}",
        [
            tree.finding(_STRUCTURE),
            *tree.sites(measurement.site, measurement.laterality),
            *tree.algorithm(prediction.model),
            tree.region(image, measurement.points),
            tree.comment(f"{title}, {quantity.lower()} {value:.0f} {unit.strip('{}')}"),
        ],
        template="1410",
    )
