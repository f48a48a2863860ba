"""Meaning, not plumbing: what the offline models find on RG1 is where it is."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from scipy import ndimage

from cxr_dicom import synthetic
from cxr_dicom.config import PixelSettings, SelectSettings, Settings
from cxr_dicom.dicom.pixels import read
from cxr_dicom.infer.models import lung_opacity, offline_anatomy
from cxr_dicom.ingest.folder import scan
from cxr_dicom.select import select

# Seen on RG1: a round mass and aerated lung beside it, as (row, column, half side) in pixels.
METASTASES = [
    ((1130, 490, 60), (1030, 330, 30)),
    ((860, 1470, 60), (990, 1400, 30)),
    ((1150, 1470, 60), (1010, 1480, 30)),
    ((690, 1360, 50), (560, 1300, 30)),
]

CPU = Settings.model_validate({"models": {"device": "cpu"}})


@pytest.fixture(scope="module")
def anatomy():
    return offline_anatomy.build("offline-anatomy", CPU)


def radiograph(path):
    (study,), _ = scan([Path(path)])
    (image,) = select(study, SelectSettings()).images
    return read(image, PixelSettings())


@pytest.fixture(scope="module")
def rg1():
    return radiograph(get_testdata_file("RG1_UNCR.dcm", download=False))


@pytest.fixture(scope="module")
def found(anatomy, rg1):
    return anatomy.predict(rg1, [])


def matrices(prediction):
    return {mask.structure.name: mask.region.matrix() for mask in prediction.masks}


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_both_lungs_and_the_heart_are_found_in_one_piece_each(found):
    masks = matrices(found)
    assert masks.keys() == {"right_lung", "left_lung", "heart"}
    for name, matrix in masks.items():
        assert ndimage.label(matrix)[1] == 1, name
        assert 0.03 < matrix.mean() < 0.35, name


def test_lungs_are_darker_than_the_mediastinum(found, rg1):
    masks = matrices(found)
    lungs = masks["right_lung"] | masks["left_lung"]
    assert np.median(rg1.pixels[lungs]) < np.median(rg1.pixels[masks["heart"] & ~lungs]) - 100


def test_the_right_lung_is_left_of_the_spine_in_the_picture_and_the_heart_between_the_lungs(found, rg1):
    masks = matrices(found)
    centre = {name: np.mean(np.nonzero(matrix)[1]) for name, matrix in masks.items()}
    spine = rg1.pixels.shape[1] / 2
    assert centre["right_lung"] < spine - 200
    assert centre["left_lung"] > spine + 200
    assert centre["right_lung"] < centre["heart"] < centre["left_lung"]
    assert centre["heart"] > spine, "the heart lies to the patient's left"


def test_a_shifted_radiograph_gives_shifted_masks(anatomy, found, tmp_path):
    rows, columns = 60, -45
    source = dcmread(get_testdata_file("RG1_UNCR.dcm", download=False))
    moved = np.roll(source.pixel_array, (rows, columns), axis=(0, 1))
    source.PixelData = moved.tobytes()
    source.save_as(tmp_path / "moved")
    masks = matrices(anatomy.predict(radiograph(tmp_path / "moved"), []))
    for name, matrix in matrices(found).items():
        assert dice(np.roll(matrix, (rows, columns), axis=(0, 1)), masks[name]) > 0.95, name


def test_a_scaled_radiograph_gives_scaled_masks(anatomy, found, tmp_path):
    source = dcmread(get_testdata_file("RG1_UNCR.dcm", download=False))
    half = np.ascontiguousarray(source.pixel_array[::2, ::2])
    source.Rows, source.Columns = half.shape
    source.PixelData = half.tobytes()
    source.save_as(tmp_path / "half")
    masks = matrices(anatomy.predict(radiograph(tmp_path / "half"), []))
    for name, matrix in matrices(found).items():
        assert dice(matrix[::2, ::2], masks[name]) > 0.97, name


@pytest.mark.parametrize(("mass", "beside"), METASTASES)
def test_opacity_is_higher_in_a_metastasis_than_beside_it(found, rg1, mass, beside):
    heatmap = lung_opacity.build("lung-opacity", CPU).predict(rg1, [found]).heatmaps[0]
    step = heatmap.grid.step[0]

    def mean(row, column, radius):
        rows = slice(int((row - radius) / step), int((row + radius) / step))
        columns = slice(int((column - radius) / step), int((column + radius) / step))
        return float(heatmap.values[rows, columns].mean())

    assert mean(*mass) > mean(*beside) + 0.15


def test_a_synthetic_radiograph_of_another_shape_is_not_cut_off(anatomy, tmp_path):
    path = tmp_path / "wide.dcm"
    synthetic.radiograph(rows=600, columns=900).save_as(path, enforce_file_format=True)
    prediction = anatomy.predict(radiograph(path), [])
    assert {mask.region.shape for mask in prediction.masks} <= {(600, 900)}
