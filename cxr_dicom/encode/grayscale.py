"""How a presentation state shows the grays of its image: as the image asks for itself (PS3.3 C.11)."""

from __future__ import annotations

from copy import deepcopy
from math import isfinite

from pydicom import Dataset

from cxr_dicom.dicom.files import values

_MIN_WIDTH = 1.0  # of a LINEAR window (PS3.3 C.11.2.1.2)


def set_grayscale(dataset: Dataset, header: Dataset) -> None:
    """Copy the Modality LUT and the first usable window or VOI LUT, and state the polarity.

    A damaged or missing one is left out: then the viewer chooses, as it does without this object.
    """
    slope, intercept = _number(header, "RescaleSlope"), _number(header, "RescaleIntercept")
    if lut := _first(header, "ModalityLUTSequence"):
        dataset.ModalityLUTSequence = [lut]
    elif slope is not None and intercept is not None:
        dataset.RescaleIntercept, dataset.RescaleSlope = intercept, slope
        dataset.RescaleType = _text(header, "RescaleType") or "US"
    window = _window(header)
    if window is not None:
        dataset.SoftcopyVOILUTSequence = [window]
    dataset.PresentationLUTShape = (
        "INVERSE" if _text(header, "PhotometricInterpretation") == "MONOCHROME1" else "IDENTITY"
    )


def _window(header: Dataset) -> Dataset | None:
    item = Dataset()
    centre, width = _number(header, "WindowCenter"), _number(header, "WindowWidth")
    if centre is not None and width is not None and width >= _MIN_WIDTH:
        item.WindowCenter, item.WindowWidth = centre, width
        function = _text(header, "VOILUTFunction")
        if function in ("LINEAR_EXACT", "SIGMOID"):
            item.VOILUTFunction = function
        return item
    if lut := _first(header, "VOILUTSequence"):
        item.VOILUTSequence = [lut]
        return item
    return None


def _number(header: Dataset, keyword: str) -> float | None:
    """The first value of an attribute; None when it is missing, not readable or not finite."""
    try:
        number = float(values(header, keyword)[0])
    except (IndexError, TypeError, ValueError):
        return None
    return float(f"{number:.10g}") if isfinite(number) else None


def _first(header: Dataset, keyword: str) -> Dataset | None:
    """A copy of the first item of a sequence of LUTs, if it is complete."""
    for item in values(header, keyword)[:1]:
        if isinstance(item, Dataset) and values(item, "LUTDescriptor") and values(item, "LUTData"):
            return deepcopy(item)
    return None


def _text(header: Dataset, keyword: str) -> str:
    return "".join(map(str, values(header, keyword)[:1]))
