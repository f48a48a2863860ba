"""Completed years: with a unit, without one, and from dates."""

import pytest
from pydicom import Dataset

from cxr_dicom.dicom.patient_age import completed_years


@pytest.mark.parametrize(
    ("age", "birth", "years"),
    [
        ("062Y", "", 62),
        ("62", "", 62),
        ("6", "", 6),
        ("11", "", 11),
        ("011", None, 11),
        ("62", "19610101", 62),
        ("62", "20190101", 5),  # 62 months
        ("6", "19000101", 6),  # a date that stands for none
        ("62y", "", 62),
        ("62 Y", "", 62),
        ("018M", "", 1),
        ("030D", "19600101", 0),
        ("", "20060103", 17),
        ("", "20060102", 18),
        ("adult", "20100102", 14),
        ("", "99999999", None),
        ("", "1960", None),
        ("999", "", None),
    ],
)
def test_years(age, birth, years):
    header = Dataset()
    header.add_new("PatientAge", "LO", age)
    header.add_new("PatientBirthDate", "LO", birth)
    header.add_new("AcquisitionDate", "LO", "99999999")
    header.StudyDate = "20240102"
    assert completed_years(header) == years
