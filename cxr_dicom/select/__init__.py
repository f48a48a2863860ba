"""Which images of a study are eligible, and why the others are not."""

from cxr_dicom.select.eligibility import select

__all__ = ["select"]
