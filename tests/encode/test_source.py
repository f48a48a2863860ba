"""What objects take from their sources: bytes of identity as they are, and nothing that two images contradict."""

from datetime import date, datetime, timedelta

import pydicom
import pytest
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from cxr_dicom import synthetic
from cxr_dicom.encode import common
from cxr_dicom.encode.binary_fallback import binary_fallback_of
from tests import painted

KINDS = ("seg", "sr", "parametric_map", "secondary_capture", "presentation_state", "key_objects")
FOREIGN = {
    "gbk": ("王^小东".encode("gbk"), "张三·A".encode("gbk")),
    "latin-1": ("Müller^Jörg".encode("latin-1"), "Ä-12".encode("latin-1")),
}


def with_bytes(path, name, patient_id):
    """Put bytes for the placeholders of a written file."""
    content = path.read_bytes()
    for letter, value in ((b"N", name), (b"I", patient_id)):
        assert content.count(letter * _even(value)) == 1
        content = content.replace(letter * _even(value), value.ljust(_even(value)))
    path.write_bytes(content)
    return path


def _even(value):
    return len(value) + len(value) % 2


def raw(dataset, keyword):
    return dataset.get_item(keyword).value


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize(("name", "patient_id"), FOREIGN.values(), ids=FOREIGN)
def test_every_object_has_the_identity_of_its_source_byte_for_byte(
    selected, encoded, tmp_path, stored, name, patient_id, syntax
):
    source = synthetic.radiograph(
        96,
        80,
        SpecificCharacterSet="ISO_IR 192",
        PatientName="N" * _even(name),
        PatientID="I" * _even(patient_id),
        OtherPatientIDsSequence=[pydicom.Dataset()],
    )
    source.OtherPatientIDsSequence[0].PatientComments = "Zoë"
    image = selected(with_bytes(stored(synthetic.stored_as(source, syntax)), name, patient_id))
    study = painted.study(painted.analysis(image), skipped=[painted.skip(painted.lateral(image))])
    objects = [
        common.write(each, tmp_path / "objects")
        for kind in KINDS
        for each in encoded(kind, study, painted.settings(segmentation="both"))
    ]
    assert len(objects) == 14
    for each in objects:
        written = pydicom.dcmread(each.path)
        assert raw(written, "PatientName").rstrip() == name
        assert raw(written, "PatientID").rstrip() == patient_id
        assert written.SpecificCharacterSet == "ISO_IR 192"
        assert written.OtherPatientIDsSequence[0].PatientComments == "Zoë"


def test_the_binary_twin_has_them_too(selected, encoded, tmp_path, stored):
    name, patient_id = FOREIGN["gbk"]
    source = synthetic.radiograph(
        96, 80, SpecificCharacterSet="ISO_IR 192", PatientName="N" * _even(name), PatientID="I" * _even(patient_id)
    )
    image = selected(with_bytes(stored(source), name, patient_id))
    label_map, *_ = encoded("seg", painted.study(painted.analysis(image)), painted.settings(segmentation="labelmap"))
    first = common.write(label_map, tmp_path / "first")
    twin = label_map._replace(dataset=binary_fallback_of(pydicom.dcmread(first.path)))
    written = pydicom.dcmread(common.write(twin, tmp_path / "twin").path)
    assert (raw(written, "PatientName").rstrip(), raw(written, "PatientID").rstrip()) == (name, patient_id)


@pytest.mark.parametrize("kind", ["sr", "key_objects"])
@pytest.mark.parametrize(
    ("keyword", "other"),
    [("AccessionNumber", "2"), ("StudyDate", "20240103"), ("StudyDescription", "Thorax"), ("StationName", "ROOM 2")],
)
def test_what_two_images_contradict_is_not_said_of_their_study(selected, encoded, kind, keyword, other):
    first = selected(synthetic.radiograph(96, 80, seed=1, StationName="ROOM 1"))
    second = selected(synthetic.radiograph(96, 80, seed=2, **{"StationName": "ROOM 1", keyword: other}))
    study = painted.study(painted.analysis(first), painted.analysis(second))
    about_both = encoded(kind, study, painted.settings())[-1].dataset
    equipment = about_both.ContributingEquipmentSequence[0]
    stated = equipment.get(keyword) if keyword == "StationName" else about_both.get(keyword)
    assert not stated
    assert about_both.PatientID == "SYNTHETIC"
    assert about_both.StudyID == "1"
    assert first.header.get(keyword) or keyword == "StationName", "the header of the image itself is left alone"


