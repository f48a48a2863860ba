"""The boxes of one model on one image, in a report of their own: each is the Image Region of a group (TID 1410).

Of their own, because Slicer's plugin for reports asks the source of an Image Region for its position in space, which
no radiograph has, and does not load such a report.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import highdicom.sr as hd

from cxr_dicom.config import Settings
from cxr_dicom.encode import results
from cxr_dicom.encode import sr_tree as tree
from cxr_dicom.encode.base import Encoded
from cxr_dicom.encode.identity import tracking_uid
from cxr_dicom.encode.sr_measurements import one_report
from cxr_dicom.records import ChestImage, Code, Detection, ImageAnalysis, ObjectKind, Prediction, WrittenObject

_CERTAINTY = Code(value="111012", scheme="DCM", meaning="Certainty of Finding")
_PERCENT = Code(value="%", scheme="UCUM", meaning="Percent")


def detection_reports(
    analysis: ImageAnalysis, prediction: Prediction, earlier: Sequence[WrittenObject], settings: Settings, most: int
) -> Iterator[Encoded]:
    """Yield the report of what a model found in boxes; none without a box."""
    for part in results.detection_reports(analysis, prediction, earlier, settings, most):
        groups = [_box(analysis.image, detection, prediction) for detection in part.rows]
        yield one_report(ObjectKind.DETECTION_REPORT, analysis.image, [prediction.model], settings, part, groups)


def _box(image: ChestImage, detection: Detection, prediction: Prediction) -> hd.ContentItem:
    """A box, what is in it, and how certain the network is of it."""
    title = f"{detection.title} {detection.number}"
    return tree.group(
        tracking_uid(image, prediction.model, detection.key),
        title,
        [
            tree.finding(detection.code),
            *tree.sites(detection.site),
            *tree.bounding_box(image, detection.corners),
            *tree.algorithm(prediction.model),
            tree.number(_CERTAINTY, 100 * detection.score, _PERCENT),
            tree.comment(f"{title}: {detection.score:.2f}"),
        ],
        template="1410",
    )
