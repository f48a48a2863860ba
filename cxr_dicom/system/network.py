"""Ways to other machines: TLS contexts, DICOM associations, HTTP sessions, all from the settings.

Errors of the libraries underneath become `ConnectionFailedError`, which says what may be tried again.
"""

from __future__ import annotations

import os
import re
import shlex
import ssl
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import responses
from pathlib import Path
from time import monotonic, time
from typing import Any
from urllib.parse import urlsplit

import requests
from dicomweb_client import DICOMwebClient
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext
from requests.utils import get_environ_proxies
from urllib3.exceptions import ProtocolError

from cxr_dicom.config.service import DicomAccess, HttpAccess, ListenerTls
from cxr_dicom.errors import ConnectionFailedError, SettingsError
from cxr_dicom.system.bounded import MAX_BYTES, AnswerTooLongError, BoundedAdapter
from cxr_dicom.system.causes import cause_of
from cxr_dicom.system.negotiation import LEAST_PDU_LENGTH, refusal
from cxr_dicom.system.reasons import reason_of
from cxr_dicom.system.requestor import Line, Requestor, leave

_REJECTIONS = _, _TRANSIENT = 1, 2  # Result of an A-ASSOCIATE-RJ PDU (PS3.8 9.3.4)
_PRESENTATION = 3  # its Source

_ORIGIN = re.compile(r"https?://[\w.:\[\]-]{1,255}", re.ASCII)


class ContextsRejectedError(ConnectionFailedError):
    """A peer takes none of the SOP classes and transfer syntaxes that we proposed."""


# --- TLS -----------------------------------------------------------------------------------------


