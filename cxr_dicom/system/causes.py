"""Why a peer could not be reached, in words: of exceptions of sockets, TLS and requests, never their own text.

The words come from here and from the vocabulary of OpenSSL, so nothing of a patient can come in with them.
"""

from __future__ import annotations

import errno
import http.client
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import urllib3

_EXPIRED, _NOT_YET_VALID, _OTHER_HOST, _OTHER_ADDRESS = 10, 9, 62, 64  # X509_V_ERR_... of OpenSSL
_UNTRUSTED = (18, 19, 20, 21)
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME
_PLAIN = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "PACKET_LENGTH_TOO_LONG")
_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
_MOST_LINKS = 20
_PROBE_SECONDS = 5.0


def cause_of(error: BaseException, host: str, port: int, ca: Path | None = None) -> str:
    """Say why there was no connection, or no answer on it.

    Parameters
    ----------
    error
        Of a socket, or of a library above it: what it was raised from is looked at too.
    host, port
        Where the connection was to lead. Where the trouble is a certificate, it is fetched once more to say its date.
    ca
        Authority that signed the peer's certificate; None: those of the system.
    """
    chain = list(_chain(error))
    proxy = "the proxy: " if any(isinstance(each, urllib3.exceptions.ProxyError) for each in chain) else ""
    for each in chain:
        if isinstance(each, ssl.SSLCertVerificationError):
            return proxy + _of_certificate(each, host, port, ca)
        if isinstance(each, ssl.SSLError):
            return proxy + _of_tls(each)
    for each in chain:
        if isinstance(each, socket.gaierror | urllib3.exceptions.NameResolutionError):
            return f"{proxy}the name {host} does not resolve" if not proxy else f"{proxy}its name does not resolve"
        if said := _of_socket(each):
            return proxy + said
    late = any(isinstance(each, urllib3.exceptions.TimeoutError) for each in chain)
    return f"{proxy}{'timed out' if late else type(chain[0]).__name__}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and those behind it; libraries put them in several places."""
    waiting: list[Any] = [error]
    seen: list[BaseException] = []
    while waiting and len(seen) < _MOST_LINKS:
        each = waiting.pop(0)
        if isinstance(each, BaseException) and each not in seen:
            seen.append(each)
            yield each
            waiting += [each.__cause__, each.__context__, getattr(each, "reason", None), *each.args]


def _of_socket(error: BaseException) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused: nothing listens there"
    if isinstance(error, TimeoutError):
        return "timed out"
    if isinstance(error, http.client.BadStatusLine) and not isinstance(error, http.client.RemoteDisconnected):
        return "answers, but not by HTTP"
    if isinstance(error, ConnectionError | BrokenPipeError):
        return "closed the connection"
    if isinstance(error, OSError) and error.errno in _NO_ROUTE:
        return "no route to it"
    return ""


def _of_tls(error: ssl.SSLError) -> str:
    reason = error.reason or ""
    if reason in _PLAIN:
        return "speaks no TLS: a plain port"
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return "refused TLS: it may want a certificate of ours (client_certificate)"
    if "ALERT" in reason:
        return f"refused TLS: {reason.rpartition('ALERT_')[2].replace('_', ' ').lower()}"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) or "EOF" in reason:
        return "closed the connection instead of TLS: a plain port, or it refuses us"
    return f"TLS: {reason.replace('_', ' ').lower() or 'failed'}"


def _of_certificate(error: ssl.SSLCertVerificationError, host: str, port: int, ca: Path | None) -> str:
    code = error.verify_code
    if code in _UNTRUSTED:
        return "its certificate is signed by nobody that we trust (ca)"
    if code not in (_EXPIRED, _NOT_YET_VALID, _OTHER_HOST, _OTHER_ADDRESS):
        return f"its certificate: {error.verify_message}"
    shown = _certificate(host, port, ca)
    if code == _EXPIRED:
        return f"its certificate expired{_on(shown, 'notAfter')}"
    if code == _NOT_YET_VALID:
        return f"its certificate is not valid yet{_on(shown, 'notBefore')}"
    names = [value for kind, value in shown.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]
    of = f"of {', '.join(names[:3])}" if names else "of another host"
    return f"its certificate is {of}, not of {host}"


def _on(shown: dict[str, Any], key: str) -> str:
    return f" on {shown[key]}" if key in shown else ""


def _certificate(host: str, port: int, ca: Path | None) -> dict[str, Any]:
    """Fetch the certificate of a peer once more, verified but for its dates and names; empty when that fails."""
    context = ssl.create_default_context(cafile=ca)
    context.check_hostname = False
    context.verify_flags |= _NO_CHECK_TIME
    try:
        with (
            socket.create_connection((host, port), timeout=_PROBE_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            return dict(secured.getpeercert() or {})
    except (OSError, ValueError):
        return {}
