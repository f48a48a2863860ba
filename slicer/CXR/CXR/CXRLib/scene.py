"""Put results into a MRML scene: radiograph, structures, heatmaps, lines, boxes, and tables of the numbers.

A radiograph has no position in space. Its first pixel is placed at the origin, rows along the patient's P and columns
along L, one millimetre a pixel where the spacing is not known: as Slicer places a radiograph and cxr-dicom's DICOM
segmentations. Everything else is placed on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import slicer
import vtk
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .analysis import Heatmap, Result, Structure

NOT_FOR_CLINICAL_USE = "Not for clinical use"
HEATMAP_COLOURS = "vtkMRMLColorTableNodeRainbow"
THRESHOLD = 0.25  # below it a heatmap is not drawn, until the user moves the slider
_FOREGROUND_OPACITY = 0.4


@dataclass(kw_only=True)
class Shown:
    """The nodes of one radiograph."""

    radiograph: Any
    segmentations: list[Any] = field(default_factory=list)
    heatmaps: list[Any] = field(default_factory=list)
    markups: list[Any] = field(default_factory=list)
    scores: Any = None
    measurements: Any = None


class Loader:
    """Fills a scene."""

    def __init__(self, scene: Any) -> None:
        self._scene = scene

    def load(self, result: Result) -> Shown:
        """Add the nodes of a radiograph that was processed.

        Raises
        ------
        ValueError
            Where the result has no picture of its radiograph.
        """
        if result.picture is None:
            raise ValueError(f"expected a processed radiograph, got {result.row['outcome']}: {result.row['reason']}")
        rows_mm, columns_mm = result.spacing_mm or (1.0, 1.0)
        place = _Place(rows_mm=rows_mm, columns_mm=columns_mm)
        grey = _picture(result.picture)
        shown = Shown(radiograph=self._volume("Radiograph", grey, place.to_ras()))
        outlined = result.structures()
        for model, structures in outlined.items():
            shown.segmentations.append(self._segmentation(model, structures, place))
        shown.heatmaps = [self._heatmap(heatmap, place) for heatmap in result.heatmaps()]
        masked = {structure.name for structures in outlined.values() for structure in structures}
        boxes = {name: each for name, each in result.row["boxes"].items() if name not in masked}
        shown.markups = [*self._lines(result.row["measurements"], place), *self._boxes(boxes, place)]
        shown.scores = self._table("Scores", _scores(result.row))
        shown.measurements = self._table("Measurements", _measurements(result.row))
        return shown

    def show(self, shown: Shown) -> None:
        """Put a radiograph behind and its first heatmap before, in every slice view of the scene, linked."""
        for node in _nodes(self._scene, "vtkMRMLSliceCompositeNode"):
            node.SetLinkedControl(True)
            node.SetBackgroundVolumeID(shown.radiograph.GetID())
            node.SetForegroundVolumeID(shown.heatmaps[0].GetID() if shown.heatmaps else None)
            node.SetForegroundOpacity(_FOREGROUND_OPACITY if shown.heatmaps else 0)

    def _volume(self, name: str, values: np.ndarray, to_ras: vtk.vtkMatrix4x4) -> Any:
        node = self._scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", self._scene.GenerateUniqueName(name))
        node.SetAndObserveImageData(_image(values, vtk.vtkImageData()))
        node.SetIJKToRASMatrix(to_ras)
        display = self._scene.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
        display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
        display.AutoWindowLevelOff()
        low, high = float(values.min()), float(values.max())
        display.SetWindowLevelMinMax(low, max(high, low + 1e-6))
        node.SetAndObserveDisplayNodeID(display.GetID())
        return node

    def _segmentation(self, model: str, structures: Iterable[Structure], place: _Place) -> Any:
        node = self._scene.AddNewNodeByClass("vtkMRMLSegmentationNode", self._scene.GenerateUniqueName(model))
        node.CreateDefaultDisplayNodes()
        node.GetDisplayNode().SetVisibility2DFill(False)  # outlines leave radiograph and heatmap to be seen
        for structure in structures:
            labelmap = _image(structure.mask.astype(np.uint8), slicer.vtkOrientedImageData())
            labelmap.SetImageToWorldMatrix(place.to_ras())
            colour = [each / 255 for each in structure.colour]
            node.AddSegmentFromBinaryLabelmapRepresentation(labelmap, structure.title, colour)
        return node

    def _heatmap(self, heatmap: Heatmap, place: _Place) -> Any:
        node = self._volume(heatmap.title, heatmap.values, place.to_ras(heatmap.origin, heatmap.step))
        display = node.GetDisplayNode()
        display.SetAndObserveColorNodeID(HEATMAP_COLOURS)
        display.SetWindowLevelMinMax(0, 1)
        display.SetThreshold(THRESHOLD, 1)
        display.SetApplyThreshold(True)
        return node

    def _lines(self, measurements: Mapping[str, Any], place: _Place) -> list[Any]:
        lines = [each for each in measurements.values() if len(each["points"]) == 2]
        return [self._line(each["meaning"], each["points"], place) for each in lines]

    def _line(self, name: str, points: Sequence[Sequence[float]], place: _Place) -> Any:
        node = self._scene.AddNewNodeByClass("vtkMRMLMarkupsLineNode", name)
        node.CreateDefaultDisplayNodes()
        for column, row in points:
            node.AddControlPoint(vtk.vtkVector3d(place.of_point(column, row)))
        node.SetLocked(True)
        return node

    def _boxes(self, boxes: Mapping[str, Any], place: _Place) -> list[Any]:
        return [self._box(name, each["box"], place) for name, each in boxes.items()]

    def _box(self, name: str, box: Sequence[float], place: _Place) -> Any:
        node = self._scene.AddNewNodeByClass("vtkMRMLMarkupsClosedCurveNode", name.replace("_", " ").capitalize())
        node.CreateDefaultDisplayNodes()
        node.SetCurveTypeToLinear()
        left, top, right, bottom = box
        for column, row in ((left, top), (right, top), (right, bottom), (left, bottom)):
            node.AddControlPoint(vtk.vtkVector3d(place.of_point(column, row)))
        node.SetLocked(True)
        return node

    def _table(self, name: str, table: Mapping[str, Sequence[str]]) -> Any:
        node = self._scene.AddNewNodeByClass("vtkMRMLTableNode", self._scene.GenerateUniqueName(name))
        node.SetDescription(NOT_FOR_CLINICAL_USE)
        for title, cells in table.items():
            column = vtk.vtkStringArray()
            column.SetName(title)
            for cell in cells:
                column.InsertNextValue(cell)
            node.AddColumn(column)
        return node


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where the pixels of a radiograph lie: columns go to L and rows to P; the axes of Slicer are R, A, S."""

    rows_mm: float
    columns_mm: float

    def to_ras(
        self, origin: tuple[float, float] = (0.0, 0.0), step: tuple[float, float] = (1.0, 1.0)
    ) -> vtk.vtkMatrix4x4:
        """Return where the samples of a grid lie, whose first sample's corner and steps are given in pixels."""
        matrix = vtk.vtkMatrix4x4()
        matrix.SetElement(0, 0, -step[1] * self.columns_mm)
        matrix.SetElement(1, 1, -step[0] * self.rows_mm)
        right, anterior, _ = self.of_point(origin[1] + step[1] / 2, origin[0] + step[0] / 2)
        matrix.SetElement(0, 3, right)
        matrix.SetElement(1, 3, anterior)
        return matrix

    def of_point(self, column: float, row: float) -> tuple[float, float, float]:
        """Return where a point of the image lies; 0, 0 is the corner of the first pixel (PS3.3 C.18.6.1.1)."""
        return -(column - 0.5) * self.columns_mm, -(row - 0.5) * self.rows_mm, 0.0


