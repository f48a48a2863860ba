import pytest
from pydicom import Dataset

from cxr_dicom.config.service import UrgentSettings
from cxr_dicom.dicom.files import read_header
from cxr_dicom.ingest.urgency import Urgency
from cxr_dicom.synthetic import radiograph


def is_urgent(tmp_path, image, sender="MODALITY", called="CXRDICOM", **rules):
    urgency = Urgency(UrgentSettings.model_validate(rules))
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    return urgency.of(read_header(tmp_path / "image.dcm", urgency.attributes), sender, called)


def test_nothing_is_urgent_unless_a_rule_says_so(tmp_path):
    assert not is_urgent(tmp_path, radiograph(64, 48, StudyDescription="STAT"))


def test_by_sender_or_called_name(tmp_path):
    assert is_urgent(tmp_path, radiograph(64, 48), sender="EMERGENCY", senders=["EMERGENCY"])
    assert is_urgent(tmp_path, radiograph(64, 48), called="CXRSTAT", called_ae_titles=["CXRSTAT"])
    assert not is_urgent(tmp_path, radiograph(64, 48), senders=["EMERGENCY"], called_ae_titles=["CXRSTAT"])


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("CHEST STAT", True), ("chest, stat!", True), ("Thorax  bei\nTrauma  ", True), ("STATION 3", False), ("", False)],
)
def test_by_a_whole_word_in_any_case(tmp_path, text, is_one):
    image = radiograph(64, 48, SeriesDescription=text)
    assert is_urgent(tmp_path, image, words=["Stat", "bei trauma"]) is is_one


def test_the_priority_of_what_was_ordered_counts(tmp_path):
    image, order = radiograph(64, 48), Dataset()
    order.RequestedProcedurePriority = "STAT"
    image.RequestAttributesSequence = [order]
    assert is_urgent(tmp_path, image, words=["stat"])


def test_a_name_of_a_patient_is_no_rule(tmp_path):
    assert not is_urgent(tmp_path, radiograph(64, 48, PatientName="STAT^STAT", PatientID="STAT"), words=["stat"])


def test_letters_of_another_alphabet_are_read(tmp_path):
    image = radiograph(64, 48, SpecificCharacterSet="ISO_IR 144", StudyDescription="ГРУДЬ СРОЧНО")
    assert is_urgent(tmp_path, image, words=["срочно"])
