"""Who asks, and what they may do: the link of the terminal, bearer tokens of machines, users of a proxy."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import stat
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

from cxr_dicom.config.web import ProxySettings, Right, WebSettings
from cxr_dicom.errors import SettingsError

ALL_RIGHTS = frozenset(Right)
SENDER = "WEB"  # how senders begin that no calling AE title names

_SESSION = "session "  # how the key of who came by the link begins
_SESSION_SECONDS = 12 * 3600.0
_MAX_SESSIONS = 256
_MAX_COOKIES = 16  # of our name that are looked at
_MIN_TOKEN_LENGTH = 32
_NAME = re.compile(r"[\w.@+-]{1,64}")  # of a user or machine: it stands in the audit trail


@dataclass(frozen=True, kw_only=True, slots=True)
class Visitor:
    """Somebody whose request is answered."""

    name: str
    rights: frozenset[Right]
    key: str  # that forms are bound to; empty for a machine, whose token no browser sends by itself

    @property
    def sender(self) -> str:
        """What rules and the trail call who sent an image: `WEB:` and the name; `WEB` for the link, which has none."""
        return SENDER if self.key.startswith(_SESSION) else f"{SENDER}:{self.name}"

    def may(self, right: Right) -> bool:
        """Whether they have a right."""
        return right in self.rights


class Visitors:
    """Recognises visitors. Safe to share between threads.

    Parameters
    ----------
    rights
        What the pages offer at all.

    Attributes
    ----------
    link_token
        Who has it may do all that the pages offer; it ends with the process.

    Raises
    ------
    SettingsError
        If the file of tokens cannot be used.
    """

    def __init__(self, settings: WebSettings, rights: Collection[Right] = ALL_RIGHTS) -> None:
        self.link_token = secrets.token_urlsafe(32)
        self._rights = frozenset(rights)
        self._proxy = settings.proxy
        self._machines = dict(_machines(settings.tokens_file)) if settings.tokens_file else {}
        self._secret = secrets.token_bytes(32)
        self._sessions: dict[str, float] = {}  # digest -> when it ends, the oldest first
        self._guard = threading.Lock()

    def enter(self, token: str) -> str | None:
        """Return the secret of a new session for the token of the link; None for any other."""
        if not hmac.compare_digest(token.encode(), self.link_token.encode()):
            return None
        session = secrets.token_urlsafe(32)
        with self._guard:
            while len(self._sessions) >= _MAX_SESSIONS:
                self._sessions.pop(next(iter(self._sessions)))
            self._sessions[_digest(session)] = time.monotonic() + _SESSION_SECONDS
        return session

    def session(self, cookies: Sequence[str]) -> str:
        """Return the cookie of a session that lasts, for others may set some of the same name; empty if none does."""
        return next((each for each in cookies[:_MAX_COOKIES] if self._lasts(_digest(each))), "")

    def leave(self, session: str) -> None:
        """End a session."""
        with self._guard:
            self._sessions.pop(_digest(session), None)

    def recognise(self, headers: Mapping[str, list[str]], session: str, address: str) -> Visitor | None:
        """Say who sends a request; None for a stranger.

        Parameters
        ----------
        headers
            All values of each header, by its name in small letters.
        session
            The cookie.
        address
            Of the peer itself, whatever a header claims.
        """
        if shown := bearer(headers):
            return self._machine(shown)
        if self._proxy and is_inside(address, self._proxy):
            if found := headers.get(self._proxy.header.lower()):
                return self._user(found, self._proxy)
        elif session:
            return self._guest(session)
        return None

    @property
    def machines(self) -> list[str]:
        """Names of those that have a token."""
        return [visitor.name for visitor in self._machines.values()]

    def form_token(self, visitor: Visitor) -> str:
        """Return what every form of a visitor must bring back."""
        return hmac.new(self._secret, visitor.key.encode(), "sha256").hexdigest()

    def is_own_form(self, visitor: Visitor, token: str) -> bool:
        """Whether a form came from a page of ours that this visitor was shown."""
        return not visitor.key or hmac.compare_digest(self.form_token(visitor).encode(), token.encode())

    def _machine(self, found: list[str]) -> Visitor | None:
        visitor = self._machines.get(_digest(found[0].partition(" ")[2].strip()))
        return visitor if len(found) == 1 else None

    def _user(self, found: list[str], proxy: ProxySettings) -> Visitor | None:
        name = found[0].strip()
        if len(found) > 1 or not _NAME.fullmatch(name):
            return None
        rights = frozenset(proxy.rights.get(name, proxy.rights.get("*", ()))) & self._rights
        return Visitor(name=name, rights=_completed(rights), key=f"user {name}")

    def _guest(self, session: str) -> Visitor | None:
        key = _digest(session)
        return Visitor(name="link", rights=self._rights, key=f"{_SESSION}{key}") if self._lasts(key) else None

    def _lasts(self, key: str) -> bool:
        with self._guard:
            if self._sessions.get(key, 0.0) < time.monotonic():
                self._sessions.pop(key, None)
                return False
        return True


def bearer(headers: Mapping[str, list[str]]) -> list[str]:
    """Return what a machine shows; the password of a login at the proxy (Basic, Negotiate) is none of ours."""
    return [each for each in headers.get("authorization", ()) if each.lower().startswith("bearer ")]


def is_inside(address: str, proxy: ProxySettings) -> bool:
    """Whether an address is one of those of the proxy."""
    try:
        return any(ip_address(address) in ip_network(each, strict=False) for each in proxy.addresses)
    except ValueError:
        return False


def _machines(path: Path) -> Iterator[tuple[str, Visitor]]:
    """Read the visitors of a file of tokens, by the digests of their tokens."""
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise SettingsError(f"web.tokens_file = {path}: cannot be read ({type(error).__name__})") from error
    if stat.S_IMODE(mode) & 0o077:
        raise SettingsError(f"web.tokens_file = {path}: expected a file for its owner only (0600), others can read it")
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            name, rights, token = line.split()
            known = _completed(frozenset(map(Right, rights.split(","))))
            if not _NAME.fullmatch(name) or len(token) < _MIN_TOKEN_LENGTH:
                raise ValueError
        except ValueError:
            expected = f"a name, rights out of {', '.join(Right)}, and a token of {_MIN_TOKEN_LENGTH} letters or more"
            raise SettingsError(f"web.tokens_file = {path}, line {number}: expected {expected}") from None
        yield _digest(token), Visitor(name=name, rights=known, key="")


def _completed(rights: frozenset[Right]) -> frozenset[Right]:
    return rights | {Right.LOOK} if Right.LOOK_AT_PATIENTS in rights else rights


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
