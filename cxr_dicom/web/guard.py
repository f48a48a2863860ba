"""What stands before any page: whose request it is, where it comes from, how long it may take and be.

- Host must be a name of ours, else a foreign name was bound to this address (DNS rebinding). Machines, which show a
  token that no browser sends by itself, may leave the port out, as some clients of DICOMweb do.
- What a foreign page makes a browser ask is refused, by Sec-Fetch-Site and Origin, for pages too: cookies do
  not know ports, and another port of this machine is "same-site".
- Bodies are bounded in size, in time as a whole, and between two pieces; so is what an answer waits for its reader.
- Every answer says that it must not be kept, framed or fetched by others, and may load only what is ours.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cxr_dicom.config.web import WebSettings
from cxr_dicom.web.answers import NotAnsweredError, refusal
from cxr_dicom.web.visitors import Visitors, bearer, is_inside

MAX_FORM_BYTES = 64 * 1024
PIECE_SECONDS = 20.0  # between two pieces of a body, and for each piece of an answer to be taken
BODY_SECONDS = 60.0  # for a body, and a second more for each
BYTES_PER_SECOND = 16 * 1024

SAFE_METHODS = ("GET", "HEAD")
VIEWER_ROOT = "/ohif/"  # below it are files of others, with a policy of their own
_METHODS = (*SAFE_METHODS, "POST")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
_VIEWER_POLICY = (  # OHIF compiles (ndarray, WebAssembly), styles by script, and makes workers and pictures in memory
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' blob: data:; font-src 'self' data:; connect-src 'self' blob: data:; worker-src 'self' blob:;"
    " form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_ALWAYS = (
    (b"cache-control", b"no-store"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"referrer-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
_HEADERS = (*_ALWAYS, (b"content-security-policy", _POLICY.encode()))
_VIEWER_HEADERS = (
    *_ALWAYS,
    (b"content-security-policy", _VIEWER_POLICY.encode()),
    (b"cross-origin-embedder-policy", b"require-corp"),  # its decoders share memory, which isolated pages only may
)


class Guard:
    """Stands before the application; what it lets through has ``scope["visitor"]``, None for a stranger.

    Parameters
    ----------
    uploads
        Paths, as routes have them, to which a body may be sent that is as long as an upload.
    """

    def __init__(
        self, app: ASGIApp, settings: WebSettings, visitors: Visitors, port: int, uploads: Iterable[str] = ()
    ) -> None:
        self._app = app
        self._settings = settings
        self._visitors = visitors
        self._cookie = cookie_name(port)
        self._uploads = [compile_path(path)[0] for path in uploads]
        own = settings.address if ":" not in settings.address else f"[{settings.address}]"
        self._port = port
        self._names = frozenset(("127.0.0.1", "localhost", "[::1]", own))
        self._hosts = {f"{name}:{port}" for name in self._names}
        self._hosts |= {host.lower() for host in settings.hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or let the application answer."""
        if scope["type"] != "http":
            return
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        self._complete_host(scope, headers)
        answer = _Answer(send, _VIEWER_HEADERS if scope["path"].startswith(VIEWER_ROOT) else _HEADERS)
        is_upload = scope["method"] == "POST" and any(path.match(scope["path"]) for path in self._uploads)
        longest = self._settings.max_upload_mb << 20 if is_upload else MAX_FORM_BYTES
        body = _Body(receive, longest)
        try:
            if refused := self._refused(scope, headers, longest):
                await refusal(refused)(scope, receive, answer)
                return
            session = self._visitors.session(_cookies(headers, self._cookie))
            peer = _peer(scope)
            scope["session"] = session
            scope["visitor"] = self._visitors.recognise(headers, session, peer)
            await self._app(scope, body, answer)
        except NotAnsweredError as refused:  # of a body that is too long or too slow
            if not answer.has_begun:
                await refusal(refused)(scope, receive, answer)
        except TimeoutError:  # the reader of the answer is gone, as far as anybody can tell
            return

    def _refused(self, scope: Scope, headers: dict[str, list[str]], longest: int) -> NotAnsweredError | None:
        hosts, origins, sites = (headers.get(name, []) for name in ("host", "origin", "sec-fetch-site"))
        if not self._is_expected(scope):
            return NotAnsweredError(403, "These pages answer this machine, and the proxy in their settings.")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return NotAnsweredError(421, "These pages have another name.")
        if scope["method"] not in _METHODS:
            return NotAnsweredError(405, "Pages are read, and forms are sent.")
        if any(site not in ("same-origin", "none") for site in sites) or len(sites) > 1:
            return NotAnsweredError(403, "Another page asked for this, and may not. Open the address in a new tab.")
        if any(_host_of(origin) != hosts[0].lower() for origin in origins):
            return NotAnsweredError(403, "This was sent by a page that is not ours.")
        is_by_browser = not bearer(headers)
        if scope["method"] not in SAFE_METHODS and is_by_browser and not origins:
            return NotAnsweredError(403, "Expected the Origin of the page that sends this, found none.")
        if "transfer-encoding" in headers and "content-length" in headers:  # RFC 9112 section 6.1: smuggling
            return NotAnsweredError(400, "Expected one way to tell the length of this request, found two.")
        try:
            length = int((headers.get("content-length") or ["0"])[0])
        except ValueError:
            return NotAnsweredError(400, "The length of this request is no number.")
        return _too_long(longest) if length > longest else None

    def _complete_host(self, scope: Scope, headers: dict[str, list[str]]) -> None:
        """Add the port to a Host of a machine that leaves it out, for addresses in answers are made of it."""
        hosts = headers.get("host", [])
        if bearer(headers) and len(hosts) == 1 and hosts[0].lower() in self._names - self._hosts:
            headers["host"] = [f"{hosts[0].lower()}:{self._port}"]
            others = [pair for pair in scope["headers"] if pair[0].lower() != b"host"]
            scope["headers"] = [*others, (b"host", headers["host"][0].encode())]

    def _is_expected(self, scope: Scope) -> bool:
        """Whether a peer may ask at all: from this machine, or as the proxy."""
        peer = _peer(scope)
        if peer == "::1" or peer.startswith("127."):
            return True
        return self._settings.proxy is not None and is_inside(peer, self._settings.proxy)


