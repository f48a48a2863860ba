"""A scene of 3D Slicer without its windows: `slicer-core` holds Slicer's own MRML nodes and logic.

Files come as dcmqi's programs write them, which is how Slicer's plugins read DICOM objects.
"""

import numpy as np
import slicer
import vtk
from vtkmodules.util.numpy_support import vtk_to_numpy

_LABELS, _SINGLE_FILE = 1, 4  # options of vtkSlicerVolumesLogic::AddArchetypeVolume


class Scene:
    """What Slicer holds of the files that were loaded."""

    def __init__(self):
        vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_ERROR)
        self.scene, self.application = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
        self.application.SetMRMLScene(self.scene)
        self.application.GetColorLogic().SetMRMLScene(self.scene)
        self.application.GetColorLogic().AddDefaultColorNodes()
        self._colours = self._logic(slicer.vtkMRMLColorLogic(), "Colors")  # the application does not keep it alive
        self._volumes = self._logic(slicer.vtkSlicerVolumesLogic(), "Volumes")
        self._segmentations = self._logic(slicer.vtkSlicerSegmentationsModuleLogic(), "Segmentations")

    def volume(self, path):
        """Load a volume."""
        node = self._volumes.AddArchetypeVolume(str(path), "volume", _SINGLE_FILE)
        assert node, f"Slicer does not load {path}"
        return node

    def segmentation(self, paths, names):
        """Load label maps into one segmentation.

        Parameters
        ----------
        paths
            Label maps, one after another.
        names
            For each label map, the name of each of its labels in order.
        """
        node = self.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        for path in paths:
            labels = self._volumes.AddArchetypeVolume(str(path), "labels", _LABELS | _SINGLE_FILE)
            assert labels, f"Slicer does not load {path}"
            assert self._segmentations.ImportLabelmapToSegmentationNode(labels, node)
            self.scene.RemoveNode(labels)
        segmentation, flat = node.GetSegmentation(), [name for each in names for name in each]
        assert segmentation.GetNumberOfSegments() == len(flat)
        for number, name in enumerate(flat):
            segmentation.GetNthSegment(number).SetName(name)
        return node

    def table(self, groups):
        """Make a table of measurement groups: columns of the first, a row for each; return its cells as text."""
        node = self.scene.AddNewNodeByClass("vtkMRMLTableNode")
        for title in ("name", *(item["quantity"]["CodeMeaning"] for item in groups[0]["measurementItems"])):
            node.AddColumn().SetName(title)
        for group in groups:
            row = node.AddEmptyRow()
            node.SetCellText(row, 0, group["TrackingIdentifier"])
            for column, item in enumerate(group["measurementItems"], start=1):
                assert node.SetCellText(row, column, item["value"])
        rows, columns = node.GetNumberOfRows(), node.GetNumberOfColumns()
        return [[node.GetCellText(row, column) for column in range(columns)] for row in range(rows)]

    def _logic(self, logic, name):
        logic.SetMRMLScene(self.scene)
        logic.SetMRMLApplicationLogic(self.application)
        self.application.SetModuleLogic(name, logic)
        return logic


def values_and_place(node):
    """The values of a volume, and the LPS positions of its first voxel and steps in mm."""
    to_world = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(to_world)
    return _values(node.GetImageData()), _place(to_world, (0, 0, 0))


def segments(node):
    """By name of a segment: the pixels of its own box, and the LPS position of the first with the steps in mm."""
    segmentation, found = node.GetSegmentation(), {}
    for number in range(segmentation.GetNumberOfSegments()):
        image, to_world = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
        assert node.GetBinaryLabelmapRepresentation(segmentation.GetNthSegmentID(number), image)
        image.GetImageToWorldMatrix(to_world)
        name = segmentation.GetNthSegment(number).GetName()
        found[name] = _values(image) > 0, _place(to_world, image.GetExtent()[::2])
    return found


def _values(image):
    columns, rows, slices = image.GetDimensions()
    assert slices == 1
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns)


def _place(to_world, first):
    """The LPS position of voxel ``first``, and the steps along columns and rows; Slicer's own are RAS."""
    at = np.array(
        [
            to_world.MultiplyPoint((*voxel, 1))[:3]
            for voxel in (first, np.add(first, (1, 0, 0)), np.add(first, (0, 1, 0)))
        ]
    )
    at *= [-1, -1, 1]
    return at[0], (at[1] - at[0], at[2] - at[0])
