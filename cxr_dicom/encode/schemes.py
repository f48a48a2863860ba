"""Private coding schemes that a model brings: each object that uses one says that there is no public table of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from pydicom import DataElement, Dataset

from cxr_dicom.encode.codes import coding_scheme_items
from cxr_dicom.records import Code, StudyAnalysis

_PRIVATE = "99"  # begins the designator of every private scheme (PS3.16 8.2)
_NAME = "Private scheme of a model or site"
_PARTS = ("findings", "masks", "heatmaps", "measurements", "statements", "detections")


def brought(study: StudyAnalysis) -> frozenset[str]:
    """Private schemes of what the models of a study predicted."""
    return frozenset(code.scheme for code in _codes(study) if code.scheme.startswith(_PRIVATE))


def declare(dataset: Dataset, schemes: frozenset[str]) -> None:
    """Add those of ``schemes`` that an object uses to its Coding Scheme Identification Sequence (PS3.3 C.12.1.1.11)."""
    declared = {item.CodingSchemeDesignator for item in dataset.get("CodingSchemeIdentificationSequence", ())}
    if missing := schemes - declared:
        used: set[str] = set()

        def look(_: Dataset, element: DataElement) -> None:
            if element.keyword == "CodingSchemeDesignator":
                used.add(element.value)

        dataset.walk(look)
        if found := sorted(missing & used):
            items = [*dataset.get("CodingSchemeIdentificationSequence", ()), *coding_scheme_items(_NAME, *found)]
            dataset.CodingSchemeIdentificationSequence = items


def _codes(study: StudyAnalysis) -> Iterator[Code]:
    for prediction in (prediction for image in study.images for prediction in image.predictions):
        for item in (item for part in _PARTS for item in getattr(prediction, part)):
            for record in (item, getattr(item, "structure", None)):
                values = (getattr(record, each.name) for each in fields(record)) if record is not None else ()
                yield from (value for value in values if isinstance(value, Code))
