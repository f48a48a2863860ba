"""What experts drew and measured, from DICOM: Segmentations, RT Structure Sets, and Structured Reports.

Outlines come back on the matrix of the image that they refer to. A radiograph has no position in space: contours
of an RT Structure Set are taken in the plane in which viewers place it, the centre of the first pixel at 0, 0 and
columns and rows along x and y (see ``encode/geometry.py``).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from cxr_dicom.infer.cxas_structures import STRUCTURES as CXAS
from cxr_dicom.infer.models import chestx_det
from cxr_dicom.records import MANUFACTURER
from cxr_dicom.records.plane import Region, Shape
from cxr_dicom.results.evaluate.truth import TruthError, stable

MAX_BYTES = 512_000_000  # of one file, and of its pixels unpacked
MAX_DEPTH = 20  # of a report's tree
MAX_POINTS = 1_000_000  # of one contour

Meaning = tuple[str, str, str]  # what is measured, site, laterality: Code Meanings in small letters


@dataclass(frozen=True, kw_only=True, eq=False)
class Polygon:
    """A closed line, in pixels or in millimetres."""

    points: NDArray[np.float64]  # (n, 2) column and row; see `in_mm`
    in_mm: bool  # x and y from the centre of the first pixel; else pixels from its top left corner


@dataclass(frozen=True, kw_only=True, eq=False)
class Outline:
    """What one expert drew of one structure: either pixels, or polygons whose inside counts by the even-odd rule."""

    region: Region | None = None
    polygons: tuple[Polygon, ...] = ()

    def on(self, shape: Shape, spacing: tuple[float, float] | None) -> Region | str:
        """Return the pixels on a matrix of ``shape``, or why that cannot be."""
        if self.region is not None:
            if self.region.shape != shape:
                return "its matrix is not that of the image"
            return self.region
        inside = np.zeros(shape, bool)
        for polygon in self.polygons:
            points = polygon.points
            if polygon.in_mm:
                if spacing is None:
                    return "it is in mm, and the image has no spacing"
                points = points / (spacing[1], spacing[0]) + 0.5
            inside ^= filled(points, shape)
        return Region.from_matrix(inside)


@dataclass(kw_only=True, eq=False)
class Experts:
    """Outlines and numbers by image."""

    source: str
    files: int = 0  # that say something of an image
    outlines: dict[str, dict[str, list[Outline]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    numbers: dict[str, list[tuple[Meaning, str, float]]] = field(default_factory=lambda: defaultdict(list))  # UCUM unit
    unread: Counter[str] = field(default_factory=Counter)  # why a file was not used -> files
    unnamed: Counter[str] = field(default_factory=Counter)  # why a structure was not used -> structures


def read_experts(paths: Iterable[Path], source: str) -> Experts:
    """Read files of DICOM; what says nothing of an image is counted.

    Raises
    ------
    TruthError
        If no file could be used.
    """
    experts = Experts(source=source)
    for path in paths:
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ValueError("larger than 512 MB")
            dataset = dcmread(path)
            reader = _READERS.get(str(dataset.get("Modality", "")))
            if reader is None:
                experts.unread["neither SEG, RTSTRUCT nor SR"] += 1
                continue
            if str(dataset.get("Manufacturer", "")) == MANUFACTURER:
                experts.unread["made by this program, not by an expert"] += 1
                continue
            reader(dataset, experts)
            experts.files += 1
        except InvalidDicomError:
            experts.unread["not DICOM"] += 1
        except OSError as error:
            experts.unread[f"cannot be opened: {error.strerror or type(error).__name__}"] += 1
        except Exception as error:  # what others wrote may fail in any way, and its text may hold patient data
            experts.unread[f"cannot be understood: {type(error).__name__}"] += 1
    if not experts.outlines and not experts.numbers:
        why = ", ".join(f"{count} {problem}" for problem, count in experts.unread.items())
        raise TruthError(f"{source}: expected SEG, RTSTRUCT or SR about images, found none ({why or 'no file'})")
    return experts


def dicom_files(path: Path) -> Iterator[Path]:
    """Yield the file, or the files below a folder, in order."""
    if path.is_file():
        yield path
    else:
        yield from sorted(file for file in path.rglob("*") if file.is_file())


# --- segmentations -------------------------------------------------------------------------------


def _segmentation(dataset: Dataset, experts: Experts) -> None:
    shape = (int(dataset.Rows), int(dataset.Columns))
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    if shape[0] * shape[1] * count > MAX_BYTES:
        raise ValueError("too many pixels")
    segments = {int(segment.SegmentNumber): segment for segment in dataset.SegmentSequence}
    names = {number: _segment_name(segment) for number, segment in segments.items()}
    frames = dataset.pixel_array.reshape(count, *shape)
    kind = str(dataset.get("SegmentationType", "BINARY"))
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or [Dataset()] * count
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [Dataset()])[0]
    found: dict[tuple[str, int], NDArray[np.bool_]] = {}
    for frame, groups in zip(frames, per_frame, strict=True):
        uid = _source(groups) or _source(shared) or _only_source(dataset)
        if not uid:
            raise ValueError("no source image")
        if kind == "LABELMAP":
            parts = {number: frame == number for number in segments if number}
        else:
            identification = groups.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
            threshold = int(dataset.get("MaximumFractionalValue", 1)) / 2 if kind == "FRACTIONAL" else 0
            parts = {int(identification[0].ReferencedSegmentNumber): frame > threshold}
        for number, inside in parts.items():
            known = found.get((uid, number))
            found[uid, number] = inside if known is None else known | inside
    for (uid, number), inside in found.items():
        experts.outlines[uid][names[number]].append(Outline(region=Region.from_matrix(inside)))


def _source(groups: Dataset) -> str:
    for derivation in groups.get("DerivationImageSequence") or ():
        for source in derivation.get("SourceImageSequence") or ():
            return str(source.ReferencedSOPInstanceUID)
    return ""


def _only_source(dataset: Dataset) -> str:
    """The one image that a whole object refers to; "" where there are several or none."""
    instances = {
        str(reference.ReferencedSOPInstanceUID)
        for series in dataset.get("ReferencedSeriesSequence") or ()
        for reference in series.get("ReferencedInstanceSequence") or ()
    } | {str(reference.ReferencedSOPInstanceUID) for reference in dataset.get("SourceImageSequence") or ()}
    return instances.pop() if len(instances) == 1 else ""


def _segment_name(segment: Dataset) -> str:
    kind = segment.get("SegmentedPropertyTypeCodeSequence")
    side = (kind[0] if kind else segment).get("SegmentedPropertyTypeModifierCodeSequence")
    return _structure(kind, side, str(segment.get("SegmentLabel", "")))


@cache
def _coded() -> dict[tuple[str, str, str], str]:
    """Name of each structure that models know, by code, scheme and code of the side."""
    return {
        (
            structure.type.value,
            structure.type.scheme,
            structure.laterality.value if structure.laterality else "",
        ): structure.name
        for structure in (*CXAS, *chestx_det.STRUCTURES)
    }


def _structure(kind: Sequence[Dataset] | None, side: Sequence[Dataset] | None, label: str) -> str:
    """Name a structure by its code and side, else by its label."""
    if kind:
        laterality = str(side[0].CodeValue) if side else ""
        name = _coded().get((str(kind[0].get("CodeValue", "")), str(kind[0].CodingSchemeDesignator), laterality))
        if name:
            return name
    return stable(label)


# --- RT structure sets ---------------------------------------------------------------------------


def _structure_set(dataset: Dataset, experts: Experts) -> None:
    names = {int(roi.ROINumber): stable(str(roi.get("ROIName", ""))) for roi in dataset.StructureSetROISequence}
    for roi in dataset.ROIContourSequence:
        polygons: dict[str, list[Polygon]] = defaultdict(list)
        for contour in roi.get("ContourSequence") or ():
            if str(contour.ContourGeometricType) not in ("CLOSED_PLANAR", "CLOSEDPLANAR_XOR"):
                experts.unnamed["a contour that is not closed"] += 1
                continue
            (image,) = contour.ContourImageSequence
            points = _points(contour.ContourData, 3)[:, :2]
            polygons[str(image.ReferencedSOPInstanceUID)].append(Polygon(points=points, in_mm=True))
        for uid, drawn in polygons.items():
            experts.outlines[uid][names[int(roi.ReferencedROINumber)]].append(Outline(polygons=tuple(drawn)))


def _points(data: Sequence[Any], size: int) -> NDArray[np.float64]:
    points = np.asarray(data, float).reshape(-1, size)
    if not 3 <= len(points) <= MAX_POINTS or not np.isfinite(points).all():
        raise ValueError("a contour of too few, too many or infinite points")
    return points


def filled(points: NDArray[np.float64], shape: Shape) -> NDArray[np.bool_]:
    """Return the pixels whose centre lies inside of a polygon, by the even-odd rule.

    Parameters
    ----------
    points
        (n, 2) column and row in image-relative coordinates, where the first pixel's centre is (0.5, 0.5).
    shape
        Rows and columns of the result.
    """
    inside = np.zeros(shape, bool)
    ends = np.roll(points, -1, axis=0)
    top = max(0, int(np.floor(points[:, 1].min())))
    bottom = min(shape[0], int(np.ceil(points[:, 1].max())) + 1)
    for row in range(top, bottom):
        y = row + 0.5
        crosses = (points[:, 1] <= y) != (ends[:, 1] <= y)
        (x0, y0), (x1, y1) = points[crosses].T, ends[crosses].T
        at = np.sort(x0 + (y - y0) * (x1 - x0) / (y1 - y0))
        for left, right in at.reshape(-1, 2):
            inside[row, max(0, int(np.ceil(left - 0.5))) : max(0, int(np.ceil(right - 0.5)))] = True
    return inside


# --- structured reports --------------------------------------------------------------------------

_GROUP = "125007"  # Measurement Group, DCM (TID 1410, 1411, 1501)
_SITES = ("363698007", "G-C0E3")  # Finding Site
_SIDES = ("272741003", "G-C171")  # Laterality


def _report(dataset: Dataset, experts: Experts) -> None:
    for group in _groups(dataset, 0):
        _measurements(group, experts)


def _groups(item: Dataset, depth: int) -> Iterator[Dataset]:
    if depth > MAX_DEPTH:
        raise ValueError("a tree that is too deep")
    for child in item.get("ContentSequence") or ():
        if child.get("ValueType") == "CONTAINER" and _concept(child) == _GROUP:
            yield child
        else:
            yield from _groups(child, depth + 1)


def _measurements(group: Dataset, experts: Experts) -> None:
    items = [*_below(group, 0)]
    images = [str(image) for item in items for image in _image(item)]
    if len(set(images)) != 1:
        if any(item.get("ValueType") == "NUM" for item in items):
            experts.unnamed["a measurement that does not say of which image"] += 1
        return
    uid = images[0]
    site = next((item.ConceptCodeSequence for item in items if _concept(item) in _SITES), None)
    side = next((item.ConceptCodeSequence for item in items if _concept(item) in _SIDES), None)
    for item in items:
        kind = item.get("ValueType")
        if kind == "NUM" and item.get("MeasuredValueSequence"):
            measured = item.MeasuredValueSequence[0]
            value, unit = float(measured.NumericValue), str(measured.MeasurementUnitsCodeSequence[0].CodeValue)
            meaning = (_meaning(item.ConceptNameCodeSequence), _meaning(site), _meaning(side))
            if isfinite(value):
                experts.numbers[uid].append((meaning, unit, value))
        elif kind == "SCOORD" and str(item.GraphicType) == "POLYLINE" and len(item.GraphicData) > 6 and site:
            polygon = Polygon(points=_points(item.GraphicData, 2), in_mm=False)
            experts.outlines[uid][_structure(site, side, _sided(site, side))].append(Outline(polygons=(polygon,)))


def _below(item: Dataset, depth: int) -> Iterator[Dataset]:
    if depth > MAX_DEPTH:
        raise ValueError("a tree that is too deep")
    for child in item.get("ContentSequence") or ():
        yield child
        yield from _below(child, depth + 1)


def _image(item: Dataset) -> Iterator[str]:
    if item.get("ValueType") == "IMAGE":
        yield from (str(reference.ReferencedSOPInstanceUID) for reference in item.get("ReferencedSOPSequence") or ())


def _concept(item: Dataset) -> str:
    name = item.get("ConceptNameCodeSequence")
    return str(name[0].get("CodeValue", "")) if name else ""


def _meaning(codes: Sequence[Dataset] | None) -> str:
    return str(codes[0].get("CodeMeaning", "")).strip().lower() if codes else ""


def _sided(site: Sequence[Dataset], side: Sequence[Dataset] | None) -> str:
    return f"{_meaning(side)} {_meaning(site)}".strip()


_READERS: Mapping[str, Any] = {"SEG": _segmentation, "RTSTRUCT": _structure_set, "SR": _report}
