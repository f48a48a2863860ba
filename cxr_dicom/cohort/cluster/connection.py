"""The connection to Ray: to a cluster that exists, or to one of our own on this machine."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from cxr_dicom.errors import CxrDicomError, SettingsError, how_to_install

_OBJECT_STORE = 80 * 2**20  # bytes; about the least that Ray takes, for only small things travel


@contextmanager
def connected(address: str | None, cpus: int) -> Iterator[Any]:
    """Give the module ``ray``, connected; what was started for it ends with the block.

    Raises
    ------
    SettingsError
        If Ray is not installed.
    CxrDicomError
        If the cluster cannot be reached.
    """
    ray = imported(is_local=address is None)
    if ray.is_initialized():
        yield ray
        return
    options = {"address": address or "local", "log_to_driver": False, "logging_level": logging.ERROR}
    with ExitStack() as stack:
        if address is None:
            options |= {"num_cpus": cpus, "object_store_memory": _OBJECT_STORE, "include_dashboard": False}
            options["_temp_dir"] = stack.enter_context(session_folder())
        stack.callback(ray.shutdown)
        try:
            _expect_reachable(address or "")
            ray.init(**options)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            text = f"{lines[0]} {lines[-1].strip()}" if lines[0].endswith(":") else lines[0]
            raise CxrDicomError(f"Ray at {address or 'this machine'} cannot be reached: {text}") from error
        yield ray


def imported(*, is_local: bool) -> Any:
    """Import Ray with the settings that it reads only then.

    Raises
    ------
    SettingsError
        If it is not installed.
    """
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")  # else it writes of dead workers to standard output
    if is_local:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on Linux too: listen on loopback only
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else it keeps one in the home folder
    try:
        import ray
    except ImportError as error:
        raise SettingsError(f"engine ray: Ray is not installed; {how_to_install('ray')}") from error
    return ray


def session_folder() -> TemporaryDirectory[str]:
    """Make a folder for Ray's sockets and logs, with the short path that sockets need."""
    parent = os.environ.get("RAY_TMPDIR") or ("/tmp" if os.name == "posix" else None)  # noqa: S108
    return TemporaryDirectory(prefix="cxr-dicom-", dir=parent, ignore_cleanup_errors=True)


def _expect_reachable(address: str) -> None:
    """Fail at once where an address leads nowhere; Ray itself would try for minutes."""
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.port:
        socket.create_connection((place.hostname or "", place.port), timeout=10).close()
