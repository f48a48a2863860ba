"""A structured report around a content tree: Enhanced SR (PS3.3 A.35.2).

Enhanced SR holds all that is said here: numbers, codes and 2D coordinates, all by value.
Comprehensive 3D SR would add 3D coordinates, which a radiograph cannot have.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydicom import Dataset

from cxr_dicom.encode.common import Head, new_object
from cxr_dicom.encode.identity import Identity, Reference
from cxr_dicom.records import StoredInstance

_ROOT = ("ValueType", "ConceptNameCodeSequence", "ContinuityOfContent", "ContentTemplateSequence", "ContentSequence")


def report_document(head: Head, root: Dataset, evidence: Dataset, predecessor: Reference | None) -> Dataset:
    """Return the report with content tree ``root``, complete, preliminary and unverified.

    Parameters
    ----------
    evidence
        What the tree refers to, as :func:`evidence` returns it.
    predecessor
        The report that it takes the place of.
    """
    dataset = new_document(head, root, evidence)
    if predecessor:
        study = head.image.instance.study_instance_uid
        dataset.PredecessorDocumentsSequence = [_cited(study, [predecessor])]
    dataset.PerformedProcedureCodeSequence = []
    dataset.CompletionFlag = "COMPLETE"
    dataset.PreliminaryFlag = "PRELIMINARY"
    dataset.VerificationFlag = "UNVERIFIED"
    return dataset


def new_document(head: Head, root: Dataset, evidence: Dataset) -> Dataset:
    """Return what all documents with a content tree are made of (PS3.3 C.17)."""
    dataset = new_object(head)
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.CurrentRequestedProcedureEvidenceSequence = [evidence]
    for keyword in _ROOT:
        dataset[keyword] = root[keyword]
    return dataset


def evidence(instances: Iterable[StoredInstance], results: Iterable[Reference] = ()) -> Dataset:
    """Return what the tree refers to, by series: one study's item of an evidence sequence (PS3.3 C.17.2.3)."""
    instances = list(instances)
    sources = [
        Reference(instance.sop_class_uid, Identity(instance.series_instance_uid, instance.sop_instance_uid))
        for instance in instances
    ]
    return _cited(instances[0].study_instance_uid, [*sources, *results])


def _cited(study: str, references: Iterable[Reference]) -> Dataset:
    """Return the references to objects of one study, by series (PS3.3 table C.17-3)."""
    series: dict[str, dict[str, str]] = {}
    for sop_class_uid, identity in references:
        series.setdefault(identity.series_instance_uid, {})[identity.sop_instance_uid] = sop_class_uid
    item = Dataset()
    item.StudyInstanceUID = study
    item.ReferencedSeriesSequence = [_series(uid, contents) for uid, contents in series.items()]
    return item


def _series(uid: str, contents: dict[str, str]) -> Dataset:
    item = Dataset()
    item.SeriesInstanceUID = uid
    item.ReferencedSOPSequence = []
    for sop_instance_uid, sop_class_uid in contents.items():
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = sop_class_uid, sop_instance_uid
        item.ReferencedSOPSequence.append(reference)
    return item
