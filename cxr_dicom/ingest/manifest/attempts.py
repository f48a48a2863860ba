"""Trying again what may pass: a fetch is given some attempts with growing pauses, then its entry has failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count
from typing import TypeVar

from cxr_dicom.errors import ConnectionFailedError, CxrDicomError, FetchError
from cxr_dicom.records import DeliveryStatus
from cxr_dicom.system import retry

ATTEMPTS = 4  # of one transfer: some seconds; a run that is repeated tries again what failed
_MAX_PAUSE = 60.0  # seconds; a worker waits for it
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)

T = TypeVar("T")


def tried(what: str, action: Callable[[], T]) -> T:
    """Return what an action gives; try again where that may help.

    Parameters
    ----------
    what
        Said in the error: a URL.

    Raises
    ------
    FetchError
        If it fails for good, or once too often.
    """
    for attempt in count(1):
        try:
            return action()
        except FetchError:
            raise
        except Exception as error:  # every store has errors of its own
            if attempt == ATTEMPTS or not _may_pass(error):
                raise FetchError(f"{what}: {_description(error)}") from error
            retry_after = error.retry_after if isinstance(error, ConnectionFailedError) else None
            time.sleep(min(max(retry.pause_after(attempt), retry_after or 0.0), _MAX_PAUSE))
    raise AssertionError


def _may_pass(error: Exception) -> bool:
    if isinstance(error, ConnectionFailedError):
        return error.http_status is None or retry.answer_of_http(error.http_status) is DeliveryStatus.FAILED
    return not isinstance(error, (*_FINAL, CxrDicomError, ImportError))


def _description(error: Exception) -> str:
    """Describe an error; the texts of foreign ones may hold anything."""
    if isinstance(error, CxrDicomError):
        return str(error)
    return " ".join(filter(None, [type(error).__name__, getattr(error, "strerror", None)]))
