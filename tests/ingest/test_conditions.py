"""Which conditions hold for an image, and that words are no patterns."""

import pytest
from pydantic import ValidationError
from pydicom import Dataset

from cxr_dicom.config.routes import Conditions, UrgentSettings
from cxr_dicom.dicom.files import Header, read_header
from cxr_dicom.ingest.conditions import Asked, Described
from cxr_dicom.synthetic import radiograph


def is_urgent(tmp_path, image, sender="MODALITY", called="CXRDICOM", **rules):
    asked = Asked(UrgentSettings.model_validate(rules))
    image.save_as(tmp_path / "image.dcm", enforce_file_format=True)
    header = read_header(tmp_path / "image.dcm", asked.attributes)
    return any(asked.answers(Described.of(header, sender, called)))


def test_nothing_is_urgent_unless_a_rule_says_so(tmp_path):
    assert not is_urgent(tmp_path, radiograph(64, 48, StudyDescription="STAT"))


def test_where_nothing_is_asked_no_header_need_be_described():
    assert not Asked(Conditions())
    assert Asked(Conditions(words=["stat"]))
    assert Asked(Conditions(senders=["ROOM"]))


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


# --- each condition ------------------------------------------------------------------------------


def of(image=None, sender="MODALITY", called="CXRDICOM", /, **header):
    dataset = image or Dataset()
    for keyword, value in header.items():
        setattr(dataset, keyword, value)
    return Described.of(Header(dataset=dataset, pixel_keyword="", pixel_length=None), sender, called)


def holds(image, **conditions):
    return all(Asked(Conditions.model_validate(conditions)).answers(image))


def code(value):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "x"
    return [item]


@pytest.mark.parametrize(
    ("image", "conditions", "is_so"),
    [
        (of(), {}, True),  # which asks nothing
        (of(None, "ER1 "), {"senders": ["er1"]}, True),
        (of(None, "ER10"), {"senders": ["ER1"]}, False),
        (of(None, "WEB:anna"), {"senders": ["WEB"]}, True),
        (of(None, "WEB:anna"), {"senders": ["web:Anna"]}, True),
        (of(None, "WEB:anna"), {"senders": ["WEB:ben"]}, False),
        (of(None, "WEBER"), {"senders": ["WEB"]}, False),
        (of(None, None), {"senders": ["None"]}, False),
        (of(None, "M", " Cxr "), {"called_ae_titles": ["CXR"]}, True),
        (of(None, "M", None), {"called_ae_titles": ["CXR"]}, False),
        (of(Modality="dx "), {"modalities": ["CR", "DX"]}, True),
        (of(ViewPosition="AP"), {"views": ["ap"]}, True),
        (of(ViewPosition="ANTEROPOSTERIOR"), {"views": ["AP"]}, True),
        (of(ViewCodeSequence=code("399348003")), {"views": ["AP"]}, True),
        (of(ViewCodeSequence=code("272479007")), {"views": ["AP"]}, False),
        (of(ViewPosition="LLD"), {"views": ["LLD"]}, True),
        (of(StationName="ROOM  3"), {"stations": ["room 3"]}, True),
        (of(StationName="ROOM 33"), {"stations": ["ROOM 3"]}, False),
        (of(StationName=["A", "B"]), {"stations": ["B"]}, True),
        (of(BodyPartExamined="CHEST"), {"words": ["chest"]}, True),
        (of(ProtocolName="Thorax Bett"), {"words": ["thorax bett"]}, True),
        (of(StudyDescription="THORAX", SeriesDescription="BETT"), {"words": ["thorax bett"]}, False),  # two texts
        (of(Modality="CR", StationName="A"), {"modalities": ["CR"], "stations": ["B"]}, False),  # all have to hold
    ],
)
def test_a_condition_holds(image, conditions, is_so):
    assert holds(image, **conditions) is is_so


@pytest.mark.parametrize(
    ("said", "asked", "is_so"),
    [
        ("CHEST .* PORTABLE", ".*", True),  # which stands for itself
        ("CHEST PORTABLE", ".*", False),
        ("CHEST (AP)", "(ap)", True),
        ("CHEST", "[A-Z]+", False),
        ("胸部正面 立位", "正面", True),  # no blanks between words
        ("ตรวจปอดเช้า", "ปอด", True),
        ("Phổi thẳng", "ổi", False),  # a script that parts them
        ("STRASSE", "straße", True),
        ("Tho\u0301rax", "th\u00f3rax", True),  # one letter, written in two ways
        ("İSTANBUL", "i̇stanbul", True),
        ("CHEST\u3000AP", "chest ap", True),  # a wide blank
        ("ГРУДЬ", "грудь", True),
    ],
)
def test_a_word_is_a_text_and_no_pattern(said, asked, is_so):
    image = of(SpecificCharacterSet="ISO_IR 192", SeriesDescription=said)
    assert holds(image, words=[asked]) is is_so


@pytest.mark.parametrize("blank", ["", " ", "\x1c", "\u3000"])
def test_a_blank_is_no_word(blank):
    with pytest.raises(ValidationError):
        Conditions(words=(blank,))


def test_what_is_read_of_a_header_is_bounded():
    image = of(SeriesDescription="x " * 1_000_000 + "stat", StudyDescription=["chest"] * 100_000)
    assert len(image.texts) < 10_000
    assert holds(image, words=["chest"])
    assert not holds(image, words=["stat"])


@pytest.mark.parametrize(
    ("narrow", "wide", "does"),
    [
        ({}, {}, True),
        ({"senders": ["A"]}, {}, True),
        ({}, {"senders": ["A"]}, False),
        ({"senders": ["a"]}, {"senders": ["A", "B"]}, True),
        ({"senders": ["A", "C"]}, {"senders": ["A", "B"]}, False),
        ({"senders": ["A"], "views": ["AP"]}, {"senders": ["A"]}, True),
        ({"senders": ["A"]}, {"senders": ["A"], "views": ["AP"]}, False),
        ({"words": ["chest stat"]}, {"words": ["stat"]}, True),
        ({"words": ["stat", "chest"]}, {"words": ["stat"]}, False),
        ({"words": ["station"]}, {"words": ["stat"]}, False),
        ({"senders": ["A"]}, {"words": ["stat"]}, False),
        ({"words": ["stat"]}, {"senders": ["A"]}, False),
    ],
)
def test_what_implies_what(narrow, wide, does):
    assert Asked(Conditions.model_validate(narrow)).implies(Asked(Conditions.model_validate(wide))) is does