def cookie_name(port: int) -> str:
    """Return the name of the cookie, which differs by port, for a browser sends it to all ports of a host."""
    return f"cxr_dicom_{port}"


class _Body:
    """A body that ends in time."""

    def __init__(self, receive: Receive, longest: int) -> None:
        self._receive = receive
        self._longest = longest
        self._bytes = 0
        self._began: float | None = None
        self._is_whole = False

    async def __call__(self) -> Message:
        if self._is_whole:  # what comes now is that the peer has gone; only a stream waits for it
            return await self._receive()
        now = time.monotonic()
        self._began = self._began or now
        left = self._began + BODY_SECONDS + self._bytes / BYTES_PER_SECOND - now
        try:
            message = await asyncio.wait_for(self._receive(), max(0.001, min(PIECE_SECONDS, left)))
        except TimeoutError:
            raise NotAnsweredError(408, "This came too slowly.") from None
        if message["type"] == "http.request":
            self._bytes += len(message.get("body", b""))
            self._is_whole = not message.get("more_body", False)
        if self._bytes > self._longest:
            raise _too_long(self._longest)
        return message


class _Answer:
    """An answer with our headers, whose reader must read."""

    def __init__(self, send: Send, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = tuple(headers)
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            ours = {name for name, _ in self._headers}
            given = [pair for pair in message.get("headers", []) if pair[0].lower() not in ours]
            message = {**message, "headers": [*given, *self._headers]}
        await asyncio.wait_for(self._send(message), PIECE_SECONDS)


def _too_long(longest: int) -> NotAnsweredError:
    size = f"{longest >> 20} MB" if longest >> 20 else f"{longest >> 10} kB"
    return NotAnsweredError(413, f"Expected at most {size}.")


def _peer(scope: Scope) -> str:
    """Return the address of the peer; a socket for both versions of IP writes one of IPv4 in its own way."""
    address = scope["client"][0] if scope.get("client") else ""
    return str(address).removeprefix("::ffff:")


def _host_of(origin: str) -> str:
    return origin.lower().partition("://")[2]


def _cookies(headers: dict[str, list[str]], name: str) -> list[str]:
    """Read all that have our name, past cookies of other programs that keep no grammar: they share this machine's."""
    pairs = (each.partition("=") for line in headers.get("cookie", []) for each in line.split(";"))
    return [value.strip() for key, _, value in pairs if key.strip() == name]
