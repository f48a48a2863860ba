"""A real run in Slicer's own scene: voxel by voxel, point by point, cell by cell."""

import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

SPACING_MM = (0.2, 0.1)


@pytest.fixture(scope="module", autouse=True)
def slicers_own():
    """Slicer's libraries, which take seconds to import: not in a process that only collects."""
    global scenes, slicer, vtk, vtk_to_numpy
    try:
        import slicer
        import vtk
        from CXRLib import scene as scenes
        from vtkmodules.util.numpy_support import vtk_to_numpy
    except ImportError:
        if os.environ.get("CI"):
            raise
        pytest.skip("slicer-core is not installed")


@pytest.fixture(scope="module")
def chest(results):
    (chest,) = [result for result in results if result.picture]
    return chest


@pytest.fixture
def scene():
    scene, application = slicer.vtkMRMLScene(), slicer.vtkSlicerApplicationLogic()
    application.SetMRMLScene(scene)
    colours = application.GetColorLogic()
    colours.SetMRMLScene(scene)
    colours.AddDefaultColorNodes()
    scene.application = application
    return scene


@pytest.fixture(params=[None, SPACING_MM], ids=["no usable spacing", "spacing"])
def result(request, chest):
    return replace(chest, row={**chest.row, "spacing_mm": request.param and list(request.param)})


@pytest.fixture
def shown(scene, result):
    return scenes.Loader(scene).load(result)


def values(image):
    columns, rows, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns)


def position(node, column, row):
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix.MultiplyPoint((column, row, 0, 1))[:3]


def test_the_radiograph_is_there_even_without_a_spacing(shown, result, chest):
    assert np.array_equal(values(shown.radiograph.GetImageData()), np.asarray(Image.open(chest.picture)))
    rows_mm, columns_mm = result.spacing_mm or (1, 1)
    assert position(shown.radiograph, 0, 0) == pytest.approx((0, 0, 0))
    assert position(shown.radiograph, 10, 20) == pytest.approx((-10 * columns_mm, -20 * rows_mm, 0))


def test_segments_are_the_masks_on_the_pixels_of_the_radiograph(shown, chest):
    (node,), (structures,) = shown.segmentations, chest.structures().values()
    assert node.GetDisplayNode().GetVisibility2DOutline()
    assert not node.GetDisplayNode().GetVisibility2DFill()
    for index, structure in enumerate(structures):
        segment = node.GetSegmentation().GetNthSegment(index)
        assert segment.GetName() == structure.title
        assert segment.GetColor() == pytest.approx(np.array(structure.colour) / 255, abs=1e-6)
        image, matrix = slicer.vtkOrientedImageData(), vtk.vtkMatrix4x4()
        assert node.GetBinaryLabelmapRepresentation(node.GetSegmentation().GetNthSegmentID(index), image)
        image.GetImageToWorldMatrix(matrix)
        left, _, top, _ = image.GetExtent()[:4]
        first = matrix.MultiplyPoint((left, top, 0, 1))[:3]
        inverse = vtk.vtkMatrix4x4()
        shown.radiograph.GetRASToIJKMatrix(inverse)
        column, row = np.rint(inverse.MultiplyPoint((*first, 1))[:2]).astype(int)
        there = values(image) > 0
        whole = np.zeros_like(structure.mask)
        whole[row : row + there.shape[0], column : column + there.shape[1]] = there
        assert np.array_equal(whole, structure.mask)


def test_a_heatmap_lies_where_its_samples_were_taken(shown, chest):
    (node,), (heatmap,) = shown.heatmaps, chest.heatmaps()
    assert np.array_equal(values(node.GetImageData()), heatmap.values)
    (top, left), (rows, columns) = heatmap.origin, heatmap.step
    centre = position(shown.radiograph, left + (columns - 1) / 2, top + (rows - 1) / 2)
    assert position(node, 0, 0) == pytest.approx(centre)
    last = position(shown.radiograph, left + 7.5 * columns - 0.5, top + 3.5 * rows - 0.5)
    assert position(node, 7, 3) == pytest.approx(last)
    display = node.GetDisplayNode()
    assert display.GetColorNode() is not None
    assert display.GetApplyThreshold()


def test_lines_touch_the_heart_where_it_was_measured(shown, chest):
    lines = {node.GetName(): node for node in shown.markups}
    assert len(lines) == 2
    measured = chest.row["measurements"]["cardiac_width"]
    line = lines[measured["meaning"]]
    (left, row), (right, _) = measured["points"]
    ends = [line.GetNthControlPointPositionWorld(index) for index in range(2)]
    wanted = [position(shown.radiograph, column - 0.5, row - 0.5) for column in (left, right)]
    assert np.allclose(ends, wanted)


def test_the_length_of_a_line_is_the_number_that_was_measured(scene, chest):
    (line, *_) = scenes.Loader(scene).load(chest).markups
    assert line.GetLineLengthWorld() == pytest.approx(chest.row["measurements"]["cardiac_width"]["value"])


def test_boxes_are_closed_curves_around_their_pixels(scene, chest):
    found = {**chest.row["boxes"], "nodule": {"box": [10, 20, 30, 50], "model": "m"}}
    shown = scenes.Loader(scene).load(replace(chest, row={**chest.row, "boxes": found}))
    box = shown.markups[-1]
    assert box.GetName() == "Nodule"
    corners = [tuple(box.GetNthControlPointPositionWorld(index)) for index in range(4)]
    wanted = [(-x + 0.5, -y + 0.5, 0) for x, y in ((10, 20), (30, 20), (30, 50), (10, 50))]
    assert np.allclose(corners, wanted)
    assert len(shown.markups) == 3  # a structure with a mask needs no box


def test_tables_hold_every_number_with_its_operating_point(scene, chest):
    scores = {
        "effusion": {"probability": 0.2, "operating_point": None, "call": "indeterminate", "model": "m"},
        "mass": {"probability": 0.75, "operating_point": 0.5, "call": "present", "model": "m"},
    }
    shown = scenes.Loader(scene).load(replace(chest, row={**chest.row, "scores": scores}))
    rows = [[shown.scores.GetCellText(row, column) for column in range(5)] for row in range(2)]
    assert rows == [["Mass", "0.750", "0.500", "present", "m"], ["Effusion", "0.200", "", "indeterminate", "m"]]
    measured = shown.measurements
    assert measured.GetNumberOfRows() == len(chest.row["measurements"])
    cells = {measured.GetCellText(row, 0): measured.GetCellText(row, 1) for row in range(measured.GetNumberOfRows())}
    assert cells["Area"].isdigit()
    assert float(cells["Cardiothoracic ratio"]) == pytest.approx(
        chest.row["measurements"]["cardiothoracic_ratio"]["value"], rel=1e-3
    )


def test_views_show_the_radiograph_with_its_heatmap_linked(scene, shown):
    views = [scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode") for _ in range(2)]
    scenes.Loader(scene).show(shown)
    for view in views:
        assert view.GetBackgroundVolumeID() == shown.radiograph.GetID()
        assert view.GetForegroundVolumeID() == shown.heatmaps[0].GetID()
        assert view.GetLinkedControl()


def test_what_was_not_processed_has_nothing_to_show_but_its_reason(scene, results):
    (extremity,) = [result for result in results if not result.picture]
    with pytest.raises(ValueError, match="NOT_CHEST"):
        scenes.Loader(scene).load(extremity)
    said = scenes.summary(extremity.row)
    assert said[0].startswith("NOT_CHEST")
    assert said[-1] == "Not for clinical use"
