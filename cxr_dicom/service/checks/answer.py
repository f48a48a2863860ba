"""An answer of `check`, and how something is tried."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from cxr_dicom.errors import CxrDicomError
from cxr_dicom.system import telemetry


class Level(StrEnum):
    """How bad an answer is."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One answer."""

    key: str  # of the setting that is checked
    level: Level
    text: str


def ok(key: str, text: str) -> Check:
    """Return that all is well."""
    return Check(key=key, level=Level.OK, text=text)


def warning(key: str, text: str) -> Check:
    """Return what may be meant so, but seldom is."""
    return Check(key=key, level=Level.WARNING, text=text)


def wrong(key: str, text: str) -> Check:
    """Return what cannot work."""
    return Check(key=key, level=Level.WRONG, text=text)


def tried(key: str, act: Callable[[], str]) -> Check:
    """Do something; its words are the answer, and so is whatever goes wrong."""
    try:
        return ok(key, act())
    except CxrDicomError as error:
        return wrong(key, str(error))
    except Exception as error:
        return wrong(key, telemetry.safe_description(error))
