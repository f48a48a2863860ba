"""Headers in the DICOM JSON Model (PS3.18 F)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from pydicom import DataElement, Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRBigEndian

from cxr_dicom.dicom.files import PARSING_ERRORS, Header
from cxr_dicom.web.answers import NotAnsweredError

Json = dict[str, Any]

_MAX_INLINE = 4096  # bytes of a value that is no text or number
SPACINGS = ("PixelSpacing", "ImagerPixelSpacing")
_PIXEL_VR = {"PixelData": "OW", "FloatPixelData": "OF", "DoubleFloatPixelData": "OD"}
_UTF_8 = "ISO_IR 192"


def expect_little_endian(header: Header) -> None:
    """Refuse what would have to be written anew.

    Raises
    ------
    NotAnsweredError
        If the file is big endian, which was retired in 2006 (PS3.5 A.3).
    """
    if header.transfer_syntax == ExplicitVRBigEndian:
        raise NotAnsweredError(406, "This instance is stored big endian, and can be had as a whole only.")


def metadata(header: Header, address: str) -> Json:
    """Return all that a header says; long binary values, and pixels, by their addresses.

    A spacing of zero, which viewers take at its word and then show nothing, is left out. Sequences are whole.

    Parameters
    ----------
    address
        Of the instance.
    """
    expect_little_endian(header)

    def uri(tag: BaseTag) -> str:
        return f"{address}/bulkdata/{tag:08X}"

    made: Json = {}
    for tag in sorted(header.dataset.keys()):
        if tag.element and (found := _element(header.dataset, tag, uri)):
            made[f"{tag:08X}"] = found
    if header.pixel_keyword:
        pixels = Tag(header.pixel_keyword)
        vr = "OB" if header.pixel_length is None else _PIXEL_VR[header.pixel_keyword]
        made[f"{pixels:08X}"] = {"vr": vr, "BulkDataURI": uri(pixels)}
    return made


def leaves_out_spacing(header: Header) -> bool:
    """Whether metadata are without a spacing that the header has, because it is zero."""
    try:
        return any(_has_zero(header.dataset[keyword]) for keyword in SPACINGS if keyword in header.dataset)
    except PARSING_ERRORS:
        return False


def attributes(dataset: Dataset) -> Json:
    """Return what a data set says, without long binary values."""
    found = ((tag, _element(dataset, tag, None)) for tag in sorted(dataset.keys()))
    return {f"{tag:08X}": element for tag, element in found if element}


def _element(dataset: Dataset, tag: BaseTag, uri: Callable[[BaseTag], str] | None) -> Json | None:
    """Return one element; None for one that cannot be read, or must not be shown."""
    try:
        element = dataset[tag]
        if element.keyword in SPACINGS and _has_zero(element):
            return None
        if element.keyword == "SpecificCharacterSet":
            return {"vr": "CS", "Value": [_UTF_8]}  # JSON is UTF-8 (PS3.18 F.2)
        if isinstance(element.value, bytes) and len(element.value) > _MAX_INLINE:
            return {"vr": str(element.VR), "BulkDataURI": uri(tag)} if uri else None
        made: Json = _sound(element.to_json_dict(None, 0))
    except PARSING_ERRORS:
        return None
    else:
        return made


def _has_zero(element: DataElement) -> bool:
    values = element.value if element.VM > 1 else [element.value]
    return element.VM > 0 and any(value is not None and float(value) == 0 for value in values)


def _sound(value: Any) -> Any:
    """Return a value with null for what JSON has no number for, and what is empty among others (PS3.18 F.2.5)."""
    if isinstance(value, dict):
        return {key: _sound(each) for key, each in value.items() if each != []}  # an empty sequence has no Value
    if isinstance(value, list):
        return [None if each == "" else _sound(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
