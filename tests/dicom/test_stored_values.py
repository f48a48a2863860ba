"""Stored values for a window of a person's own: what DCMTK shows of a window, those of pydicom, and files of others."""

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from cxr_dicom.dicom import stored_values
from cxr_dicom.errors import ImageError
from cxr_dicom.records.plane import Orientation
from cxr_dicom.synthetic import radiograph

AS_STORED = Orientation()


@pytest.fixture
def written(tmp_path):
    def write(dataset):
        dataset.save_as(tmp_path / "x.dcm", enforce_file_format=True)
        return tmp_path / "x.dcm"

    return write


def values_of(read):
    return read.slope * read.words + read.intercept


def windowed(read, centre, width):
    """As the script of the page does it (PS3.3 C.11.2.1.2.1)."""
    return np.clip((values_of(read) - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


@pytest.mark.parametrize("signed", [False, True])
def test_values_are_those_of_pydicom_and_so_is_a_window_of_them(written, signed):
    dataset = radiograph(48, 40, signed=signed, RescaleSlope="-2.5", RescaleIntercept="100")
    dataset.WindowCenter, dataset.WindowWidth = ["300", "1"], ["900", "2"]
    read = stored_values.read(written(dataset), AS_STORED)
    expected = apply_modality_lut(dataset.pixel_array, dataset)
    assert np.array_equal(values_of(read), expected)
    assert (read.centre, read.width, read.is_own_window) == (300, 900, True)
    shown = apply_voi_lut(expected, dataset)
    low, high = (-2.5 * end + 100 for end in ((-(2**11), 2**11 - 1) if signed else (0, 2**12 - 1)))
    assert np.allclose(windowed(read, 300, 900), (shown - low) / (high - low), atol=1e-6)


def test_a_modality_lut_is_applied_and_an_image_without_a_window_gets_one(written):
    dataset = radiograph(48, 40)
    table = Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [4096, 0, 16], "US"
    table.LUTData = (np.arange(4096, dtype=np.uint32)[::-1] * 16).astype("<u2").tobytes()
    table["LUTData"].VR = "OW"
    dataset.ModalityLUTSequence = [table]
    del dataset.WindowCenter, dataset.WindowWidth
    read = stored_values.read(written(dataset), AS_STORED)
    assert np.array_equal(values_of(read), (4095 - dataset.pixel_array.astype(int)) * 16)
    assert not read.is_own_window
    low, high = np.quantile(values_of(read), (0.005, 0.995))
    assert (read.centre, read.width) == pytest.approx(((low + high) / 2, high - low))


def test_the_image_hangs_as_it_is_turned_and_a_large_one_is_made_smaller(written):
    dataset = radiograph(60, 40, photometric="MONOCHROME1")
    turned = stored_values.read(written(dataset), Orientation(transpose=True, flip_rows=True))
    assert np.array_equal(values_of(turned), dataset.pixel_array.T[::-1])
    assert turned.is_inverted
    small = stored_values.read(written(dataset), AS_STORED, longest=30)
    blocks = dataset.pixel_array.reshape(30, 2, 20, 2).mean(axis=(1, 3))
    assert (small.words.shape, small.reduced) == ((30, 20), 2.0)
    assert np.abs(values_of(small) - blocks).max() <= 0.5


def spoil(dataset, **values):
    for keyword, value in values.items():
        setattr(dataset, keyword, value)


@pytest.mark.parametrize(
    "values",
    [
        {"BitsAllocated": 32},
        {"SamplesPerPixel": 3},
        {"NumberOfFrames": 2},
        {"Rows": 60_000, "Columns": 60_000},
        {"Rows": 0},
        {"Rows": 47},
        {"RescaleSlope": "1e400"},
        {"HighBit": 99},
    ],
    ids=lambda values: next(iter(values)),
)
def test_a_file_that_says_something_else_is_refused_or_read_and_nothing_more(written, values):
    dataset = dcmread(written(radiograph(48, 40)))
    spoil(dataset, **values)
    try:
        read = stored_values.read(written(dataset), AS_STORED)
    except ImageError:
        return
    assert read.words.size == dataset.Rows * dataset.Columns


@pytest.mark.parametrize("width", ["0", "-5"])
def test_a_window_that_shows_nothing_is_none(written, width):
    dataset = radiograph(48, 40)
    dataset.WindowCenter, dataset.WindowWidth = "1000", width
    assert not stored_values.read(written(dataset), AS_STORED).is_own_window
