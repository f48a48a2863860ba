"""Files that settings name: certificates and their dates, keys, tokens, passwords."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from cxr_dicom.config import Settings
from cxr_dicom.config.service import DicomAccess, HttpAccess, ListenerTls
from cxr_dicom.service.checks.answer import Check, ok, tried, warning, wrong
from cxr_dicom.system.network import server_tls

_SOON = timedelta(days=30)


def check(settings: Settings) -> Iterator[Check]:
    """Look at each file."""
    if settings.listener.enabled and (tls := settings.listener.tls):
        yield tried("listener.tls", lambda: _fit(tls))
        yield from _certificate("listener.tls.certificate", tls.certificate)
        yield from _secret("listener.tls.key", tls.key)
        if tls.ca:
            yield from _certificate("listener.tls.ca", tls.ca)
    for key, access in accesses(settings):
        for name in ("ca", "client_certificate"):
            if path := getattr(access, name):
                yield from _certificate(f"{key}.{name}", path)
        if access.client_certificate:
            yield from _secret(f"{key}.client_certificate", access.client_certificate)
        for name in ("token_file", "password_file"):
            if path := getattr(access, name, None):
                yield from _secret(f"{key}.{name}", path)


def accesses(settings: Settings) -> Iterable[tuple[str, DicomAccess | HttpAccess]]:
    """Return each destination and archive that lies on another machine, with its key."""
    places = [(f"destinations.{destination.name}", destination) for destination in settings.destinations]
    places += [(f"poller.archives.{archive.name}", archive) for archive in settings.poller.archives]  # type: ignore[misc]
    return [(key, access) for key, access in places if isinstance(access, DicomAccess | HttpAccess)]


def _fit(tls: ListenerTls) -> str:
    server_tls(tls)
    return "certificate and key fit"


def _certificate(key: str, path: Path) -> Iterator[Check]:
    """Say until when the first certificate of a file holds."""
    try:
        found = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except OSError as error:
        yield wrong(key, f"{path}: {error.strerror}")
        return
    except (ValueError, IndexError):
        yield wrong(key, f"{path}: expected a certificate in PEM, found none")
        return
    now, begin, end = datetime.now(UTC), found.not_valid_before_utc, found.not_valid_after_utc
    if now > end:
        yield wrong(key, f"{path}: expired on {end:%Y-%m-%d}")
    elif now < begin:
        yield wrong(key, f"{path}: is not valid before {begin:%Y-%m-%d}")
    else:
        yield (ok if end - now > _SOON else warning)(key, f"{path}: valid until {end:%Y-%m-%d}")


def _secret(key: str, path: Path) -> Iterator[Check]:
    """Say whether a file is there, has something, and is this user's only."""
    try:
        mode, content = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        yield wrong(key, f"{path}: {error.strerror}")
        return
    if not content.strip():
        yield wrong(key, f"{path}: is empty")
    if stat.S_IMODE(mode) & 0o077:
        yield warning(key, f"{path}: can be read by others")
