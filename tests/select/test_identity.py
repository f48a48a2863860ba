"""Two patients under one Study Instance UID: no object mixes them, and none takes one for the other."""

import pytest

from cxr_dicom import synthetic
from cxr_dicom.config import SelectSettings
from cxr_dicom.ingest.folder import scan
from cxr_dicom.records import MANUFACTURER, Reason
from cxr_dicom.select import select

KNOWN = {"PatientID": "A1", "IssuerOfPatientID": "NORTH", "PatientName": "Doe^Jane", "PatientBirthDate": "19700102"}


def of(seed, **attributes):
    return synthetic.radiograph(40, 32, seed=seed, **KNOWN | {"PatientSex": "F"} | attributes)


def selection(folder, *datasets):
    synthetic.write_study(folder, datasets)
    (study,), skipped = scan([folder])
    assert not skipped
    return select(study, SelectSettings())


CONTRADICTIONS = [
    ({"PatientID": "B2"}, "Patient ID"),
    ({"IssuerOfPatientID": "SOUTH"}, "Issuer of Patient ID"),
    ({"PatientName": "Roe^Jane"}, "Patient's Name"),
    ({"PatientName": "Doe^John"}, "Patient's Name"),
    ({"PatientBirthDate": "19700103"}, "Patient's Birth Date"),
    ({"PatientSex": "M"}, "Patient's Sex"),
    ({"PatientID": "B2", "PatientName": "Roe^Rick", "PatientSex": "M"}, "Patient ID, Patient's Sex, Patient's Name"),
]


@pytest.mark.parametrize(("other", "named"), CONTRADICTIONS, ids=[named for _, named in CONTRADICTIONS])
def test_images_of_two_patients_are_refused_without_a_word_of_either(tmp_path, other, named):
    found = selection(tmp_path, of(1), of(2), of(3, **other))
    assert not found.images
    assert [each.reason for each in found.skipped] == [Reason.CONTRADICTORY_IDENTITY] * 3
    for each in found.skipped:
        assert each.detail.endswith(f"found another {named}")
        assert not any(value in each.detail for value in ("A1", "B2", "NORTH", "SOUTH", "Doe", "Roe", "1970"))


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"PatientID": " A1 "},
        {"PatientID": None, "IssuerOfPatientID": None},
        {"PatientName": "DOE^JANE^^DR"},
        {"PatientName": "Doe, Jane Mary"},
        {"PatientName": "Doe^Jane=王^小東", "SpecificCharacterSet": "ISO_IR 192"},
        {"PatientBirthDate": "00000000"},
        {"PatientSex": ""},
    ],
    ids=str,
)
def test_what_is_spelled_otherwise_or_left_out_contradicts_nothing(tmp_path, other):
    assert len(selection(tmp_path, of(1), of(2, **other)).images) == 2


def test_a_name_is_the_same_in_every_character_set(tmp_path):
    latin = of(1, PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100")
    unicode = of(2, PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 192")
    assert len(selection(tmp_path, latin, unicode).images) == 2


def test_two_that_agree_with_a_silent_third_and_not_with_each_other_are_two_patients(tmp_path):
    found = selection(tmp_path, of(1, PatientName=None), of(2), of(3, PatientName="Roe^Jane"))
    assert not found.images


def test_a_lateral_image_of_another_patient_would_be_cited_and_so_counts(tmp_path):
    found = selection(tmp_path, of(1), of(2, PatientID="B2", ViewPosition="LL", ViewCodeSequence=None))
    assert [each.reason for each in found.skipped] == [Reason.NOT_FRONTAL, Reason.CONTRADICTORY_IDENTITY]


def test_an_older_result_under_a_name_that_was_corrected_does_not_count(tmp_path):
    found = selection(tmp_path, of(1), of(2, PatientName="Typo^Jane", Manufacturer=MANUFACTURER))
    assert [each.reason for each in found.skipped] == [Reason.OWN_OUTPUT]
    assert len(found.images) == 1


@pytest.mark.parametrize(("keyword", "other"), [("AccessionNumber", "2"), ("StudyDate", "20240103")])
def test_what_differs_of_the_study_is_warned_of(tmp_path, keyword, other):
    found = selection(tmp_path, of(1), of(2, **{keyword: other}))
    assert [any(keyword in text for text in image.warnings) for image in found.images] == [True, True]


@pytest.mark.parametrize(
    ("name", "declared", "fits"),
    [
        ("王^小东".encode("gbk"), "ISO_IR 192", False),
        ("Müller^Jörg".encode("latin-1"), "ISO_IR 192", False),
        ("Müller^Jörg".encode("latin-1"), None, False),
        ("Müller^Jörg".encode("latin-1"), "ISO_IR 100", True),
        ("王^小东".encode("gb18030"), "GB18030", True),
        (b"Doe^Jane", "ISO_IR 192", True),
    ],
    ids=lambda value: repr(value),
)
def test_a_name_that_does_not_fit_its_character_set_is_warned_of(selected, tmp_path, stored, name, declared, fits):
    path = stored(of(1, PatientName="N" * (len(name) + len(name) % 2), SpecificCharacterSet=declared))
    content = path.read_bytes()
    placeholder = b"N" * (len(name) + len(name) % 2)
    assert content.count(placeholder) == 1
    path.write_bytes(content.replace(placeholder, name + b" " * (len(name) % 2)))
    warned = [text for text in selected(path).warnings if "Specific Character Set" in text]
    assert bool(warned) is not fits
