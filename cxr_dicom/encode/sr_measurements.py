"""What was measured and can be drawn, in two reports of one image and one model: lines, and structures.

OHIF loads such a report when every group has coordinates and no number has more than one SCOORD.
Slicer shows it as a table with the columns of the first group and a row for each, if there are no more
groups than segments and no Image Region. So lines and areas, whose numbers are others, have a
report each; the coordinates are those that a number is inferred from; and a ratio of two lines
stands in the group of the first.
"""

from __future__ import annotations

from collections.abc import Sequence

import highdicom.sr as hd

from cxr_dicom.config import Settings
from cxr_dicom.encode import results
from cxr_dicom.encode import sr_tree as tree
from cxr_dicom.encode.base import Encoded
from cxr_dicom.encode.common import NOT_FOR_CLINICAL_USE, Head, spacing_text
from cxr_dicom.encode.identity import tracking_uid
from cxr_dicom.encode.numbers import is_line, structure_numbers
from cxr_dicom.encode.outline import outlines
from cxr_dicom.encode.segments import SegmentationPlan, citable_segmentations
from cxr_dicom.encode.sr_document import evidence, report_document
from cxr_dicom.encode.succession import Succession
from cxr_dicom.records import ChestImage, Code, ImageAnalysis, Mask, Measurement, ObjectKind, Prediction, WrittenObject

LINES_SERIES_NUMBER = 9008
STRUCTURES_SERIES_NUMBER = 9007
TITLE = Code(value="126000", scheme="DCM", meaning="Imaging Measurement Report")
_LENGTH = Code(value="410668003", scheme="SCT", meaning="Length")

_OHIF_TOOL = "Cornerstone3DTools@^0.1.0"  # how OHIF knows with which tool to draw a group


def measurement_report(
    analysis: ImageAnalysis, prediction: Prediction, earlier: Sequence[WrittenObject], settings: Settings
) -> Encoded | None:
    """Return the report of the lines that a model's masks gave; None when there is none."""
    image = analysis.image
    groups = [_line(image, measurement, prediction) for measurement in prediction.measurements if is_line(measurement)]
    if not groups:
        return None
    place = results.measurement_report(analysis, prediction, earlier, settings)
    head = Head(
        reference=place.reference,
        image=image,
        models=[prediction.model],
        settings=settings,
        modality="SR",
        series_number=LINES_SERIES_NUMBER,
        series_description="Measurements; not for clinical use",
    )
    return _report(ObjectKind.MEASUREMENT_REPORT, head, place, groups)


def structure_report(
    analysis: ImageAnalysis, prediction: Prediction, earlier: Sequence[WrittenObject], settings: Settings
) -> Encoded | None:
    """Return the report of what was measured of a model's structures; None when there is nothing."""
    found = structure_numbers(analysis, prediction)
    if not found:
        return None
    plans = citable_segmentations(analysis, prediction, settings)
    place = results.structure_report(analysis, prediction, earlier, settings)
    head = Head(
        reference=place.reference,
        image=analysis.image,
        models=[outlined.model for outlined in results.structure_predictions(analysis, prediction)],
        settings=settings,
        modality="SR",
        series_number=STRUCTURES_SERIES_NUMBER,
        series_description="Structures; not for clinical use",
    )
    groups = [_structure(analysis.image, mask, numbers, prediction, plans) for mask, numbers in found.items()]
    return _report(ObjectKind.STRUCTURE_REPORT, head, place, groups, plans)


def _report(
    kind: ObjectKind,
    head: Head,
    place: Succession,
    groups: Sequence[hd.ContentItem],
    plans: Sequence[SegmentationPlan] = (),
) -> Encoded:
    image, instance = head.image, head.image.instance
    notes = map(tree.summary, (NOT_FOR_CLINICAL_USE, spacing_text(image)))
    root = tree.report(TITLE, [image], head.models, groups, notes)
    cited = evidence([instance], [plan.reference for plan in plans])
    dataset = report_document(head, root, cited, place.predecessor)
    return Encoded(kind, dataset, (instance.sop_instance_uid,), head.models[0].name)


def _line(image: ChestImage, measurement: Measurement, prediction: Prediction) -> hd.ContentItem:
    """A line with its length, and what derives from it first."""
    label = measurement.code.meaning
    numbers = [_number(image, _LENGTH, measurement, measurement.points)]
    for other in prediction.measurements:
        if other is not measurement and other.value is not None and _line_of(other, prediction) is measurement:
            numbers.append(_number(image, other.code, other))
            label += f"; {other.code.meaning.lower()} {other.value:.2f}"
    return tree.group(
        tracking_uid(image, prediction.model, measurement.name),
        f"{_OHIF_TOOL}:Length:{measurement.code.meaning}",
        [
            tree.finding(measurement.code),
            *tree.sites(measurement.site, measurement.laterality),
            *tree.algorithm(prediction.model),
            *numbers,
            tree.comment(label),
        ],
    )


def _structure(
    image: ChestImage,
    mask: Mask,
    numbers: Sequence[Measurement],
    prediction: Prediction,
    plans: Sequence[SegmentationPlan],
) -> hd.ContentItem:
    """All numbers of a structure, the first with the outline of its greatest part.

    OHIF writes the area inside of the outline beside it: that of the structure. The segmentation
    tracks the structure under the same UID.
    """
    structure, first = mask.structure, numbers[0]
    title = structure.title
    (outline, *_) = outlines(mask.region)
    segments = [tree.segment(plan, structure.name) for plan in plans if mask in plan.masks]
    return tree.group(
        tracking_uid(image, prediction.model, structure.name),
        f"{_OHIF_TOOL}:PlanarFreehandROI:{title}",
        [
            tree.finding(structure.type),
            *tree.sites(structure.type, structure.laterality),
            *([*segments, tree.segmented(image.instance)] if segments else []),
            *tree.algorithm(prediction.model),
            _number(image, first.code, first, outline),
            *(_number(image, number.code, number) for number in numbers[1:]),
            tree.comment(title),
        ],
        template="1411" if segments else "1501",
    )


def _number(
    image: ChestImage, code: Code, measurement: Measurement, points: Sequence[tuple[float, float]] = ()
) -> hd.ContentItem:
    if measurement.value is None:
        raise ValueError(f"{measurement.name} has no value")
    return tree.number(code, measurement.value, measurement.unit, [tree.line(image, points)] if points else ())


def _line_of(measurement: Measurement, prediction: Prediction) -> Measurement | None:
    """Return the line that a number derives from first."""
    origins = (other for other in prediction.measurements if other.name in measurement.derived_from[:1])
    return next((other for other in origins if is_line(other)), None)
