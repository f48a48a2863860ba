"""The pictures of a report hang as radiographs do: window, turn, right side, and a bar where spacing is known."""

import base64
import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cxr_dicom import pictures, synthetic
from cxr_dicom.config import PixelSettings
from cxr_dicom.dicom.codes import WRAPPER
from cxr_dicom.dicom.pixels import read
from cxr_dicom.records import ImageAnalysis
from cxr_dicom.records.plane import Orientation
from cxr_dicom.results import report
from tests import painted

TURNS = [
    Orientation(transpose=t, flip_rows=r, flip_columns=c) for t, r, c in itertools.product((False, True), repeat=3)
]
CORNER = np.s_[:30, :30]  # where the R stands
FOOT = np.s_[-40:, :150]  # where the bar lies


@pytest.fixture
def shown(selected):
    """The radiograph as a report shows it, grey (rows, columns)."""

    def show(dataset):
        image = selected(dataset)
        radiograph = read(image, PixelSettings())
        stored = image.orientation.to_source(radiograph.pixels)
        analysis = ImageAnalysis(
            image=image,
            pixel_sha256="0",
            predictions=(),
            preview=lambda: pictures.preview(stored, window=radiograph.window),
        )
        (figure,) = report.figures(analysis)
        picture = Image.open(io.BytesIO(base64.b64decode(figure["source"].partition(",")[2])))
        return np.asarray(picture.convert("L")).astype(float)

    return show


def chest(**attributes):
    return synthetic.radiograph(320, 256, PixelSpacing=[0.5, 0.5], ImagerPixelSpacing=None, **attributes)


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_a_picture_hangs_the_same_however_it_is_stored(shown, turn):
    upright, turned = shown(chest()), shown(synthetic.turned(chest(), turn))
    assert turned.shape == upright.shape == (320, 256)
    assert np.abs(turned - upright).mean() < 1


@pytest.mark.parametrize(
    ("attributes", "is_marked"),
    [({}, True), ({"PatientOrientation": None}, False), ({"Manufacturer": WRAPPER}, False)],
    ids=str,
)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_right_is_marked_where_the_image_says_which_side_it_is(shown, attributes, is_marked, seed):
    picture = shown(chest(seed=seed, **attributes))
    assert bool(picture[CORNER].max() > 240) is is_marked


@pytest.mark.parametrize("millimetres", [0.5, 1.0])
def test_the_bar_is_five_centimetres(millimetres):
    black = np.zeros((320, 256, 3), np.uint8)
    picture = pictures.annotated(black, marks_right=False, pixel_mm=millimetres)
    row = picture[320 - 6, :, 0]
    assert abs(np.count_nonzero(row > 128) - 50 / millimetres) <= 2
    assert not pictures.annotated(black, marks_right=False).any()


@pytest.mark.parametrize("attributes", [{"PixelSpacing": None}, {"PixelSpacing": [0, 0]}], ids=str)
def test_without_a_spacing_there_is_no_bar(shown, attributes):
    dataset = chest()
    with_bar = shown(dataset)[FOOT]
    for keyword, value in attributes.items():
        dataset.pop(keyword)
        if value:
            setattr(dataset, keyword, value)
    assert np.abs(shown(dataset)[FOOT] - with_bar).max() > 80


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_window_of_the_image_comes_first(shown, photometric):
    narrow = shown(chest(photometric=photometric, WindowCenter=2000, WindowWidth=1000))
    wide = shown(chest(photometric=photometric))
    assert np.mean((narrow < 2) | (narrow > 253)) > 0.3 > np.mean((wide < 2) | (wide > 253))
    dense = synthetic.frontal_chest(320, 256)
    assert np.corrcoef(dense.ravel(), narrow.ravel())[0, 1] > 0.7


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_boxes_are_framed_where_they_lie_and_their_labels_are_upright(turn, selected):
    image = selected(synthetic.turned(chest(), turn))
    corners = turn.points_to_source([(100, 60), (180, 200)], image.shape)
    (left, top), (right, bottom) = np.min(corners, axis=0), np.max(corners, axis=0)
    (first, *_) = painted.boxes(image).detections
    found = replace(first, box=(float(left), float(top), float(right), float(bottom)))
    picture, layer = report._Hanging(image_only(image)).framed(np.zeros(image.shape, np.uint8), [found])
    yellow = (picture == (255, 214, 10)).all(axis=2)
    rows, columns = yellow[:, 175:].nonzero()  # right of the label
    assert (rows.min(), rows.max(), columns.max() + 175) == (60, 199, 179)
    assert picture[40:58, 100:170].max() > 150, "the label stands above the box"
    assert layer.startswith("data:image/webp")


def image_only(image):
    return ImageAnalysis(image=image, pixel_sha256="0", predictions=())
