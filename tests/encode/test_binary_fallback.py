"""The BINARY twin of a label map says what the label map says."""

import numpy as np
import pytest
from highdicom.seg import Segmentation
from pydicom import dcmread, dcmwrite

from cxr_dicom import synthetic
from cxr_dicom.encode.binary_fallback import binary_fallback_of
from tests import painted

OWN = {  # tags of UIDs that are an object's own, and of the text that has the digest of the settings
    "00080018",
    "0020000E",
    "00209164",
    "0018A003",
}


@pytest.fixture(params=["viewer", "strict"])
def geometry(request):
    return request.param


@pytest.fixture
def lungs(selected):
    """Two structures that do not overlap, on a matrix where ``auto`` takes LABELMAP."""
    image = selected(synthetic.radiograph(97, 81))
    return painted.analysis(image, (painted.anatomy(image, masks=painted.anatomy(image).masks[:2]),))


@pytest.fixture
def read(written, lungs, geometry):
    """Write the segmentation of the lungs in one type and read it from its file."""

    def of_type(kind):
        settings = painted.settings(segmentation=kind, geometry=geometry)
        (dataset,) = written("seg", painted.study(lungs), settings)
        return dataset

    return of_type


def without_own(value):
    """What an element of the DICOM JSON model says, without what is an object's own."""
    if isinstance(value, list):
        return [without_own(each) for each in value]
    if isinstance(value, dict):
        return {key: without_own(each) for key, each in value.items() if key not in OWN}
    return value


def test_it_is_what_the_encoder_writes_as_binary(read):
    twin, binary = binary_fallback_of(read("labelmap")), read("binary")
    twin.PixelData = twin.PixelData.tobytes()
    assert without_own(twin.to_json_dict()) == without_own(binary.to_json_dict())
    assert twin.file_meta.MediaStorageSOPInstanceUID == twin.SOPInstanceUID
    assert twin.file_meta.MediaStorageSOPClassUID == twin.SOPClassUID == binary.SOPClassUID


def test_highdicom_reads_the_same_pixels(read, lungs, tmp_path):
    label_map = read("labelmap")
    dcmwrite(tmp_path / "twin", binary_fallback_of(label_map), enforce_file_format=True)
    twin = Segmentation.from_dataset(dcmread(tmp_path / "twin"))
    assert twin.segmentation_type.value == "BINARY"
    for number, mask in enumerate(lungs.predictions[0].masks, start=1):
        assert np.array_equal(twin.pixel_array[number - 1].astype(bool), mask.region.matrix())
        assert twin.get_segment_description(number).tracking_id == mask.structure.name


def test_equal_label_maps_have_equal_twins_and_the_label_map_is_left_alone(read, tmp_path):
    label_map = read("labelmap")
    before = label_map.to_json()
    for name in "ab":
        dcmwrite(tmp_path / name, binary_fallback_of(label_map), enforce_file_format=True)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert label_map.to_json() == before
    twin = dcmread(tmp_path / "a")
    assert {twin.SOPInstanceUID, twin.SeriesInstanceUID}.isdisjoint(
        {label_map.SOPInstanceUID, label_map.SeriesInstanceUID}
    )
