"""Weights from TorchXRayVision's own addresses, or from a mirror of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_dicom.config import Settings
from cxr_dicom.errors import WeightsError
from cxr_dicom.infer import weights
from cxr_dicom.records import ModelInfo
from cxr_dicom.system import atomic
from cxr_dicom.system.digest import sha256

if TYPE_CHECKING:
    import requests

    ReportProgress = Callable[[int, int], None]  # bytes that are here, bytes in all

ATTEMPTS = 5  # without a new byte
CHUNK = 1 << 16
TIMEOUT = (10, 60)  # seconds to connect, and between two bytes


def address(info: ModelInfo, settings: Settings) -> str:
    """Where the file of a model is fetched from.

    Raises
    ------
    WeightsError
        If it has none, or if it is not served by HTTP.
    """
    source = weights.source_path(info, settings)
    url = info.weights_url or ""
    if not url.endswith(source.name):
        raise WeightsError(f"{info.name}: not served by HTTP; fetch it from {url} and put it in its place as {source}")
    return f"{settings.models.mirror.rstrip('/')}/{source.name}" if settings.models.mirror else url


def pull(info: ModelInfo, settings: Settings, report_progress: ReportProgress) -> Path:
    """Fetch the file of a model; what an earlier try left is continued.

    The proxy is the one of the environment (``HTTPS_PROXY``, ``NO_PROXY``), and the part of a file
    has the name that TorchXRayVision gives it, so that either continues what the other began.

    Raises
    ------
    WeightsError
        If the server refuses, if the connection breaks again and again, or if the file is not the one
        that is pinned or was recorded.
    """
    url = address(info, settings)
    source = weights.source_path(info, settings)
    part = source.with_name(source.name + ".part")
    try:
        atomic.make_folder(source.parent, atomic.FOLDER_OF_ALL)
        _fetch(url, part, report_progress)
        weights.expect(sha256(part), info, settings)
        atomic.move(part, source)
    except OSError as error:
        raise WeightsError(f"{part}: cannot be written ({error.strerror})") from error
    return source


def _fetch(url: str, part: Path, report_progress: ReportProgress) -> None:
    import requests

    failures = 0
    while failures < ATTEMPTS:
        before = _size(part)
        try:
            return _continue(url, part, report_progress)
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            failures = 0 if _size(part) > before else failures + 1
            problem = error
        except requests.RequestException as error:
            raise WeightsError(
                f"{url}: {error}; if this machine has no network, see `cxr-dicom models import`"
            ) from error
    raise WeightsError(
        f"{url}: the connection failed {ATTEMPTS} times ({type(problem).__name__}); {_size(part)} bytes are kept in "
        f"{part}, and the next try continues there"
    ) from problem


def _continue(url: str, part: Path, report_progress: ReportProgress) -> None:
    import requests

    offset = _size(part)
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return _complete_or_start_over(response, part)
        response.raise_for_status()
        offset = offset if response.status_code == requests.codes.partial_content else 0
        total = offset + int(response.headers.get("Content-Length", 0))
        with part.open("ab" if offset else "wb") as file:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                report_progress(file.tell(), total)
    return None


def _complete_or_start_over(response: requests.Response, part: Path) -> None:
    """Accept a part that is the whole file; drop one that is longer, which is not of this file."""
    import requests

    if response.headers.get("Content-Range", "") != f"bytes */{_size(part)}":
        part.unlink()
        raise requests.ConnectionError("the part was longer than the file")


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0
