"""Which images are of an emergency: by sender, by the name that was called, or by words of the header."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydicom import Dataset

from cxr_dicom.config.service import UrgentSettings
from cxr_dicom.dicom.files import Header, values

_REQUEST = "RequestAttributesSequence"  # what was ordered (PS3.3 10.6)
_TEXTS = (  # descriptions and priorities (PS3.3 C.7.2.1, C.7.3.1, C.4.11, C.3.2, 10.6)
    "StudyDescription",
    "SeriesDescription",
    "PerformedProcedureStepDescription",
    "RequestedProcedureDescription",
    "ScheduledProcedureStepDescription",
    "RequestedProcedurePriority",
    "StudyPriorityID",
)
ATTRIBUTES = (*_TEXTS, _REQUEST)  # that `Urgency.of` reads


class Urgency:
    """The rules of ``[assembly.urgent]``; any of them makes an image urgent."""

    def __init__(self, settings: UrgentSettings) -> None:
        self._settings = settings
        self._words = [_whole(word) for word in settings.words]

    @property
    def attributes(self) -> tuple[str, ...]:
        """What the header must have been read for."""
        return ATTRIBUTES if self._words else ()

    def of(self, header: Header, sender: str, called_ae_title: str | None) -> bool:
        """Tell whether an image is urgent."""
        if sender in self._settings.senders or called_ae_title in self._settings.called_ae_titles:
            return True
        texts = _texts(header.dataset) if self._words else ()
        return any(word.search(" ".join(text.split())) for text in texts for word in self._words)


def _texts(dataset: Dataset) -> Iterator[str]:
    """Yield what the descriptions and priorities of an image, and of what was ordered, say."""
    for place in (dataset, *values(dataset, _REQUEST)):
        for keyword in _TEXTS:
            yield from map(str, values(place, keyword))


def _whole(word: str) -> re.Pattern[str]:
    """Find a word as a whole, in whatever case: "stat" is in "CHEST STAT", and not in "STATION"."""
    return re.compile(rf"(?<!\w){re.escape(' '.join(word.split()))}(?!\w)", re.IGNORECASE)