def server_tls(settings: ListenerTls) -> ssl.SSLContext:
    """Make the TLS context of the listener; with ``ca`` peers must show a certificate.

    Raises
    ------
    SettingsError
        If a file is missing or is no certificate or key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with _named("listener.tls"):
        context.load_cert_chain(settings.certificate, settings.key)
        if settings.ca:
            context.load_verify_locations(settings.ca)
            context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_tls(access: DicomAccess) -> ssl.SSLContext:
    """Make the TLS context for calling a peer, whose certificate and name are always verified."""
    with _named(access.ae_title):
        context = ssl.create_default_context(cafile=access.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if access.client_certificate:
            context.load_cert_chain(access.client_certificate)
    return context


@contextmanager
def _named(key: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(f"{key}: certificate or key: {error}") from error


# --- DICOM ---------------------------------------------------------------------------------------


@contextmanager
def association(
    access: DicomAccess,
    contexts: Sequence[PresentationContext],
    *,
    handlers: Sequence[Any] = (),
    roles: Sequence[Any] = (),
) -> Iterator[Association]:
    """Open an association, and release it at the end.

    Parameters
    ----------
    contexts
        What is proposed, and nothing else.
    handlers, roles
        As in ``pynetdicom.AE.associate``: event handlers, and SCP/SCU role selections.

    Raises
    ------
    ContextsRejectedError
        If the peer accepts none of `contexts`.
    ConnectionFailedError
        If it cannot be reached or rejects the association.
    """
    entity = Requestor(access)
    tls = (client_tls(access), access.address) if access.tls else None
    begin = monotonic()
    try:
        opened = entity.associate(
            access.address,
            access.port,
            contexts=list(contexts),
            ae_title=access.ae_title,
            tls_args=tls,
            evt_handlers=list(handlers),
            ext_neg=list(roles) or None,
        )
    except OSError as error:  # of the name service
        raise _not_reached(error, access) from error
    if not opened.is_established:
        raise _not_established(opened, entity.line, access, monotonic() - begin)
    if 0 < (longest := opened.acceptor.maximum_length or 0) < LEAST_PDU_LENGTH:  # 0: as long as you like
        opened.abort()
        raise ConnectionFailedError("UNEXPECTED", f"{_peer(access)} takes only {longest} bytes at once")
    try:
        yield opened
    finally:
        leave(opened, access.timeout_seconds)


def _not_established(
    attempt: Association, line: Line | None, access: DicomAccess, waited: float
) -> ConnectionFailedError:
    answer = attempt.acceptor.primitive or attempt.dul.peek_next_pdu()  # when it closed too soon for pynetdicom to look
    if isinstance(answer, A_ASSOCIATE) and answer.result in _REJECTIONS:
        return _rejected(answer.result, answer.result_source, answer.diagnostic, access)
    if attempt.rejected_contexts:
        why = refusal(attempt.rejected_contexts)
        return ContextsRejectedError("CONTEXT_REJECTED", f"{_peer(access)} takes nothing of what was proposed: {why}")
    if line and line.trouble:
        return _not_reached(line.trouble, access)
    if line and line.remark:
        return ConnectionFailedError("UNREACHABLE", f"{_peer(access)} {line.remark}")
    if waited < access.timeout_seconds:
        return ConnectionFailedError(
            "UNREACHABLE", f"{_peer(access)} ended the negotiation, or answered in a way that cannot be read"
        )
    return ConnectionFailedError(
        "UNREACHABLE", f"{_peer(access)} accepted no association in {access.timeout_seconds:g} s"
    )


def _not_reached(error: BaseException, access: DicomAccess) -> ConnectionFailedError:
    why = cause_of(error, access.address, access.port, access.ca)
    return ConnectionFailedError("UNREACHABLE", f"{_peer(access)}: {why}")


def _rejected(
    result: int | None, source: int | None, diagnostic: int | None, access: DicomAccess
) -> ConnectionFailedError:
    """Say why an association was rejected (PS3.8 9.3.4)."""
    reasons = {
        (1, 2): "it knows the application context of DICOM under another name",
        (1, 3): f"it does not know the calling AE title {access.calling_ae_title}",
        (1, 7): f"its AE title is not {access.ae_title}",
        (2, 2): "it has another version of the protocol",
        (3, 1): "it is congested",
        (3, 2): "it has as many associations as it takes",
    }
    why = reasons.get((source or 0, diagnostic or 0), "it gives no reason")
    is_busy = result == _TRANSIENT or source == _PRESENTATION
    return ConnectionFailedError("BUSY" if is_busy else "REJECTED", f"{_peer(access)} rejected the association: {why}")


def _peer(access: DicomAccess) -> str:
    return f"{access.ae_title} at {access.address}:{access.port}"


# --- HTTP ----------------------------------------------------------------------------------------


@contextmanager
def session(access: HttpAccess, max_bytes: int = MAX_BYTES) -> Iterator[requests.Session]:
    """Open an HTTP session that authenticates as the settings say; redirects are not followed.

    Parameters
    ----------
    max_bytes
        Of one answer.

    Raises
    ------
    SettingsError
        If a token or password cannot be read.
    """
    with requests.Session() as opened:
        if token := _token(access):
            opened.headers["Authorization"] = f"Bearer {token}"
        elif access.username is not None:
            password = _read(access.password_file) if access.password_file else ""
            opened.auth = (access.username, password)
        if access.client_certificate:
            opened.cert = str(access.client_certificate)
        opened.trust_env = False  # for requests, HTTPS_PROXY, REQUESTS_CA_BUNDLE and .netrc count more than a session
        proxy = {"http": access.proxy, "https": access.proxy} if access.proxy else get_environ_proxies(access.url)
        opened.proxies.update(proxy)
        opened.verify = str(access.ca) if access.ca else os.environ.get("REQUESTS_CA_BUNDLE") or True
        opened.headers["Accept-Encoding"] = "gzip"
        for scheme in ("http://", "https://"):
            opened.mount(scheme, _PlainWildcards(max_bytes))
        yield opened


def request(opened: requests.Session, access: HttpAccess, method: str, path: str, **options: Any) -> requests.Response:
    """Send a request below the base URL and return the answer, whatever its status; it is whole.

    Raises
    ------
    ConnectionFailedError
        If no answer came, or not all of it in time, or more than the session's bound.
    """
    url = f"{access.url.rstrip('/')}/{path}"
    with _http_errors(access):
        return opened.request(method, url, timeout=access.timeout_seconds, allow_redirects=False, **options)


@contextmanager
def searching(access: HttpAccess) -> Iterator[DICOMwebClient]:
    """Open a client for QIDO-RS; redirects are not followed, and nothing is tried twice behind our back.

    WADO-RS and STOW-RS do not use it: it decodes and encodes what has to stay as it is.

    Raises
    ------
    ConnectionFailedError
        For everything that goes wrong with a search inside.
    """
    with session(access) as opened:
        opened.max_redirects = 0
        client = DICOMwebClient(
            access.url.rstrip("/"), session=opened, timeout=access.timeout_seconds, permissive_uid=True
        )
        client.set_http_retry_params(retry=False)
        with _http_errors(access):
            try:
                yield client
            except requests.JSONDecodeError:
                raise
            except (ValueError, AttributeError, TypeError, LookupError, RecursionError) as error:
                raise _no_json() from error


@contextmanager
def _http_errors(access: HttpAccess) -> Iterator[None]:
    """Make errors of requests ours."""
    try:
        yield
    except requests.RequestException as error:
        raise _ours(error, access) from error
    except ValueError as error:  # of a header that makes no sense
        raise ConnectionFailedError("UNEXPECTED", "the answer cannot be read") from error
    except OSError as error:
        raise SettingsError(f"{access.url}: ca or client_certificate: {type(error).__name__}") from error


def _ours(error: requests.RequestException, access: HttpAccess) -> ConnectionFailedError:
    if isinstance(error, requests.JSONDecodeError):
        return _no_json()
    if isinstance(error, requests.HTTPError | requests.TooManyRedirects) and error.response is not None:
        return answered(error.response)
    if isinstance(error.__cause__, requests.ConnectTimeout):  # both limits are the same
        return _no_answer(error.__cause__, access)
    if isinstance(error, requests.ReadTimeout):
        return ConnectionFailedError("TIMEOUT", f"no whole answer in {access.timeout_seconds:g} s")
    if isinstance(error, AnswerTooLongError):
        return ConnectionFailedError("TOO_LONG", str(error))
    if isinstance(error, requests.exceptions.ChunkedEncodingError | requests.exceptions.ContentDecodingError):
        return ConnectionFailedError("BROKEN_OFF", type(error).__name__)
    if error.args and isinstance(error.args[0], ProtocolError) and isinstance(error.args[0].args[-1], ConnectionError):
        return ConnectionFailedError("BROKEN_OFF", _cause(error, access))  # perhaps for what was sent or asked for
    return _no_answer(error, access)


def _no_answer(error: requests.RequestException, access: HttpAccess) -> ConnectionFailedError:
    return ConnectionFailedError("UNREACHABLE", _cause(error, access))


def _cause(error: requests.RequestException, access: HttpAccess) -> str:
    place = urlsplit(access.url)
    host, port = place.hostname or "", place.port or (443 if place.scheme == "https" else 80)
    return f"{place.netloc}: {cause_of(error, host, port, access.ca)}"


def _no_json() -> ConnectionFailedError:
    ok = HTTPStatus.OK
    return ConnectionFailedError(f"HTTP {ok}", "expected DICOM JSON from QIDO-RS", http_status=ok)


class _PlainWildcards(BoundedAdapter):
    """Leaves wildcards as they are (RFC 3986 3.4 lets it); Orthanc 1.10 finds nothing for an encoded one."""

    def send(self, request: requests.PreparedRequest, *options: Any, **more: Any) -> requests.Response:
        request.url = (request.url or "").replace("%2A", "*").replace("%3F", "?")
        return super().send(request, *options, **more)


def answered(answer: requests.Response, hidden: Iterable[str] = ()) -> ConnectionFailedError:
    """Return the error of an answer that says that the place is in trouble, with its own reason but what is hidden."""
    code = answer.status_code
    detail = f"{responses.get(code, '')}{reason_of(answer, hidden)}"
    if answer.is_redirect:
        detail = f"expected an answer from this address, was sent to {_origin(answer.headers['Location'])}"
    return ConnectionFailedError(f"HTTP {code}", detail, retry_after(answer), http_status=code)


def retry_after(answer: requests.Response) -> float | None:
    """Return the seconds of a Retry-After header, which may also be a date (RFC 9110 10.2.3)."""
    value = answer.headers.get("Retry-After", "")
    if value.isascii() and value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (TypeError, ValueError):
        return None


def _origin(url: str) -> str:
    """Return scheme and host of a URL; what follows may be about a patient."""
    found = _ORIGIN.match(url)
    return found[0] if found else "another path"


def _token(access: HttpAccess) -> str | None:
    if access.token_file:
        return _read(access.token_file)
    if not access.token_command:
        return None
    try:
        finished = subprocess.run(  # noqa: S603 - the command is the administrator's
            access.token_command, capture_output=True, text=True, timeout=access.timeout_seconds, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SettingsError(f"token_command {shlex.join(access.token_command)}: {type(error).__name__}") from error
    if not (token := finished.stdout.strip()):  # without one nobody would be let in, and nothing would say why
        raise SettingsError(f"token_command {shlex.join(access.token_command)}: expected a token, it printed nothing")
    return token


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from error
