"""Every kind of object that 3D Slicer shows, in Slicer's own scene: voxel by voxel, as drawn, cell by cell."""

import json
import os

import numpy as np
import pytest

from cxr_dicom import synthetic
from cxr_dicom.records import ObjectKind
from tests import painted

SOURCES = {
    "DX": {},
    "CR, MONOCHROME1": {"modality": "CR", "photometric": "MONOCHROME1"},
    "LABELMAP, Imager Pixel Spacing only": {"rows": 97, "columns": 81, "PixelSpacing": None},
    "non-square": {"PixelSpacing": [0.5, 0.25], "ImagerPixelSpacing": [0.5, 0.25]},
    "no spacing": {"PixelSpacing": None, "ImagerPixelSpacing": None},
    "Pixel Spacing 0\\0": {"modality": "CR", "PixelSpacing": [0, 0], "ImagerPixelSpacing": None},
}


@pytest.fixture(scope="module")
def scene():
    try:
        from tests.conformance.slicer_core import Scene
    except ImportError:
        if os.environ.get("CI"):
            raise
        pytest.skip("slicer-core is not installed")
    return Scene()


@pytest.fixture(scope="module", params=SOURCES.values(), ids=SOURCES)
def analysis(request, chest_image):
    kind = dict(request.param)
    image = chest_image(synthetic.radiograph(kind.pop("rows", 96), kind.pop("columns", 80), **kind))
    return painted.analysis(image, (painted.anatomy(image, apart=True), painted.scores(image)))


@pytest.fixture(scope="module")
def objects(analysis, encode):
    return encode(painted.study(analysis))


@pytest.fixture(scope="module")
def view(scene):
    from tests.conformance.slicer_view import SliceView

    return SliceView(scene.scene, scene.application)


def of_kind(objects, kind):
    (found,) = [each.path for each in objects if each.kind is kind]
    return found


@pytest.fixture(scope="module")
def segmentation(scene, objects, tool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmentation")
    path = of_kind(objects, ObjectKind.SEGMENTATION)
    tool("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "--mergeSegments")
    described = json.loads((folder / "meta.json").read_text())["segmentAttributes"]
    names = [[item["TrackingIdentifier"] for item in items] for items in described]
    files = [folder / f"{number}.nrrd" for number in range(1, len(names) + 1)]
    node = scene.segmentation(files, names)
    yield node
    scene.scene.RemoveNode(node)


def test_segments_are_the_masks_where_they_were_painted(segmentation, analysis):
    from tests.conformance.slicer_core import segments

    found, spacing = segments(segmentation), analysis.image.spacing
    masks = {mask.structure.name: mask.region for mask in analysis.predictions[0].masks if mask.region.area}
    assert found.keys() == masks.keys()
    for name, region in masks.items():
        pixels, (first, steps) = found[name]
        assert np.allclose(steps, [(spacing.columns_mm, 0, 0), (0, spacing.rows_mm, 0)])
        left, top = round(first[0] / spacing.columns_mm), round(first[1] / spacing.rows_mm)
        assert np.allclose(first, (left * spacing.columns_mm, top * spacing.rows_mm, 0))
        whole = np.zeros(analysis.image.shape, bool)
        whole[top : top + pixels.shape[0], left : left + pixels.shape[1]] = pixels
        assert np.array_equal(whole, region.matrix()), name


def test_a_slice_view_draws_every_structure_over_the_radiograph(scene, view, segmentation, analysis):
    image = analysis.image
    steps = image.spacing.rows_mm, image.spacing.columns_mm
    radiograph = scene.volume(image.instance.path)
    segmentation.CreateDefaultDisplayNodes()
    display, named = segmentation.GetDisplayNode(), segmentation.GetSegmentation()
    display.SetOpacity2DFill(1)
    display.SetVisibility2DOutline(False)
    display.SetAllSegmentsVisibility(False)
    bare = view.draw(image.shape, steps, radiograph)
    assert bare.std() > 10
    for mask in analysis.predictions[0].masks:
        if mask.region.area:
            display.SetSegmentVisibility(named.GetSegmentIdBySegmentName(mask.structure.name), True)
            drawn = (view.draw(image.shape, steps, radiograph) != bare).any(axis=2)
            display.SetAllSegmentsVisibility(False)
            wanted = np.kron(mask.region.matrix(), np.ones((4, 4), bool))
            assert (drawn & wanted).sum() / (drawn | wanted).sum() >= 0.99, mask.structure.name


@pytest.mark.parametrize("grid", ["float32", "coarse"])
def test_the_map_lies_where_it_was_made(scene, analysis, encode, tool, tmp_path, grid):
    from tests.conformance.slicer_core import values_and_place

    (written,) = encode(painted.study(analysis), "parametric_map", map=grid)
    tool("paramap2itkimage", "--inputDICOM", written.path, "--outputDirectory", tmp_path, "--prefix", "p")
    values, (first, steps) = values_and_place(scene.volume(tmp_path / "p-pmap.nrrd"))
    heatmap, image = analysis.predictions[1].heatmaps[0], analysis.image
    spacing, shape = np.array([image.spacing.columns_mm, image.spacing.rows_mm]), image.shape
    if grid == "float32":
        assert np.abs(values - heatmap.grid.resample(heatmap.values, shape, shape)).max() < 0.00501  # hundredths
        assert np.allclose(first, 0)
        assert np.allclose(steps, [(spacing[0], 0, 0), (0, spacing[1], 0)])
        return
    step, origin = np.array(heatmap.grid.step)[::-1], np.array(heatmap.grid.origin)[::-1]
    assert np.array_equal(values, heatmap.values)
    assert np.allclose(first[:2], (origin + step / 2 - 0.5) * spacing)
    assert np.allclose(steps, [(step[0] * spacing[0], 0, 0), (0, step[1] * spacing[1], 0)])


@pytest.mark.parametrize(
    "kind", [ObjectKind.MEASUREMENT_REPORT, ObjectKind.STRUCTURE_REPORT, ObjectKind.FINDINGS_REPORT]
)
def test_tables_have_all_numbers(scene, analysis, objects, tool, tmp_path, kind):
    path = of_kind(objects, kind)
    tool("tid1500reader", "--inputDICOM", path, "--outputMetadata", tmp_path / "report.json")
    rows = scene.table(json.loads((tmp_path / "report.json").read_text())["Measurements"])
    numbers = [float(cell) for row in rows for cell in row[1:] if cell]
    measured = {m.name: m.value for p in analysis.predictions for m in p.measurements if m.value is not None}
    wanted = {
        ObjectKind.MEASUREMENT_REPORT: [
            *(measured[name] for name in ("cardiac_width", "cardiothoracic_ratio", "thoracic_width")),
        ],
        ObjectKind.STRUCTURE_REPORT: [value for name, value in measured.items() if name.endswith("_area")],
        ObjectKind.FINDINGS_REPORT: [
            *(finding.probability for finding in analysis.predictions[1].findings),
            measured["cardiothoracic_ratio"],
            measured["opacity"],
        ],
    }[kind]
    assert numbers == pytest.approx(wanted, rel=1e-5)
    assert all(row[0] for row in rows)


def test_the_radiograph_itself_is_placed_there_too(scene, analysis):
    from tests.conformance.slicer_core import values_and_place

    _, (first, steps) = values_and_place(scene.volume(analysis.image.instance.path))
    spacing = analysis.image.spacing
    assert np.allclose(first, 0)
    assert np.allclose(steps, [(spacing.columns_mm, 0, 0), (0, spacing.rows_mm, 0)])