def summary(row: Mapping[str, Any]) -> list[str]:
    """Return what a reader must see first: why there is no result, calls by rule, warnings, and whom it is not for."""
    lines = [] if row["outcome"] == "processed" else [f"{row['reason']}: {row['detail']}"]
    lines += [f"{each['meaning']}: {each['call']} ({each['rule']})" for each in row["statements"].values()]
    lines += [f"Warning: {text}" for text in row["warnings"]]
    return [*lines, NOT_FOR_CLINICAL_USE]


def _scores(row: Mapping[str, Any]) -> dict[str, list[str]]:
    scores = sorted(row["scores"].items(), key=lambda item: -item[1]["probability"])
    points = [each["operating_point"] for _, each in scores]
    return {
        "Finding": [name.replace("_", " ").capitalize() for name, _ in scores],
        "Score": [f"{each['probability']:.3f}" for _, each in scores],
        "Operating point": ["" if point is None else f"{point:.3f}" for point in points],
        "Call": [each["call"] for _, each in scores],
        "Model": [each["model"] for _, each in scores],
    }


def _measurements(row: Mapping[str, Any]) -> dict[str, list[str]]:
    measured = list(row["measurements"].values())
    return {
        "Measurement": [each["meaning"] for each in measured],
        "Value": [each["reason"] if each["value"] is None else _plain(each["value"]) for each in measured],
        "Unit": [each["unit"].strip("{}") for each in measured],
        "Site": [" ".join(filter(None, (each["laterality"], each["site"]))) for each in measured],
        "Model": [each["model"] for each in measured],
    }


def _plain(value: float) -> str:
    """Four digits, and areas of many pixels without an exponent."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _picture(path: Any) -> np.ndarray:
    reader = vtk.vtkPNGReader()
    reader.SetFileName(str(path))
    reader.Update()
    image = reader.GetOutput()
    columns, rows, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns)[::-1]  # VTK begins at the bottom


def _image(values: np.ndarray, image: Any) -> Any:
    rows, columns = values.shape
    image.SetDimensions(columns, rows, 1)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(values).ravel(), deep=True))
    return image


def _nodes(scene: Any, class_name: str) -> list[Any]:
    found = scene.GetNodesByClass(class_name)
    return [found.GetItemAsObject(index) for index in range(found.GetNumberOfItems())]
