"""Pictures lie where they should: marks at known source pixels are found again."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from cxr_dicom import pictures, synthetic
from cxr_dicom.dicom import codes
from cxr_dicom.pictures import Line
from cxr_dicom.records import Heatmap, Mask, Structure
from cxr_dicom.records.plane import Grid, Region

SOURCE = (600, 400)
RED = (255, 0, 0)


def mask(matrix, colour=RED):
    structure = Structure(
        name="lung", title="Lung", category=codes.LUNG, type=codes.LUNG, laterality=None, colour=colour
    )
    return Mask(structure=structure, region=Region.from_matrix(matrix))


def heatmap(values, origin=(0.0, 0.0), step=(1.0, 1.0)):
    values = np.asarray(values, np.float32)
    grid = Grid(shape=values.shape, origin=origin, step=step)
    return Heatmap(name="map", title="Map", quantity=codes.LUNG, definition="", values=values, grid=grid)


def black():
    return np.zeros((300, 200), np.uint8)


def coloured(picture):
    """Rows and columns where a picture is not grey: first, last."""
    found = np.ptp(picture.astype(int), axis=-1) > 20
    rows, columns = np.flatnonzero(found.any(axis=1)), np.flatnonzero(found.any(axis=0))
    return (rows[0], rows[-1]), (columns[0], columns[-1])


def test_preview_keeps_proportions_and_never_enlarges():
    assert pictures.preview(np.random.default_rng(0).random((2000, 1000)), 500).shape == (500, 250)
    assert pictures.preview(np.zeros((30, 20)), 500).shape == (30, 20)


def test_preview_uses_the_whole_range_despite_outliers():
    pixels = np.random.default_rng(0).random((100, 100)) * 10
    pixels[0, 0], pixels[0, 1] = 1e6, np.nan
    preview = pictures.preview(pixels)
    assert (preview.min(), preview.max()) == (0, 255)
    assert 90 < np.median(preview) < 140
    assert preview[np.unravel_index(pixels[1:].argmax(), pixels[1:].shape)] >= 0


def test_preview_of_a_constant_image_is_constant():
    assert np.ptp(pictures.preview(np.full((9, 9), 7.0))) == 0


def test_dense_is_bright():
    pixels = np.zeros((10, 10))
    pixels[:, 5:] = 1
    assert (pictures.preview(pixels)[:, 5:] > pictures.preview(pixels)[:, :5]).all()


def test_overlay_draws_a_structure_where_it_is():
    matrix = np.zeros(SOURCE, bool)
    matrix[200:300, 100:200] = True
    picture = pictures.overlay(black(), [mask(matrix)])
    assert coloured(picture) == ((100, 149), (50, 99))
    assert picture[100, 75, 0] > 220, "the outline is strong"
    assert 30 < picture[125, 75, 0] < 90, "the inside lets the radiograph through"
    assert not picture[..., 1:].any()


def test_overlay_of_nothing_is_the_preview():
    picture = pictures.overlay(black() + 9, [mask(np.zeros(SOURCE, bool))])
    assert (picture == 9).all()


def test_heat_lies_on_its_grid_and_is_clear_elsewhere():
    picture = pictures.heat(black(), heatmap(np.ones((2, 3)), origin=(100.0, 60.0), step=(50.0, 20.0)), SOURCE)
    assert coloured(picture) == ((50, 99), (30, 59))


def test_heat_is_brightest_where_the_value_is_greatest():
    values = np.zeros((6, 4))
    values[4, 1] = 1
    picture = pictures.heat(black(), heatmap(values, step=(100.0, 100.0)), SOURCE).sum(axis=-1)
    row, column = np.unravel_index(picture.argmax(), picture.shape)
    assert abs(row - 225) <= 1
    assert abs(column - 75) <= 1
    assert not picture[:100].any()


def test_lines_end_at_their_points():
    picture = pictures.lines(pictures.overlay(black(), []), [Line(((100.0, 300.0), (300.0, 300.0)), RED)], SOURCE)
    (top, bottom), (left, right) = coloured(picture)
    assert abs((top + bottom) / 2 - 149.5) <= 1
    assert abs(left - 50) <= 3
    assert abs(right - 149) <= 3


def test_the_colour_bar_runs_from_zero_to_one():
    bar = pictures.colour_bar(256, 4)
    assert bar.shape == (4, 256, 3)
    assert tuple(bar[0, 0]) == pictures.INFERNO[0]
    assert tuple(bar[0, -1]) == pictures.INFERNO[-1]
    brightness = bar[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(brightness) > -1).all(), "a greater value is never darker"


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3)])
def test_a_picture_is_read_back_from_its_uri(shape):
    uri = pictures.data_uri(np.full(shape, 128, np.uint8))
    kind, _, content = uri.partition(",")
    assert kind == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(content))).size == (30, 20)


def test_a_layer_laid_over_a_preview_shows_what_was_drawn_on_it():
    preview = np.tile(np.arange(0, 240, 3, np.uint8), (60, 1))  # smooth, for lines are drawn on a finer matrix
    pixels = np.zeros((60, 80), bool)
    pixels[10:50, 20:60] = True
    masks = [mask(pixels, (230, 40, 90))]

    def draw(grey):
        return pictures.lines(pictures.overlay(grey, masks), [Line(((5, 5), (70, 40)), (255, 255, 0))], (60, 80))

    layer = pictures.layer(draw, preview.shape).astype(float)
    opacity = layer[..., 3:] / 255
    laid = layer[..., :3] * opacity + preview[..., None] * (1 - opacity)
    assert np.abs(laid - draw(preview)).max() <= 4
    assert layer[0, -1, 3] == 0, "where nothing was drawn, all shines through"
    assert layer[12, 30, 3] > 0


def test_a_finer_matrix_is_shrunk_to_its_means():
    fine = np.random.default_rng(0).random((8, 12)) > 0.5
    assert (pictures._shrink(fine) == fine.reshape(4, 2, 6, 2).mean(axis=(1, 3))).all()


def test_a_stain_that_was_made_once_is_laid_over_any_preview():
    matrix = np.zeros(SOURCE, bool)
    matrix[200:300, 100:200] = True
    stains = list(pictures.outlined(black().shape, [mask(matrix)]))
    for grey in (0, 90):
        assert (pictures.stained(black() + grey, stains) == pictures.overlay(black() + grey, [mask(matrix)])).all()


@pytest.mark.parametrize("window", [None, (np.array([-1024.0, -200, 400, 1024]), np.array([0, 0.1, 0.9, 1]))])
def test_a_small_preview_is_the_large_one_made_smaller(window):
    pixels = (synthetic.frontal_chest(1200, 1000) * 2048 - 1024).astype(np.float32)
    large, small = pictures.preview(pixels, window=window), pictures.preview(pixels, 192, window)
    again = pictures.smaller(large, 192).astype(int)
    assert again.shape == small.shape
    assert np.abs(again - small).mean() < 3
