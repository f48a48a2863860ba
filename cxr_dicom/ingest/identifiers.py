"""Identifiers of C-FIND (PS3.4 C.4.1.1.3) as archives write them."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.multival import MultiValue

from cxr_dicom.dicom.files import PARSING_ERRORS
from cxr_dicom.ingest.matching import Item, codes, unpadded


def item_of(identifier: Dataset | None) -> Item:
    """Read a match; an element that cannot be read counts as not returned, a match that cannot is empty."""
    item = {}
    for tag in identifier.keys() if identifier is not None else ():
        try:
            element = identifier[tag]  # type: ignore[index]  # then there is no tag
            texts = _texts(element.VR, element.value)
        except PARSING_ERRORS:
            continue
        if name := keyword_for_tag(tag):
            item[name] = tuple(code for each in texts if (text := unpadded(each)) for code in codes(name, text) if code)
    return item


def _texts(vr: str, value: object) -> Iterable[str]:
    if value is None or vr == "SQ":
        return ()
    values = value if isinstance(value, (list, MultiValue)) else [value]
    return [part for each in values for part in (str(each).split("=") if vr == "PN" else [str(each)])]
