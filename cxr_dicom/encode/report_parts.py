"""Which measurement groups stand in one report, and which need another.

Slicer shows a report as a table: a row for each group, under the columns of the first one. Then it gives the tracking
UID of its n-th row to the n-th segment of the segmentation that was loaded last, whichever that is, and raises where
there are more rows than segments (DICOMTID1500Plugin, Slicer/Slicer at 583e9b37). So the rows of a report have the same
columns, and are no more than the smallest segmentation of the study has segments. One report is enough for nearly
every study.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from cxr_dicom.config import Settings
from cxr_dicom.encode.segments import plan_segmentations
from cxr_dicom.records import ImageAnalysis

Row = TypeVar("Row")


def most_rows(images: Iterable[ImageAnalysis], settings: Settings) -> int:
    """Return the number of segments of the smallest segmentation of a study, which no report exceeds."""
    if "seg" not in settings.encode.written:
        return sys.maxsize
    plans = (
        plan
        for analysis in images
        for prediction in analysis.predictions
        for plan in plan_segmentations(analysis, prediction, settings)
    )
    return min((len(plan.masks) for plan in plans), default=sys.maxsize)


def parts(columns: Mapping[Row, Sequence[Hashable]], most: int) -> list[list[Row]]:
    """Return the rows of each report, in their order.

    Parameters
    ----------
    columns
        What the numbers of a row are, in order: its quantities and units.
    most
        How many rows a report may have, 1 or more.
    """
    found: list[list[Row]] = []
    for row, heads in columns.items():
        for part in found:
            if len(part) < most and list(columns[part[0]][: len(heads)]) == list(heads):
                part.append(row)
                break
        else:
            found.append([row])
    return found
