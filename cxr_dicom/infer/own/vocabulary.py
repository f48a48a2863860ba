"""Codes of what a network of the user's predicts: as its table says, else by name, else a concept of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache

from cxr_dicom.config.own import Label
from cxr_dicom.dicom.codes import SITE_SCHEME, private
from cxr_dicom.infer.cxas_structures import STRUCTURES as CXAS_STRUCTURES
from cxr_dicom.infer.findings import FINDINGS, FindingType
from cxr_dicom.infer.models import chestx_det, offline_anatomy
from cxr_dicom.infer.structures import structure
from cxr_dicom.records import Code, Structure

ABNORMAL = Code(value="49755003", scheme="SCT", meaning="Morphologically Abnormal Structure")  # PS3.16 CID 7150
RADELEMENT = "RADELEMENT"  # 1.2.840.10008.2.16.15 (PS3.6 A)
_SHORT = 16  # characters of a Code Value: SH


def finding(label: Label) -> FindingType:
    """Return the finding of a label; one that the package knows has its code and site."""
    known = _findings().get(label.name)
    if label.code is None and known is not None:
        return known if label.radelement is None else replace(known, code=_and_radelement(known.code, label))
    return FindingType(name=label.name, code=code(label))


def outlined(label: Label) -> Structure:
    """Return the structure of a label; one that the package knows has its code and colour."""
    known, found = _structures().get(label.name), _findings().get(label.name)
    if known is not None:
        return replace(known, type=_and_radelement(known.type, label) if label.code is None else code(label))
    if found is not None:
        return structure(label.name, finding(label).code, ABNORMAL)
    return structure(label.name, code(label))


def code(label: Label) -> Code:
    """Return the code of a label's table, else one of this site's own scheme, made from the name alone."""
    if label.code is not None:
        value, scheme, meaning = label.code
        return _and_radelement(Code(value=value, scheme=scheme, meaning=meaning), label)
    value = label.name.upper()
    if len(value) > _SHORT:
        value = f"{value[:7]}_{hashlib.sha256(label.name.encode()).hexdigest()[:8].upper()}"
    made = replace(private(value, label.name.replace("_", " ").capitalize()), scheme=SITE_SCHEME)
    return _and_radelement(made, label)


def _and_radelement(code: Code, label: Label) -> Code:
    """Return a code with what the table says is the same in RadElement."""
    if label.radelement is None:
        return code
    return replace(code, equivalent=Code(value=label.radelement, scheme=RADELEMENT, meaning=code.meaning))


@cache
def _findings() -> Mapping[str, FindingType]:
    return {kind.name: kind for kind in FINDINGS.values()}


@cache
def _structures() -> Mapping[str, Structure]:
    known = (*offline_anatomy.STRUCTURES.values(), *chestx_det.STRUCTURES, *CXAS_STRUCTURES)
    return {item.name: item for item in reversed(known)}
