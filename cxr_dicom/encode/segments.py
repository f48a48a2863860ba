"""Which segmentations an image gets, and which structure is which segment.

Reports ask here for the UIDs of segmentations that they cite.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
from pydicom.uid import UID, SegmentationStorage

from cxr_dicom.config import Settings
from cxr_dicom.encode.identity import Identity, Reference, image_identity
from cxr_dicom.encode.numbers import is_line, structure_numbers
from cxr_dicom.records import ImageAnalysis, Mask, ObjectKind, Prediction
from cxr_dicom.records.plane import Region

SegmentationType = Literal["BINARY", "LABELMAP"]

LABEL_MAP_STORAGE = UID("1.2.840.10008.5.1.4.1.1.66.7")  # Label Map Segmentation Storage, newer than pydicom 3.0
_MAX_LABELS = 255  # of an 8-bit label map; 0 is the background
_label_maps: WeakKeyDictionary[ImageAnalysis, dict[Prediction, list[list[Mask]]]] = WeakKeyDictionary()


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentationPlan:
    """One segmentation to be: segment ``i + 1`` is ``masks[i]``."""

    type: SegmentationType
    masks: tuple[Mask, ...]
    identify: Callable[[], Identity]

    @cached_property
    def identity(self) -> Identity:
        """Its UIDs; not all who plan ask for them."""
        return self.identify()

    @property
    def reference(self) -> Reference:
        """How a report cites it; BINARY and LABELMAP are two SOP Classes."""
        return Reference(SegmentationStorage if self.type == "BINARY" else LABEL_MAP_STORAGE, self.identity)


def plan_segmentations(
    analysis: ImageAnalysis, prediction: Prediction, settings: Settings
) -> Iterator[SegmentationPlan]:
    """Yield the segmentations of one model on one image; none when every mask is empty.

    BINARY holds all structures. A LABELMAP holds structures that do not overlap; each further
    set of disjoint structures has its own, with no fewer structures than the reports of the model have
    groups, as far as they fit: Slicer raises when one with fewer is loaded before such a report. ``auto``
    takes LABELMAP where Columns is not a multiple of 8: there Weasis up to 4.6.6 unpacks BINARY
    wrongly, and OHIF 3.13 where Rows x Columns is not.
    """
    masks = tuple(mask for mask in prediction.masks if mask.region.area)
    if not masks:
        return
    for kind in _types(settings, analysis.image.shape):
        for number, group in enumerate([masks] if kind == "BINARY" else _sets(analysis, prediction), start=1):
            identify = partial(
                image_identity, ObjectKind.SEGMENTATION, analysis, [prediction], settings, f"{kind} {number}"
            )
            yield SegmentationPlan(type=kind, masks=tuple(group), identify=identify)


def citable_segmentations(
    analysis: ImageAnalysis, prediction: Prediction, settings: Settings
) -> list[SegmentationPlan]:
    """Return those whose segments a report may cite: readers and validators know segments of BINARY only."""
    if "seg" not in settings.encode.written:
        return []
    return [plan for plan in plan_segmentations(analysis, prediction, settings) if plan.type == "BINARY"]


def _sets(analysis: ImageAnalysis, prediction: Prediction) -> list[list[Mask]]:
    """The structures of each label map of a prediction; reports ask for them too."""
    found = _label_maps.setdefault(analysis, {})
    if prediction not in found:
        lines = sum(is_line(measurement) for measurement in prediction.measurements)
        least = max(lines, len(structure_numbers(analysis, prediction)))
        found[prediction] = filled(disjoint([mask for mask in prediction.masks if mask.region.area]), least)
    return found[prediction]


def filled(groups: Sequence[Sequence[Mask]], least: int) -> list[list[Mask]]:
    """Give sets of disjoint masks that have fewer than ``least`` some of those that have more, where they fit."""
    places = {id(mask): place for place, mask in enumerate(mask for group in groups for mask in group)}
    levelled = [list(group) for group in groups]
    for small in sorted(levelled, key=len):
        for large in sorted(levelled, key=len, reverse=True):
            for mask in large[::-1]:
                if len(small) >= least or len(large) <= least:
                    break
                if not any(_overlap(mask.region, other.region) for other in small):
                    large.remove(mask)
                    small.append(mask)
    return [sorted(group, key=lambda mask: places[id(mask)]) for group in levelled]


def _overlap(one: Region, other: Region) -> bool:
    """Whether two regions share a pixel."""
    top, left = max(one.box.top, other.box.top), max(one.box.left, other.box.left)
    bottom, right = min(one.box.bottom, other.box.bottom), min(one.box.right, other.box.right)
    if top >= bottom or left >= right:
        return False
    shared = (
        region.pixels[top - region.box.top : bottom - region.box.top, left - region.box.left : right - region.box.left]
        for region in (one, other)
    )
    return bool(np.logical_and(*shared).any())


def disjoint(masks: Sequence[Mask]) -> list[list[Mask]]:
    """Split masks into as few sets without overlap as a greedy pass finds, in their order."""
    groups: list[list[Mask]] = []
    painted: list[np.ndarray] = []
    for mask in masks:
        box, pixels = mask.region.box.slices, mask.region.pixels
        for group, plane in zip(groups, painted, strict=True):
            if len(group) < _MAX_LABELS and not (plane[box] & pixels).any():
                break
        else:
            group, plane = [], np.zeros(mask.region.shape, bool)
            groups.append(group)
            painted.append(plane)
        group.append(mask)
        plane[box] |= pixels
    return groups


def _types(settings: Settings, shape: tuple[int, int]) -> tuple[SegmentationType, ...]:
    match settings.encode.segmentation:
        case "binary":
            return ("BINARY",)
        case "labelmap":
            return ("LABELMAP",)
        case "both":
            return ("BINARY", "LABELMAP")
    return ("LABELMAP",) if shape[1] % 8 else ("BINARY",)
