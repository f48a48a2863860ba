"""What a header says may stand in a reason: bounded, printable, and a terminal does not obey it."""

import pytest

from cxr_dicom.config import SelectSettings
from cxr_dicom.dicom.text import shown
from cxr_dicom.records import StoredInstance, Study
from cxr_dicom.select import select
from cxr_dicom.synthetic import radiograph

EVIL = "HAND\x1b]0;x\x07\x9b31m" + "Doe^John" * 20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "none"),
        ("HAND", "HAND"),
        ("UPPER_LIMB 2", "UPPER_LIMB 2"),
        ("Hand", "'Hand'"),
        ("A" * 40, "A" * 16),
        ("\x1b[31mX", r"'\x1b[31mX'"),
        ("\u202eX\N{LATIN SMALL LETTER U WITH DIAERESIS}", r"'\u202eX\xfc'"),
        ("it's", '"it\'s"'),
        ("1.2.840.10008.1.2.1", "Explicit VR Little Endian"),
        ("1.2.3.4", "1.2.3.4"),
        ("1.2.3.", "'1.2.3.'"),
        ("1" * 65, "1" * 16),
    ],
)
def test_what_is_shown(text, expected):
    assert shown(text) == expected


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("BodyPartExamined", EVIL),
        ("ViewPosition", f"LATERAL {EVIL}"),
        ("Modality", EVIL),
        ("PhotometricInterpretation", EVIL),
        ("PatientOrientation", ["A\x1b", "\x1bF"]),
        ("SOPClassUID", EVIL),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_no_reason_holds_what_a_terminal_obeys_or_more_than_a_code(tmp_path, keyword, value):
    image = radiograph(16, 16)
    setattr(image, keyword, value)
    if keyword == "Modality":
        image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    path = tmp_path / "x.dcm"
    image.save_as(path, enforce_file_format=True)
    instance = StoredInstance(
        path=path, study_instance_uid="1", series_instance_uid="1", sop_instance_uid="1", sop_class_uid="1", sender=""
    )
    study = Study(study_instance_uid="1", instances=(instance,))
    (skipped,) = select(study, SelectSettings()).skipped
    assert skipped.detail.isprintable()
    assert skipped.detail.isascii()
    assert "Doe^John" not in skipped.detail
    assert len(skipped.detail) < 150
