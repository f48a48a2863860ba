"""Key Object Selection: flags the images with a finding called present (PS3.3 A.35.4, TID 2010)."""

from __future__ import annotations

from collections.abc import Iterator

from cxr_dicom.config import Settings
from cxr_dicom.encode.base import Encoded, Encoder
from cxr_dicom.records import StudyAnalysis


def build(settings: Settings) -> Encoder:
    """Make the encoder of key object selections."""
    return KeyObjectEncoder(settings)


class KeyObjectEncoder:
    """One key object selection per study; none when no finding is called present."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def encode(self, study: StudyAnalysis) -> Iterator[Encoded]:
        """Yield the selection of a study."""
        from cxr_dicom.encode.key_object_selection import key_object_selection

        selection = key_object_selection(study, self._settings)
        if selection:
            yield selection
