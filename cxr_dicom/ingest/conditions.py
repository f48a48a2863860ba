"""Which conditions hold for an image: those of ``[assembly.urgent]`` and of ``[[routes]]`` alike.

Capitals, padding and repeated blanks make no difference, nor do two ways in which Unicode writes one letter. There
are no wildcards. What is read of a header is bounded, compared, and kept nowhere.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from pydicom import Dataset

from cxr_dicom.config.routes import Conditions
from cxr_dicom.dicom.files import Header, values
from cxr_dicom.select.evidence import stated_view

_WEB = "WEB"  # stands for all users of the pages: senders `WEB:NAME`
_REQUEST = "RequestAttributesSequence"  # what was ordered (PS3.3 10.6)
_TEXTS = (  # descriptions, priorities, body part (PS3.3 C.7.2.1, C.7.3.1, C.4.11, C.3.2, 10.6)
    "StudyDescription",
    "SeriesDescription",
    "ProtocolName",
    "BodyPartExamined",
    "PerformedProcedureStepDescription",
    "RequestedProcedureDescription",
    "ScheduledProcedureStepDescription",
    "RequestedProcedurePriority",
    "StudyPriorityID",
)
_ATTRIBUTES = {  # by the condition that is about them
    "modalities": ("Modality",),
    "views": ("ViewPosition", "ViewCodeSequence"),
    "stations": ("StationName",),
    "words": (*_TEXTS, _REQUEST),
}
_MOST_VALUES = 16  # of an attribute, and items of a sequence
_MOST_LETTERS = 256  # of a value; LO has 64 (PS3.5 6.2)
_ANYTHING = frozenset({""})  # what an image may be of which nothing is asked
_JOINED = "Lo"  # letters without case, of scripts that mostly do not part words (Unicode, general category)


def folded(text: str) -> str:
    """Return a text as it is compared."""
    return " ".join(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).split())


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """What conditions may be about, of one image. Holds texts of its header: never kept, never shown."""

    senders: frozenset[str]
    called_ae_titles: frozenset[str]
    modalities: frozenset[str]
    views: frozenset[str]
    stations: frozenset[str]
    texts: str  # a line each

    @classmethod
    def of(cls, header: Header, sender: str | None, called_ae_title: str | None) -> Described:
        """Read what the header and the way of an image say."""
        places = [header.dataset, *islice(values(header.dataset, _REQUEST), _MOST_VALUES)]
        return cls(
            senders=_set([sender, _WEB if (sender or "").startswith(f"{_WEB}:") else None]),
            called_ae_titles=_set([called_ae_title]),
            modalities=_set(_values(header.dataset, "Modality")),
            views=_set([stated_view(header), *_values(header.dataset, "ViewPosition")]),
            stations=_set(_values(header.dataset, "StationName")),
            texts="\n".join(folded(text) for place in places for key in _TEXTS for text in _values(place, key)),
        )


class Asked:
    """The conditions of one table, made ready for many images."""

    def __init__(self, conditions: Conditions) -> None:
        self._wanted = {
            name: frozenset(map(folded, wanted))
            for name in Conditions.model_fields
            if name != "words" and (wanted := getattr(conditions, name))
        }
        self._words = tuple(map(folded, conditions.words))
        self._pattern = re.compile("|".join(map(_whole, self._words)))

    @property
    def attributes(self) -> tuple[str, ...]:
        """What the header must have been read for."""
        asked = [*self._wanted, *(["words"] if self._words else [])]
        return tuple(keyword for name in asked for keyword in _ATTRIBUTES.get(name, ()))

    def __bool__(self) -> bool:
        """Whether anything is asked."""
        return bool(self._wanted or self._words)

    def answers(self, image: Described) -> Iterator[bool]:
        """Yield, for each condition that is given, whether it holds."""
        yield from (not wanted.isdisjoint(getattr(image, name)) for name, wanted in self._wanted.items())
        if self._words:
            yield self._pattern.search(image.texts) is not None

    def implies(self, other: Asked) -> bool:
        """Whether all of the other's conditions hold for every image for which all of these do."""
        if any(not self._wanted.get(name, _ANYTHING) <= wanted for name, wanted in other._wanted.items()):
            return False
        said = all(other._pattern.search(word) for word in self._words)
        return not other._words or (bool(self._words) and said)


def _whole(word: str) -> str:
    """Find a folded word as a whole: "stat" is in "chest stat", and not in "station"."""
    if any(unicodedata.category(letter) == _JOINED for letter in word):
        return re.escape(word)
    return rf"(?<!\w){re.escape(word)}(?!\w)"


def _values(dataset: Dataset, keyword: str) -> Iterator[str]:
    return (str(value)[:_MOST_LETTERS] for value in islice(values(dataset, keyword), _MOST_VALUES))


def _set(texts: Iterable[str | None]) -> frozenset[str]:
    return frozenset(filter(None, (folded(text) for text in texts if text)))
