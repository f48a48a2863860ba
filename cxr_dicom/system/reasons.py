"""A peer's own reason for a refusal, as far as it may be repeated: no name, no number, nothing that was sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import requests

_READ, _LONGEST = 2000, 120  # characters of a peer's own words
_READ_BYTES = 1 << 16
MOST_VALUES = 8_000_000  # of JSON, with its brackets; 64 MB of studies have some 6 million
_TAG = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
_OF_A_PATIENT = re.compile(r"\S*\^\S*|\S*\d{5}\S*")  # a name; an ID, a date or a UID
_OF_A_REQUEST = re.compile(r"\S*\d\S{7,}|\S{7,}\d\S*")  # an ID that is another one each time
_ODD = re.compile(r"[^A-Za-z0-9 .,:;()/_'-]+")
_LEFT_OUT = "..."
_KEYS = ("Details", "Message", "message", "error", "errorMessage")
_TEXT = re.compile(r"(text/.*|.*json|.*xml)?", re.IGNORECASE)  # media types; or nothing that says what it is


def own_words(text: str, hidden: Iterable[str] = ()) -> str:
    """Return a peer's words without what may be about a patient.

    Parameters
    ----------
    hidden
        Values that were asked for or sent.
    """
    text = _TAG.sub(" ", text[:_READ])
    for value in sorted(filter(None, hidden), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", _LEFT_OUT, text, flags=re.IGNORECASE)
    text = _ODD.sub(" ", _OF_A_REQUEST.sub(_LEFT_OUT, _OF_A_PATIENT.sub(_LEFT_OUT, text)))
    return " ".join(text.split())[:_LONGEST]


def reason_of(answer: requests.Response, hidden: Iterable[str] = ()) -> str:
    """Return a server's reason for a refusal, to be put behind its status; of a body that is no text nothing."""
    body = answer.content[:_READ_BYTES]
    kind = answer.headers.get("Content-Type", "").partition(";")[0].strip()
    if not _TEXT.fullmatch(kind) or b"\0" in body:
        return ""
    try:
        found = values_of(answer.content)
        texts = [found[key] for key in _KEYS if key in found]
        text = next((each for each in texts if isinstance(each, str) and each), "")
    except (ValueError, RecursionError, TypeError):
        text = decoded(body)
    words = own_words(text, hidden)
    return f" ({words})" if words else ""


def values_of(body: bytes, **options: Any) -> Any:
    """Read JSON of a peer, with the options of ``json.loads``.

    Raises
    ------
    ValueError, RecursionError
        If it is none, nested without end, or has so many values that they would fill the memory.
    """
    if sum(map(body.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise ValueError(f"expected at most {MOST_VALUES} values and brackets, found more")
    return json.loads(decoded(body), **options)


def decoded(body: bytes) -> str:
    """Return the text of a body; of what is no UTF-8 (PS3.18 F.2) the ASCII is right, and that is what we read."""
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError:
        return body.decode("latin-1")
