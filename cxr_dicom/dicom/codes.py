"""Codes that more than one stage uses. A stage's own codes live in the stage.

SCT is SNOMED CT, UCUM the units of PS3.16 CID 7181, and 99CXRDICOM the private scheme of this
project, whose concepts ``docs/conformance.md`` defines.
"""

from __future__ import annotations

from cxr_dicom.records import Code

PRIVATE_SCHEME = "99CXRDICOM"
SITE_SCHEME = "99CXRSITE"  # concepts that the settings of a site name without a code; theirs, not ours
WRAPPER = "cxr-dicom wrap"  # Manufacturer of a DX image that was made from a picture

RIGHT = Code(value="24028007", scheme="SCT", meaning="Right")
LEFT = Code(value="7771000", scheme="SCT", meaning="Left")

ORGAN = Code(value="123037004", scheme="SCT", meaning="Anatomical structure")
LUNG = Code(value="39607008", scheme="SCT", meaning="Lung")
HEART = Code(value="80891009", scheme="SCT", meaning="Heart")
THORAX = Code(value="51185008", scheme="SCT", meaning="Thorax")
SPINE = Code(value="421060004", scheme="SCT", meaning="Spine")

AREA = Code(value="42798000", scheme="SCT", meaning="Area")

MILLIMETRE = Code(value="mm", scheme="UCUM", meaning="millimeter")
SQUARE_MILLIMETRE = Code(value="mm2", scheme="UCUM", meaning="square millimeter")
PIXELS = Code(value="{pixels}", scheme="UCUM", meaning="pixels")
RATIO = Code(value="{ratio}", scheme="UCUM", meaning="ratio")


def private(value: str, meaning: str) -> Code:
    """Return a concept of this project's own scheme.

    Parameters
    ----------
    value
        At most 16 characters: Code Value is SH.
    meaning
        At most 64 characters: Code Meaning is LO.
    """
    return Code(value=value, scheme=PRIVATE_SCHEME, meaning=meaning)
