r"""A synthetic plane for a radiograph, which has none.

A CR or DX image has no Frame of Reference, position or orientation. Viewers need a plane to show
a derived object over it, and place a radiograph at 0\0\0 with orientation 1\0\0\0\1\0. With
``geometry = "viewer"`` our objects state just that; the source is never changed. With ``"strict"``
segmentations state no plane, as the standard lets them (PS3.3 A.51.5); a parametric map must
have one (PS3.3 A.75.4).
"""

from __future__ import annotations

from pydicom import Dataset
from pydicom.valuerep import DSfloat

from cxr_dicom.config import Settings
from cxr_dicom.encode.identity import frame_of_reference_uid
from cxr_dicom.encode.shared import shared
from cxr_dicom.records import ChestImage, Spacing

_THICKNESS_MM = 1


def has_plane(settings: Settings) -> bool:
    """Whether objects state a synthetic plane."""
    return settings.encode.geometry != "strict"


def set_frame_of_reference(dataset: Dataset, image: ChestImage) -> None:
    """State the Frame of Reference that all objects about ``image`` share (PS3.3 C.7.4.1)."""
    dataset.FrameOfReferenceUID = frame_of_reference_uid(image)
    dataset.PositionReferenceIndicator = ""


@shared(maxsize=64)
def plane_groups(spacing: Spacing) -> Dataset:
    """Return Pixel Measures and Plane Orientation as functional groups (PS3.3 C.7.6.16.2)."""
    groups = Dataset()
    measures, orientation = Dataset(), Dataset()
    measures.PixelSpacing = [_decimal(spacing.rows_mm), _decimal(spacing.columns_mm)]
    measures.SliceThickness = measures.SpacingBetweenSlices = _THICKNESS_MM
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    groups.PixelMeasuresSequence = [measures]
    groups.PlaneOrientationSequence = [orientation]
    return groups


@shared()
def plane_position(x_mm: float = 0, y_mm: float = 0) -> Dataset:
    """Return where the centre of the first pixel lies; that of the source lies at the origin."""
    position = Dataset()
    position.ImagePositionPatient = [_decimal(x_mm), _decimal(y_mm), 0] if x_mm or y_mm else [0, 0, 0]
    return position


def _decimal(value: float) -> DSfloat:
    """Fit a number into the 16 characters of a DS."""
    return DSfloat(value, auto_format=True)
