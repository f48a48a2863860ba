"""What was measured and can be drawn, in two reports of one image and one model: lines, and structures.

OHIF loads such a report when every group has coordinates and no number has more than one SCOORD.
Slicer shows it as a table with the columns of the first group and a row for each, if there are no more
groups than segments and no Image Region. So lines and areas, whose numbers are others, have a
report each; the coordinates are those that a number is inferred from; and a ratio of two lines
stands in the group of the first. Where the rows do not fit into one table, there are several (`report_parts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import highdicom.sr as hd

from cxr_dicom.config import Settings
from cxr_dicom.encode import results
from cxr_dicom.encode import sr_tree as tree
from cxr_dicom.encode.base import Encoded
from cxr_dicom.encode.common import NOT_FOR_CLINICAL_USE, Head, spacing_text
from cxr_dicom.encode.identity import tracking_uid
from cxr_dicom.encode.numbers import line_numbers, structure_numbers
from cxr_dicom.encode.outline import outlines
from cxr_dicom.encode.segments import SegmentationPlan, citable_segmentations
from cxr_dicom.encode.sr_document import evidence, report_document
from cxr_dicom.records import (
    ChestImage,
    Code,
    ImageAnalysis,
    Mask,
    Measurement,
    ModelInfo,
    ObjectKind,
    Prediction,
    WrittenObject,
)

_SERIES = {  # number, and how the description begins
    ObjectKind.MEASUREMENT_REPORT: (9008, "Measurements"),
    ObjectKind.STRUCTURE_REPORT: (9007, "Structures"),
    ObjectKind.DETECTION_REPORT: (9008, "Boxes"),
}
TITLE = Code(value="126000", scheme="DCM", meaning="Imaging Measurement Report")
_LENGTH = Code(value="410668003", scheme="SCT", meaning="Length")

_OHIF_TOOL = "Cornerstone3DTools@^0.1.0"  # how OHIF knows with which tool to draw a group


def measurement_reports(
    analysis: ImageAnalysis, prediction: Prediction, earlier: Sequence[WrittenObject], settings: Settings, most: int
) -> Iterator[Encoded]:
    """Yield the reports of the lines that a model's masks gave, with at most ``most`` lines each; nearly always one."""
    lines = line_numbers(prediction)
    for part in results.measurement_reports(analysis, prediction, earlier, settings, most):
        groups = [_line(analysis.image, line, lines[line], prediction) for line in part.rows]
        yield one_report(ObjectKind.MEASUREMENT_REPORT, analysis.image, [prediction.model], settings, part, groups)


def structure_reports(
    analysis: ImageAnalysis, prediction: Prediction, earlier: Sequence[WrittenObject], settings: Settings, most: int
) -> Iterator[Encoded]:
    """Yield the reports of what was measured of a model's structures, with at most ``most`` of them each."""
    found = structure_numbers(analysis, prediction)
    plans = citable_segmentations(analysis, prediction, settings)
    models = [outlined.model for outlined in results.structure_predictions(analysis, prediction)]
    for part in results.structure_reports(analysis, prediction, earlier, settings, most):
        groups = [_structure(analysis.image, mask, found[mask], prediction, plans) for mask in part.rows]
        yield one_report(ObjectKind.STRUCTURE_REPORT, analysis.image, models, settings, part, groups, plans)


def one_report(
    kind: ObjectKind,
    image: ChestImage,
    models: Sequence[ModelInfo],
    settings: Settings,
    part: results.Part[Any],
    groups: Sequence[hd.ContentItem],
    plans: Sequence[SegmentationPlan] = (),
) -> Encoded:
    """Return the report of these groups on one image, which cites the segmentations of ``plans``."""
    number, title = _SERIES[kind]
    head = Head(
        reference=part.place.reference,
        image=image,
        models=models,
        settings=settings,
        modality="SR",
        series_number=number,
        series_description=f"{title}{part.of_all}; not for clinical use",
    )
    notes = map(tree.summary, (NOT_FOR_CLINICAL_USE, spacing_text(image)))
    root = tree.report(TITLE, [image], models, groups, notes)
    cited = evidence([image.instance], [plan.reference for plan in plans])
    dataset = report_document(head, root, cited, part.place.predecessor)
    return Encoded(kind, dataset, (image.instance.sop_instance_uid,), models[0].name)


def _line(
    image: ChestImage, measurement: Measurement, derived: Iterable[Measurement], prediction: Prediction
) -> hd.ContentItem:
    """A line with its length, and what derives from it first."""
    label = measurement.code.meaning
    numbers = [_number(image, _LENGTH, measurement, measurement.points)]
    for other in derived:
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
            *([*segments, tree.segmented(image.instance)] if segments else []),  # before what TID 1419 has
            *tree.sites(structure.type, structure.laterality),
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
