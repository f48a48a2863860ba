"""The one error tree.

::

    CxrDicomError                   everything this package raises on purpose
    ├── SettingsError               a setting is wrong; names the key and the value
    ├── ImageError                  one image cannot be used; carries its Reason
    ├── ModelError                  a model cannot be built or failed on an image
    │   └── WeightsError            weights are missing, damaged or not the expected ones
    ├── EncodingError               a DICOM object could not be made
    ├── ManifestError               a list of studies cannot be understood
    ├── FetchError                  an image or a study is not given by the place where it lies
    ├── ConnectionFailedError       another machine could not be reached, or did not let us in
    └── PlaceError                  the machine where it happened is at fault and not a study; another one may do it
        └── WantError               this machine lacks room, memory or permission

No message holds patient data: UIDs, keywords, numbers and file names of ours only.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from cxr_dicom.records import Reason


def how_to_install(extra: str) -> str:
    """Say how to get the libraries of an extra of ``pyproject.toml``; this package is on no index."""
    return f"in a clone of cxr-dicom: pip install '.[{extra}]'"


class CxrDicomError(Exception):
    """Base of every error that this package raises on purpose."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross processes whole; by itself Python calls ``__init__`` with the text only, which some do not take."""
        return self.__class__.__new__, (self.__class__, *self.args), self.__dict__


class PlaceError(CxrDicomError):
    """The machine where it happened is at fault, and not a study: another machine may do what this one cannot."""


class WantError(PlaceError):
    """A machine lacks room on its disk, memory or permission; what stopped for it goes on when there is some."""


class SettingsError(CxrDicomError):
    """A setting is wrong.

    The text names the key (``encode.geometry``), the bad value, and what is accepted.
    """


class ImageError(CxrDicomError):
    """One image cannot be used; the run goes on with the next.

    Parameters
    ----------
    reason
        Stable code, documented in ``docs/reasons.md``.
    detail
        What was expected and what was found, without patient data.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class ModelError(CxrDicomError):
    """A model cannot be built, or failed on an image."""


class WeightsError(ModelError):
    """Weights are missing, damaged, or not those that were recorded.

    The text names the file, where it belongs and how to fetch it.
    """


class EncodingError(CxrDicomError):
    """A DICOM object could not be made."""


class ManifestError(CxrDicomError):
    """A list of studies cannot be understood; the text names the place and what is accepted."""


class FetchError(CxrDicomError):
    """An image or a study is not given by the place where it lies."""


class ConnectionFailedError(CxrDicomError):
    """Another machine could not be reached, or did not let us in.

    Attributes
    ----------
    status
        Short word for receipts: ``UNREACHABLE``, ``REJECTED``, ``BUSY``, ``TIMEOUT``, ``HTTP 503``.
    retry_after
        Seconds that the other side asked us to wait; None when it did not.
    http_status
        Status code of the answer; None when there was none, or not by HTTP.
    """

    def __init__(
        self, status: str, detail: str, retry_after: float | None = None, *, http_status: int | None = None
    ) -> None:
        super().__init__(f"{status}: {detail}")
        self.status = status
        self.detail = detail
        self.retry_after = retry_after
        self.http_status = http_status

    @property
    def is_busy(self) -> bool:
        """Whether it is there, and has no room for us now."""
        asks_to_wait = self.http_status == HTTPStatus.SERVICE_UNAVAILABLE and self.retry_after is not None
        return self.status == "BUSY" or self.http_status == HTTPStatus.TOO_MANY_REQUESTS or asks_to_wait
