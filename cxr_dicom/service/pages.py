"""The pages for a browser, where the settings want them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from cxr_dicom.config import Settings
from cxr_dicom.errors import SettingsError, how_to_install
from cxr_dicom.ingest.intake import Intake
from cxr_dicom.service.checks import check
from cxr_dicom.service.health import Problems

if TYPE_CHECKING:
    from cxr_dicom.web.live import LivePages


def expect_pages(settings: Settings) -> None:
    """Check what the pages need, where there are to be any, but for the port.

    Raises
    ------
    SettingsError
        If their libraries are not installed, or the file of tokens cannot be used.
    """
    if settings.web.port is None:
        return
    try:
        from cxr_dicom.web.dicomweb.store import Store  # noqa: F401 - for its libraries
        from cxr_dicom.web.server import Server  # noqa: F401 - likewise
        from cxr_dicom.web.visitors import Visitors
    except ImportError as error:
        needs = f"needs starlette, uvicorn and python-multipart ({how_to_install('web')})"
        raise SettingsError(f"web.port = {settings.web.port}: {needs}") from error
    Visitors(settings.web)


def open_pages(settings: Settings, intake: Intake, problems: Callable[[], Problems]) -> LivePages | None:
    """Serve the pages of a service; None where ``web.port`` is not set.

    Raises
    ------
    SettingsError
        If the libraries of the pages are not installed, the port is taken, or the file of tokens cannot be used.
    """
    expect_pages(settings)
    port = settings.web.port
    if port is None:
        return None
    from cxr_dicom.web.live import LivePages

    def texts() -> dict[str, str]:
        return {part: problem.text for part, problem in problems().items()}

    return LivePages(settings, port, intake, texts, partial(check, settings, with_models=False))
