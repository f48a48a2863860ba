"""Anatomical structures as records: stable names, SNOMED CT codes, sides and colours."""

from __future__ import annotations

import colorsys
import hashlib

from cxr_dicom.dicom.codes import LEFT, ORGAN, RIGHT
from cxr_dicom.records import Code, Structure

SIDES = {"right": RIGHT, "left": LEFT}

_COLOURS = {  # the structures that every reader looks at; the others take theirs from their name
    "right_lung": (90, 155, 213),
    "left_lung": (112, 193, 179),
    "heart": (214, 73, 73),
    "aorta": (190, 40, 90),
    "mediastinum": (230, 150, 90),
    "spine": (240, 215, 120),
    "trachea": (130, 205, 235),
    "diaphragm": (170, 120, 200),
}


def structure(name: str, code: Code, category: Code = ORGAN) -> Structure:
    """Return the structure ``name``; a name that begins with a side has that side.

    Parameters
    ----------
    name
        Stable key, snake_case with the side first: ``right_lung``.
    code
        Segmented Property Type, without the side.
    category
        Segmented Property Category.
    """
    side = name.partition("_")[0]
    return Structure(
        name=name,
        title=name.replace("_", " ").capitalize(),
        category=category,
        type=code,
        laterality=SIDES.get(side),
        colour=_COLOURS.get(name) or _colour(name),
    )


def snomed(value: str, meaning: str) -> Code:
    """Return a SNOMED CT concept."""
    return Code(value=value, scheme="SCT", meaning=meaning)


def _colour(name: str) -> tuple[int, int, int]:
    """A bright colour that depends on nothing but the name."""
    hue, lightness, *_ = hashlib.sha256(name.encode()).digest()
    red, green, blue = colorsys.hls_to_rgb(hue / 256, 0.5 + 0.2 * lightness / 255, 0.65)
    return round(red * 255), round(green * 255), round(blue * 255)
