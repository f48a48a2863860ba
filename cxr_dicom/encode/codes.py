"""Codes that every object uses, and how a code becomes a sequence item (PS3.3 8.8)."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom import Dataset

from cxr_dicom.encode.shared import shared
from cxr_dicom.records import Code, ModelInfo, Presence

ARTIFICIAL_INTELLIGENCE = Code(value="123110", scheme="DCM", meaning="Artificial Intelligence")
CHEST = Code(value="51185008", scheme="SCT", meaning="Chest")
DERIVATION_SEGMENTATION = Code(value="113076", scheme="DCM", meaning="Segmentation")
DERIVATION_CALCULATION = Code(value="112187", scheme="DCM", meaning="Unspecified method of calculation")
PROCESSING_EQUIPMENT = Code(value="109102", scheme="DCM", meaning="Processing Equipment")
SOURCE_IMAGE = Code(value="121322", scheme="DCM", meaning="Source image for image processing operation")
NO_UNITS = Code(value="1", scheme="UCUM", meaning="no units")
QUANTITY = Code(value="246205007", scheme="SCT", meaning="Quantity")

PROBABILITY_SCHEME = "99CXRPROB"  # the probability of the concept that has the same value elsewhere

CALLS = {  # CID 240
    Presence.PRESENT: Code(value="52101004", scheme="SCT", meaning="Present"),
    Presence.ABSENT: Code(value="2667000", scheme="SCT", meaning="Absent"),
    Presence.INDETERMINATE: Code(value="373068000", scheme="SCT", meaning="Undetermined"),
}


@shared()
def code_item(code: Code) -> Dataset:
    """Return ``code`` as an item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code.value, code.scheme
    item.CodeMeaning = ascii_text(code.meaning, 64)
    return item


@shared()
def algorithm_item(model: ModelInfo) -> Dataset:
    """Return ``model`` as an item of an Algorithm Identification (PS3.3 10.16)."""
    item = Dataset()
    item.AlgorithmFamilyCodeSequence = [code_item(ARTIFICIAL_INTELLIGENCE)]
    item.AlgorithmName = ascii_text(model.name, 64)
    item.AlgorithmVersion = ascii_text(model.version, 64)
    item.AlgorithmSource = ascii_text(model.manufacturer, 64)
    if model.weights_sha256:
        item.AlgorithmParameters = f"weights SHA-256 {model.weights_sha256}"
    return item


@shared()
def coding_scheme_items(name: str, *schemes: str) -> list[Dataset]:
    """Return the Coding Scheme Identification Sequence that explains private schemes (PS3.3 C.12.1.1.11)."""
    items = []
    for scheme in schemes:
        item = Dataset()
        item.CodingSchemeDesignator, item.CodingSchemeName = scheme, name
        item.CodingSchemeResponsibleOrganization = name
        items.append(item)
    return items


def ascii_text(text: str, limit: int) -> str:
    """Return ``text`` so that every character set holds it, and no longer than its VR allows."""
    plain = text.encode("ascii", "replace").decode().replace("\\", "/")
    return plain[:limit]


def joined(parts: Iterable[str], limit: int) -> str:
    """Return the non-empty ``parts`` as one text within the limit of its VR."""
    return ascii_text("; ".join(part for part in parts if part), limit)