def test_each_object_about_one_image_says_what_that_image_says(selected, encoded):
    images = [selected(synthetic.radiograph(96, 80, seed=n, AccessionNumber=f"N{n}")) for n in (1, 2)]
    study = painted.study(*map(painted.analysis, images))
    assert [each.dataset.AccessionNumber for each in encoded("seg", study, painted.settings())] == ["N1", "N2"]


def test_the_text_of_a_study_comes_with_the_character_set_of_its_image(selected, encoded, tmp_path):
    latin = selected(synthetic.radiograph(96, 80, seed=1, PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100"))
    unicode = selected(
        synthetic.radiograph(96, 80, seed=2, PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 192")
    )
    study = painted.study(painted.analysis(latin), painted.analysis(unicode))
    findings = common.write(encoded("sr", study, painted.settings())[-1], tmp_path)
    written = pydicom.dcmread(findings.path)
    assert (written.SpecificCharacterSet, str(written.PatientName)) == ("ISO_IR 100", "Müller^Jörg")


# --- patient, study and dates --------------------------------------------------------------------


def test_patient_and_study_are_copied_and_missing_ones_are_empty(selected, written):
    image = selected(synthetic.radiograph(96, 80, PatientName=None, AccessionNumber=None, PatientComments="kept"))
    (dataset,) = written("seg", painted.study(painted.analysis(image)), painted.settings())
    assert dataset.PatientID == "SYNTHETIC"
    assert dataset.StudyInstanceUID == image.header.StudyInstanceUID
    assert dataset.PatientComments == "kept"
    assert dataset["PatientName"].is_empty
    assert dataset["AccessionNumber"].is_empty


@pytest.mark.parametrize(
    ("dates", "expected"),
    [
        ({}, ("20240102", "101112")),
        ({"ContentDate": None, "AcquisitionDate": "20230405", "AcquisitionTime": "010203.5"}, ("20230405", "010203.5")),
        (
            {"ContentDate": None, "AcquisitionDate": None, "SeriesDate": "20220304", "SeriesTime": None},
            ("20220304", "000000"),
        ),
        (dict.fromkeys(("ContentDate", "AcquisitionDate", "SeriesDate", "StudyDate")), ("19000101", "000000")),
    ],
)
def test_content_time_comes_from_the_source(selected, written, dates, expected):
    image = selected(synthetic.radiograph(96, 80, **dates))
    (dataset,) = written("seg", painted.study(painted.analysis(image)), painted.settings())
    assert (dataset.ContentDate, dataset.ContentTime) == expected


def test_content_time_now(image, written):
    (dataset,) = written("seg", painted.study(painted.analysis(image)), painted.settings(content_time="now"))
    assert abs((pydicom.valuerep.DA(dataset.ContentDate) - date.today()).days) <= 1


def test_content_time_now_is_told_in_the_time_zone_of_the_source(selected, written):
    image = selected(synthetic.radiograph(96, 80, TimezoneOffsetFromUTC="+1200"))
    (dataset,) = written("seg", painted.study(painted.analysis(image)), painted.settings(content_time="now"))
    assert dataset.TimezoneOffsetFromUTC == "+1200"
    said = datetime.strptime(dataset.ContentDate + dataset.ContentTime + "+1200", "%Y%m%d%H%M%S%z")
    assert abs(datetime.now().astimezone() - said) < timedelta(hours=1)


@pytest.mark.parametrize("date", ["99999999", "20240230"])
def test_a_content_date_is_a_day_of_the_calendar(selected, encoded, stored, date):
    path = stored(synthetic.radiograph(96, 80, ContentDate="19991231"))
    path.write_bytes(path.read_bytes().replace(b"19991231", date.encode()))
    (label_map, *_) = encoded("seg", painted.study(painted.analysis(selected(path))), painted.settings())
    assert label_map.dataset.ContentDate == "20240102", "that of the acquisition"
