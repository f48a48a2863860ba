"""Every object, in every OHIF that is supported: real builds, real archive, real browser."""

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from tests.integration.docs_of_viewers import cell
from tests.integration.score import Screenshot, hue, hue_distance
from tests.integration.studies import spot

STUDIES = ("rg1", "rg1-spaced", "dx", "dx-two-views")
WITH_SPACING = ("rg1-spaced", "dx")
LEAST_IOU = 0.9


@pytest.fixture
def radiograph_is_visible(request, seen):
    """RG1 says Pixel Spacing 0\\0, which OHIF 3.13 cannot place: an expected failure, until it can."""
    if request.node.callspec.params["name"] == "rg1" and "3.13" in seen.name:
        request.applymarker(pytest.mark.xfail(strict=True, reason="black: the source's Pixel Spacing is 0\\0"))


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.usefixtures("radiograph_is_visible")
def test_segmentation_lies_on_the_structures(look, shown, name, record_property):
    told, picture = look(name, "segmentation")
    masks = shown[name].masks
    assert [segment["label"] for segment in told["segments"]] == list(masks)
    screenshot = Screenshot(picture, told["placement"], shown[name].analysis.image.shape)
    overlap = screenshot.of_matrix(sum(mask.astype(int) for mask in masks.values())) > 1
    ious = {}
    for segment in told["segments"]:
        found = screenshot.has_hue_of(segment["colour"])
        ious[segment["label"]] = screenshot.iou(found, screenshot.of_matrix(masks[segment["label"]]), ignore=overlap)
    cell(record_property, f"IoU {min(ious.values()):.2f} to {max(ious.values()):.2f}")
    assert min(ious.values()) >= LEAST_IOU, ious


@pytest.mark.parametrize("name", STUDIES)
def test_segments_have_their_colours(look, shown, name):
    told, _ = look(name, "segmentation")
    colours = {
        mask.structure.title: mask.structure.colour
        for prediction in shown[name].analysis.predictions
        for mask in prediction.masks
    }
    for segment in told["segments"]:
        assert hue_distance(hue(segment["colour"]), hue(colours[segment["label"]])) < 30, segment


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.usefixtures("radiograph_is_visible")
def test_measurement_lines_load_with_their_lengths(look, shown, name, record_property):
    told, _ = look(name, "measurement_report")
    lines = {m["label"]: m for m in told["measurements"] if m["tool"] == "Length"}
    expected = shown[name].measurements
    assert len(lines) == len(expected) > 0
    for measurement in expected:
        (line,) = (line for label, line in lines.items() if label.startswith(measurement.code.meaning))
        assert line["length"] == pytest.approx(measurement.value, rel=1e-3)
    units = {line["unit"] for line in lines.values()}
    cell(record_property, f"{len(lines)} lines, right length, unit shown as {', '.join(units)}")


@pytest.mark.parametrize("name", STUDIES)
def test_outlines_load_with_their_areas(look, shown, name, record_property):
    told, _ = look(name, "structure_report")
    shown_areas = {}
    for labels in (outline["labels"] for outline in told["outlines"] if outline["labels"]):
        said = {each["label"]: each["value"] for each in labels}
        (title,) = said.keys() & shown[name].masks.keys()
        shown_areas[title] = float(said["Area"].split()[0])
    areas = {m.name.removesuffix("_area").replace("_", " ").capitalize(): m.value for m in shown[name].areas}
    assert shown_areas == {title: round(area, 1) for title, area in areas.items()}  # OHIF writes one decimal
    cell(record_property, f"{len(areas)} outlines, right area")


@pytest.mark.parametrize("name", WITH_SPACING)
def test_findings_report_shows_as_text(look, shown, name, record_property):
    told, _ = look(name, "findings_report")
    (text,) = told["text"]
    for wanted in ("Chest Radiograph AI Findings Report", "Not for clinical use", "Rule: Cardiothoracic ratio above"):
        assert wanted in text
    for prediction in shown[name].analysis.predictions:
        for finding in prediction.findings:
            assert f"{finding.probability:.4f}" in text
    cell(record_property, "text")


@pytest.mark.parametrize("name", WITH_SPACING)
def test_secondary_capture_shows(look, shown, name, record_property):
    told, picture = look(name, "secondary_capture")
    dataset = dcmread(shown[name].of_kind("secondary_capture").path)
    screenshot = Screenshot(picture, told["placement"], (dataset.Rows, dataset.Columns))
    truth = dataset.pixel_array.astype(int)[1::3, 1::3]
    seen, wanted = screenshot.pixels[screenshot.visible], truth[screenshot.visible]
    likeness = np.corrcoef(seen.ravel(), wanted.ravel())[0, 1]
    redness = np.corrcoef(seen[:, 0] - seen[:, 2], wanted[:, 0] - wanted[:, 2])[0, 1]
    cell(record_property, f"picture, correlation {likeness:.2f}")
    assert likeness > 0.9
    assert redness > 0.8


@pytest.mark.parametrize("name", ["dx", "dx-two-views"])
def test_parametric_map_of_one_spot_is_warm_there(look, shown, name, record_property):
    told, picture = look(name, "parametric_map")
    shape = shown[name].analysis.image.shape
    screenshot = Screenshot(picture, told["placement"], shape)
    iou = screenshot.iou(screenshot.warm, screenshot.of_matrix(spot(shape, shown[name].heatmap)) > 0.5)
    cell(record_property, f"colour, IoU {iou:.2f}")
    assert iou > LEAST_IOU


@pytest.mark.parametrize("name", ["rg1-spaced"])
def test_parametric_map_of_the_lungs_colours_the_lungs(look, shown, name, record_property):
    told, picture = look(name, "parametric_map")
    masks, shape = shown[name].masks, shown[name].analysis.image.shape
    screenshot = Screenshot(picture, told["placement"], shape)
    iou = screenshot.iou(screenshot.coloured, screenshot.of_matrix(masks["Right lung"] | masks["Left lung"]))
    cell(record_property, f"colour, IoU {iou:.2f}")
    assert iou > 0.8


def test_screenshots_are_not_all_the_same(seen):
    pictures = [np.asarray(Image.open(path)).tobytes() for path in seen.glob("*.png")]
    assert len(set(pictures)) == len(pictures) > 10
