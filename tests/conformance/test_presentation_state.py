"""Presentation states, checked and shown by DCMTK."""

import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw

from cxr_dicom import synthetic
from cxr_dicom.records import ObjectKind
from tests import painted

SOURCES = {
    "DX": {},
    "CR, MONOCHROME1": {"modality": "CR", "photometric": "MONOCHROME1"},
    "no spacing": {"PixelSpacing": None, "ImagerPixelSpacing": None},
    "no window": {"WindowCenter": None, "WindowWidth": None},
    "sigmoid": {"VOILUTFunction": "SIGMOID"},
    "damaged window": {"WindowCenter": 5, "WindowWidth": 0},
}
_FINE = 4


@pytest.fixture(scope="module", params=SOURCES.values(), ids=SOURCES)
def analysis(request, chest_image):
    return painted.analysis(chest_image(synthetic.radiograph(480, 400, **request.param)))


@pytest.fixture(scope="module")
def state(analysis, encode):
    (written,) = encode(painted.study(analysis), "presentation_state")
    assert written.kind is ObjectKind.PRESENTATION_STATE
    return written.path


def drawn(dataset, name):
    """The polylines of one structure, filled: Pillow on a finer matrix, compared at the centres of the pixels."""
    (area,) = dataset.DisplayedAreaSelectionSequence
    columns, rows = area.DisplayedAreaBottomRightHandCorner
    matrix = np.zeros((rows, columns), bool)
    for graphic in (g for a in dataset.GraphicAnnotationSequence for g in a.get("GraphicObjectSequence", [])):
        if graphic.TrackingID == name:
            points = np.array(graphic.GraphicData).reshape(-1, 2) * _FINE - 0.5
            picture = Image.new("1", (columns * _FINE, rows * _FINE))
            ImageDraw.Draw(picture).polygon([tuple(point) for point in points], fill=1)
            matrix ^= np.asarray(picture)[_FINE // 2 :: _FINE, _FINE // 2 :: _FINE]
    return matrix


def test_dcmpschk_and_dciodvfy_find_no_error(state, tool, validate):
    assert validate([state]) == {}
    output = tool("dcmpschk", state, system=True)
    assert "passed" in output.lower()
    assert "E: " not in output


def test_the_outlines_are_those_of_the_masks(analysis, state):
    dataset = pydicom.dcmread(state)
    for mask in analysis.predictions[0].masks:
        if mask.region.area:
            found, wanted = drawn(dataset, mask.structure.name), mask.region.matrix()
            assert (found & wanted).sum() / (found | wanted).sum() >= 0.98


def test_dcmtk_keeps_what_is_drawn(analysis, state, tool, tmp_path):
    """Its renderer reads the state with the image, and writes both: the picture, and the state as it understood it."""
    source = analysis.image.instance.path
    tool("dcmp2pgm", "-p", state, "+S", tmp_path / "again.dcm", source, tmp_path / "out.pgm", system=True)
    again, ours = pydicom.dcmread(tmp_path / "again.dcm"), pydicom.dcmread(state)
    layers = [layer.GraphicLayer for layer in again.GraphicLayerSequence]
    assert layers == ["PAINTED_ANATOMY", "PAINTED_SCORES"]
    for one, other in zip(again.GraphicAnnotationSequence, ours.GraphicAnnotationSequence, strict=True):
        assert [g.GraphicData for g in one.get("GraphicObjectSequence", [])] == [
            g.GraphicData for g in other.get("GraphicObjectSequence", [])
        ]
        assert [t.UnformattedTextValue for t in one.TextObjectSequence] == [
            t.UnformattedTextValue for t in other.TextObjectSequence
        ]
    picture = np.asarray(Image.open(tmp_path / "out.pgm")).astype(float)
    assert picture.shape == analysis.image.shape


def test_dcmtk_shows_the_grays_of_the_image(analysis, state, tool, tmp_path):
    """With the state as without it: nothing of the image changes but for what lies over it."""
    source = analysis.image.instance.path
    tool("dcmp2pgm", "-p", state, source, tmp_path / "with.pgm", system=True)
    shown = np.asarray(Image.open(tmp_path / "with.pgm")).astype(float)
    if analysis.image.header.get("WindowWidth") == 0:
        assert shown.std() > 0, "DCMTK refuses the image as it is, and shows it with the state"
        return
    tool("dcmp2pgm", source, tmp_path / "without.pgm", system=True)
    plain = np.asarray(Image.open(tmp_path / "without.pgm")).astype(float)
    assert np.corrcoef(shown.ravel(), plain.ravel())[0, 1] > 0.999


def test_text_says_the_ratio_and_that_it_is_not_for_clinical_use(analysis, state):
    texts = [
        t.UnformattedTextValue for a in pydicom.dcmread(state).GraphicAnnotationSequence for t in a.TextObjectSequence
    ]
    ratio = next(m for m in analysis.predictions[0].measurements if m.name == "cardiothoracic_ratio")
    assert f"Cardiothoracic ratio {ratio.value:.2f}" in texts[0]
    assert "Pleural effusion 0.56" in texts[1]
    assert all("not for clinical use" in text for text in texts)


def test_lines_of_the_ratio_are_drawn(analysis, state):
    graphics = [g for a in pydicom.dcmread(state).GraphicAnnotationSequence for g in a.get("GraphicObjectSequence", [])]
    for line in (m for m in analysis.predictions[0].measurements if len(m.points) == 2):
        (found,) = [g for g in graphics if g.TrackingID == line.name]
        assert found.GraphicData == [value for point in line.points for value in point]


def test_it_is_small(state):
    assert state.stat().st_size < 20_000
