"""What a server returns is compared with what it was asked for, as PS3.4 C.2.2.2 matches it."""

import pytest

from cxr_dicom.ingest.matching import Verdict, judge, keyword, unpadded


@pytest.mark.parametrize(
    ("key", "wanted", "values", "is_right"),
    [
        ("StudyInstanceUID", "1.2", ("1.2",), True),
        ("StudyInstanceUID", "1.2", ("1.2.3",), False),
        ("StudyInstanceUID", "1.3\\1.2", ("1.2",), True),
        ("StudyDate", "20260105", ("20260105",), True),
        ("StudyDate", "20260105", ("20260106",), False),
        ("StudyDate", "20260105-", ("20260105",), True),
        ("StudyDate", "20260105-", ("20260104",), False),
        ("StudyDate", "-20260105", ("20260105",), True),
        ("StudyDate", "-20260105", ("20260106",), False),
        ("StudyDate", "20260101-20260131", ("20260115",), True),
        ("StudyDate", "20260101-20260131", ("2026.01.15",), True),
        ("StudyDate", "20260101-20260131", ("20260201",), False),
        ("StudyDate", "20260101-", (), False),
        ("StudyDate", "20260101-", ("yesterday",), False),
        ("StudyDate", "this year", ("20260101",), True),
        ("StudyTime", "080000-101112", ("101112.5",), True),
        ("StudyTime", "080000-101112", ("101113",), False),
        ("StudyTime", "10-", ("0959",), False),
        ("AccessionNumber", "A7", ("A7",), True),
        ("AccessionNumber", "A7", ("A70",), False),
        ("AccessionNumber", "A7", (), False),
        ("AccessionNumber", "A[7]", ("A[7]",), True),
        ("AccessionNumber", "A[7]", ("A7",), False),
        ("PatientID", "COHORT*", ("cohort12",), True),
        ("PatientID", "COHORT*", ("OTHER",), False),
        ("PatientID", "P?", ("P12",), False),
        ("PatientName", "Müller^Jörg", ("MULLER^JORG^^",), True),
        ("PatientName", "Wang*", ("Wang^XiaoDong", "王^小東"), True),
        ("ModalitiesInStudy", "DX", ("CT", "DX"), True),
        ("ModalitiesInStudy", "DX", ("CT",), False),
        ("NumberOfStudyRelatedInstances", "3", ("4",), True),
        ("NoSuchKeyword", "3", ("4",), True),
        ("StudyDate", "", ("20260101",), True),
    ],
)
def test_a_value_is_what_was_asked_for_or_not(key, wanted, values, is_right):
    expected = (Verdict.WANTED, "") if is_right else (Verdict.FOREIGN, key)
    assert judge({key: wanted}, {key: values}) == expected


@pytest.mark.parametrize(
    ("key", "verdict"),
    [("AccessionNumber", Verdict.UNPROVED), ("ModalitiesInStudy", Verdict.WANTED), ("Modality", Verdict.WANTED)],
)
def test_a_key_that_is_not_returned_proves_nothing_where_every_server_returns_it(key, verdict):
    assert judge({key: "A7"}, {})[0] is verdict


def test_a_contradiction_counts_more_than_what_is_missing():
    assert judge({"PatientID": "P", "StudyDate": "20260101"}, {"StudyDate": ("20250101",)}) == (
        Verdict.FOREIGN,
        "StudyDate",
    )


def test_padding_and_tags():
    assert unpadded(" 1.2.3\0\0") == "1.2.3"
    assert (keyword("00080050"), keyword("0020000d"), keyword("PatientID")) == (
        "AccessionNumber",
        "StudyInstanceUID",
        "PatientID",
    )
