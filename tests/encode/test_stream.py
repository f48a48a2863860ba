"""Our writer gives the bytes of pydicom's."""

import gc
from copy import deepcopy
from io import BytesIO

import numpy as np
import pytest
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.charset import python_encoding
from pydicom.data import get_testdata_file
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import DSfloat

from cxr_dicom.encode import shared as shared_parts
from cxr_dicom.encode.multiframe import bulk
from cxr_dicom.encode.shared import notes, shared, sharing
from cxr_dicom.encode.stream import write_dataset

ASCII = "".join(map(chr, range(32, 127))).replace("\\", "")


def by_pydicom(dataset):
    stream = BytesIO()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(stream, dataset)
    return stream.getvalue()


def expect_same(dataset):
    stream = BytesIO()
    write_dataset(stream, dataset)
    written = stream.getvalue()
    assert len(written) > 8
    assert by_pydicom(dataset).endswith(written)
    assert len(by_pydicom(dataset)) - len(written) < 200  # the file meta information


def nested(text="in a sequence"):
    item, inner = Dataset(), Dataset()
    inner.CodeMeaning = text
    item.ConceptNameCodeSequence = [inner, Dataset()]
    item.MeasurementUnitsCodeSequence = []
    return item


@pytest.mark.parametrize(
    "name", ["CT_small.dcm", "reportsi.dcm", "rtplan.dcm", "nested_priv_SQ.dcm", "UN_sequence.dcm"]
)
def test_files_of_others_in_explicit_and_implicit_encoding(name):
    expect_same(dcmread(get_testdata_file(name, download=False)))


@pytest.mark.parametrize("charset", sorted(filter(None, python_encoding)))
def test_plain_text_is_the_same_in_every_character_set(charset):
    dataset = nested()
    dataset.SpecificCharacterSet = charset
    dataset.PatientComments, dataset.StudyDescription = ASCII, "odd"
    expect_same(dataset)


@pytest.mark.parametrize(
    ("charset", "name"),
    [("ISO_IR 100", "Müller^Jörg"), ("ISO_IR 192", "山田^太郎"), (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎")],
)
def test_other_text_is_written_in_the_character_set_of_the_root(charset, name):
    dataset = Dataset()
    dataset.SpecificCharacterSet, dataset.PatientName = charset, name
    dataset.ConceptCodeSequence = [nested(name.partition("=")[2] or name)]
    expect_same(dataset)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("Rows", 0),
        ("ImageType", ["DERIVED", "PRIMARY"]),
        ("PixelSpacing", ["0.10", "0.2"]),
        ("DimensionIndexPointer", 0x00200032),
        ("PatientName", ""),
        ("StudyDate", None),
        ("SOPInstanceUID", "1.2.345"),
        ("RealWorldValueSlope", 1.0),
        ("RecommendedDisplayFrameRateInFloat", 0.1),
        ("SimpleFrameList", 70_000),
        ("RescaleSlope", "1.50"),
        ("RescaleSlope", 1.5),
        ("RescaleSlope", DSfloat(1 / 3, auto_format=True)),
        ("SeriesNumber", "007"),
        ("SeriesNumber", 12),
        ("PatientComments", "x" * 70_001),  # longer than its VR can say
        ("PixelData", b"\0\1\2"),
        ("FloatPixelData", BytesIO(b"\0\1\2\3")),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_every_kind_of_value(keyword, value):
    dataset = Dataset()
    dataset.Modality = "OT"
    dataset.BitsAllocated = 8
    setattr(dataset, keyword, value)
    if keyword == "PixelData":
        dataset["PixelData"].VR = "OB"
    expect_same(dataset)


def test_an_item_in_two_places_is_written_in_the_character_set_of_each():
    item, other = nested("Müller"), Dataset()
    other.SpecificCharacterSet, other.ContentSequence = "ISO_IR 192", [item]
    dataset = Dataset()
    dataset.SpecificCharacterSet, dataset.ConceptCodeSequence = "ISO_IR 100", [item, other, item]
    expect_same(dataset)


def test_pixels_are_written_as_they_lie_in_memory():
    dataset, expected = Dataset(), Dataset()
    values = np.arange(6, dtype="<f4").reshape(2, 3)
    dataset.add(bulk("FloatPixelData", "OF", values))
    expected.FloatPixelData = values.tobytes()
    stream = BytesIO()
    write_dataset(stream, dataset)
    assert by_pydicom(expected).endswith(stream.getvalue())


def test_sequences_of_undefined_length_stay_so():
    dataset = Dataset()
    dataset.ConceptCodeSequence = [nested()]
    dataset["ConceptCodeSequence"].is_undefined_length = True
    expect_same(dataset)


@shared(maxsize=1)
def comment(text):
    item = Dataset()
    item.PatientComments = text
    return item


def holding(part, charset):
    dataset = Dataset()
    dataset.SpecificCharacterSet = charset
    dataset.RequestAttributesSequence = [part, part]
    return dataset


def test_a_shared_part_is_framed_once_in_each_character_set():
    with sharing():
        for charset in ("ISO_IR 100", "ISO_IR 192", "ISO_IR 100"):
            expect_same(holding(comment("Grüße"), charset))
        assert len(notes(comment("Grüße"))) == 2


def test_what_is_remembered_of_a_shared_part_is_not_that_of_a_copy_and_goes_with_it():
    with sharing():
        part = comment("one")
        expect_same(holding(part, "ISO_IR 100"))
        copy = deepcopy(part)
        copy.PatientComments = "other"
        expect_same(holding(copy, "ISO_IR 100"))
        before = len(shared_parts._notes)
        comment("another one")
        del part
        gc.collect()
        assert len(shared_parts._notes) == before
