"""What was doubted in the answers of an archive, said once; and its own words, without its patients."""

from __future__ import annotations

import logging
import re

from cxr_dicom.ingest.matching import Keys
from cxr_dicom.system import telemetry

_READ, _LONGEST = 2000, 120  # characters of an archive's own words
_TAG = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_OF_A_PATIENT = re.compile(r"\S*\^\S*|\S*\d{5}\S*")  # a name; an ID, a date or a UID
_ODD = re.compile(r"[^A-Za-z0-9 .,:;()/_'-]+")
_LEFT_OUT = "..."


class Doubts:
    """Of one archive, for as long as it is in use."""

    def __init__(self, archive: str) -> None:
        self._archive = archive
        self._said: set[str] = set()

    def say(self, what: str, studies: int | None = None) -> None:
        """Warn of ``what``, unless that was said before."""
        if what not in self._said:
            self._said.add(what)
            telemetry.event(
                "answer_doubted", level=logging.WARNING, archive=self._archive, reason=what, studies=studies
            )


def own_words(text: str, asked: Keys) -> str:
    """Return an archive's reason as far as it is safe to repeat: no value that was asked for, no name and no number."""
    text = _TAG.sub(" ", text[:_READ])
    for value in sorted(filter(None, asked.values()), key=len, reverse=True):
        text = re.sub(re.escape(value), _LEFT_OUT, text, flags=re.IGNORECASE)
    text = _ODD.sub(" ", _OF_A_PATIENT.sub(_LEFT_OUT, text))
    return " ".join(text.split())[:_LONGEST]
