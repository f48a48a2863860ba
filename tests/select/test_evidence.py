"""Where a refusal comes from is said, without the text itself; meanings count word by word."""

import pytest
from pydicom import Dataset

from cxr_dicom.records import Reason, Skipped
from cxr_dicom.synthetic import radiograph


@pytest.fixture
def uncoded():
    """Give an image whose codes say neither what part of the body it shows nor from where."""

    def make(**attributes):
        dataset = radiograph(32, 32)
        for keyword in ("BodyPartExamined", "AnatomicRegionSequence", "ViewPosition", "ViewCodeSequence"):
            if keyword in dataset:
                del dataset[keyword]
        for keyword in ("StudyDescription", "SeriesDescription"):
            setattr(dataset, keyword, "")
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)
        return dataset

    return make


def code(meaning):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "99TEST", meaning
    return item


@pytest.mark.parametrize(
    ("attributes", "reason", "detail"),
    [
        (
            {"StudyDescription": "Hand of Doe"},
            Reason.NOT_CHEST,
            "expected a chest, StudyDescription names another part of the body",
        ),
        (
            {"SeriesDescription": "lateral, Doe"},
            Reason.NOT_FRONTAL,
            "expected a frontal view, SeriesDescription names another view",
        ),
        ({"BodyPartExamined": "HAND"}, Reason.NOT_CHEST, "expected a chest, Body Part Examined is HAND"),
        ({"ViewPosition": "LL"}, Reason.NOT_FRONTAL, "expected a frontal view, View Position is LL"),
        (
            {"PatientOrientation": ["A", "F"]},
            Reason.NOT_FRONTAL,
            "expected a frontal view, Patient Orientation begins with A/F",
        ),
        (
            {"AnatomicRegionSequence": [code("Hand")]},
            Reason.NOT_CHEST,
            "expected a chest, Anatomic Region means another one",
        ),
    ],
)
def test_a_refusal_says_which_attribute_it_comes_from(selected, uncoded, attributes, reason, detail):
    skipped = selected(uncoded(**attributes))
    assert isinstance(skipped, Skipped)
    assert (skipped.reason, skipped.detail) == (reason, detail)


@pytest.mark.parametrize(
    ("meanings", "is_refused"), [(["Hand", "Wrist"], True), (["Chest", "Hand"], False), (["Somewhere"], False)]
)
def test_regions_are_refused_when_all_that_is_named_is_another_part(selected, uncoded, meanings, is_refused):
    found = selected(uncoded(AnatomicRegionSequence=[code(meaning) for meaning in meanings]))
    assert isinstance(found, Skipped) is is_refused
