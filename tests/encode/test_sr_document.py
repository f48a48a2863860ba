"""The document around a content tree: what it cites, and what it says of itself (PS3.3 C.17)."""

from dataclasses import replace

import pytest
from highdicom.sr.utils import collect_evidence
from pydicom import Dataset
from pydicom.uid import EnhancedSRStorage

from cxr_dicom.encode.common import Head
from cxr_dicom.encode.identity import Identity, Reference
from cxr_dicom.encode.sr_document import evidence, new_document, report_document
from tests import painted


@pytest.fixture
def head(image):
    return Head(
        reference=Reference(EnhancedSRStorage, Identity("1.2.3", "1.2.3.4")),
        image=image,
        models=[painted.model("one")],
        settings=painted.settings(),
        modality="SR",
        series_number=1,
        series_description="Report",
    )


@pytest.fixture
def root():
    """A root item, as if it were one of a larger tree."""
    item = Dataset()
    item.ValueType, item.ContinuityOfContent, item.RelationshipType = "CONTAINER", "SEPARATE", "CONTAINS"
    item.ConceptNameCodeSequence, item.ContentTemplateSequence = [Dataset()], [Dataset()]
    item.ContentSequence = [Dataset(), Dataset()]
    return item


def instances(image, *numbers):
    """Instances of one study, by series and number."""
    return [
        replace(image.instance, series_instance_uid=f"1.2.{series}", sop_instance_uid=f"1.2.{series}.{number}")
        for series, number in numbers
    ]


def as_dataset(instance):
    dataset = Dataset()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = instance.study_instance_uid, instance.series_instance_uid
    dataset.SOPClassUID, dataset.SOPInstanceUID = instance.sop_class_uid, instance.sop_instance_uid
    return dataset


@pytest.mark.parametrize(
    "numbers",
    [[(1, 1)], [(1, 1), (1, 2)], [(1, 1), (2, 1), (1, 2)], [(2, 1), (1, 1), (2, 1)]],
    ids=["one", "one series", "series in turn", "one twice"],
)
def test_evidence_is_sorted_by_series_as_highdicom_does_it(image, numbers):
    cited = instances(image, *numbers)
    tree = Dataset()
    tree.ContentSequence = []
    (expected,), other = collect_evidence([as_dataset(each) for each in cited], tree, cited[0].study_instance_uid)
    assert other == []
    assert evidence(iter(cited)).to_json_dict() == expected.to_json_dict()


def test_results_are_cited_after_their_sources_with_a_class_of_their_own(image):
    (source,) = instances(image, (1, 1))
    results = [
        Reference("1.2.840.10008.5.1.4.1.1.66.4", Identity("1.2.9", "1.2.9.1")),
        Reference(EnhancedSRStorage, Identity("1.2.1", "1.2.1.5")),
    ]
    first, second = evidence([source], results).ReferencedSeriesSequence
    assert (first.SeriesInstanceUID, second.SeriesInstanceUID) == ("1.2.1", "1.2.9")
    assert [(each.ReferencedSOPClassUID, each.ReferencedSOPInstanceUID) for each in first.ReferencedSOPSequence] == [
        (source.sop_class_uid, source.sop_instance_uid),
        (EnhancedSRStorage, "1.2.1.5"),
    ]
    assert [each.ReferencedSOPInstanceUID for each in second.ReferencedSOPSequence] == ["1.2.9.1"]


def test_a_document_is_its_root_without_what_only_an_item_inside_has(head, root):
    document = new_document(head, root, Dataset())
    taken = [each.keyword for each in root if each.keyword in document]
    assert taken == [each.keyword for each in root if each.keyword != "RelationshipType"]
    assert all(document[keyword] == root[keyword] for keyword in taken)
    assert document.SOPInstanceUID == "1.2.3.4"


def test_what_the_standard_wants_even_if_it_is_empty_is_there(head, root, image):
    about = evidence([image.instance])
    document = report_document(head, root, about, None)
    empty = {each.keyword for each in document if each.VR == "SQ" and not each.value}
    assert empty == {"ReferencedPerformedProcedureStepSequence", "PerformedProcedureCodeSequence"}
    assert list(document.CurrentRequestedProcedureEvidenceSequence) == [about]


def test_a_report_is_complete_and_nobody_has_verified_it(head, root):
    document = report_document(head, root, Dataset(), None)
    flags = (document.CompletionFlag, document.PreliminaryFlag, document.VerificationFlag)
    assert flags == ("COMPLETE", "PRELIMINARY", "UNVERIFIED")
    assert "PredecessorDocumentsSequence" not in document
    others = new_document(head, root, Dataset())
    assert not {"CompletionFlag", "PreliminaryFlag", "VerificationFlag"} & {each.keyword for each in others}


def test_a_report_names_the_one_whose_place_it_takes_in_its_own_study(head, root, image):
    before = Reference(EnhancedSRStorage, Identity("1.2.3", "1.2.3.3"))
    (study,) = report_document(head, root, Dataset(), before).PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (report,) = series.ReferencedSOPSequence
    assert study.StudyInstanceUID == image.instance.study_instance_uid
    assert series.SeriesInstanceUID == "1.2.3"
    assert (report.ReferencedSOPClassUID, report.ReferencedSOPInstanceUID) == (EnhancedSRStorage, "1.2.3.3")
