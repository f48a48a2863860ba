"""Who is let in: connections from known addresses, while there is room, and not all of it for one address."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import Counter, deque
from collections.abc import Hashable

from cxr_dicom.config.service import ListenerSettings

_REMEMBERED_SECONDS = 60.0  # for which health speaks of those who found no room
_MOST_REMEMBERED = 10_000


class Admission:
    """Counts connections and associations by address; safe to use from many threads.

    A connection waits until it has asked for an association; those that wait take no place from those that
    send. Where several addresses may connect, one of them gets a share.
    """

    def __init__(self, settings: ListenerSettings) -> None:
        self._settings = settings
        self._networks = [ipaddress.ip_network(each, strict=False) for each in settings.calling_addresses]
        self._guard = threading.Lock()
        self._waiting: dict[Hashable, str] = {}  # addresses by connection; see `_holder`
        self._open: dict[Hashable, str] = {}  # likewise, of associations
        self._full: deque[tuple[float, str]] = deque(maxlen=_MOST_REMEMBERED)  # when somebody found no room, and who

    @property
    def most_connections(self) -> int:
        """How many connections are held, associated or not."""
        return 2 * self._settings.max_associations + 8

    @property
    def most_waiting_of_one(self) -> int:
        """How many connections of one address may wait."""
        return self.most_connections if self._is_one_address() else self.most_connections // 2

    @property
    def most_associations_of_one(self) -> int:
        """How many associations one address may have."""
        most = self._settings.max_associations
        if self._settings.max_associations_per_address is not None:
            return min(most, self._settings.max_associations_per_address)
        return most if self._is_one_address() else max(1, most * 3 // 4)

    @property
    def connections(self) -> int:
        """How many are held now."""
        return len(self._waiting) + len(self._open)

    def connect(self, connection: Hashable, address: str) -> str:
        """Let a connection wait for its request.

        Returns
        -------
        str
            Why it is turned away; empty when it is let in.
        """
        sought = ipaddress.ip_address(address)
        if not (any(sought in each for each in self._networks) if self._networks else sought.is_loopback):
            return "not in listener.calling_addresses"
        address = _holder(address)
        with self._guard:
            if self.connections >= self.most_connections:
                return self._no_room(address, f"{self.connections} connections are open")
            own = Counter(self._waiting.values())[address]
            if own >= self.most_waiting_of_one:
                return self._no_room(address, f"{own} connections of this address have not asked for an association")
            self._waiting[connection] = address
        return ""

    def associate(self, connection: Hashable, address: str) -> str:
        """Let a connection that waits have its association; returns as `connect`."""
        address = _holder(address)
        with self._guard:
            if len(self._open) >= self._settings.max_associations:
                return self._no_room(address, "listener.max_associations are open")
            if Counter(self._open.values())[address] >= self.most_associations_of_one:
                return self._no_room(address, "this address has its share of listener.max_associations")
            if self._waiting.pop(connection, None):  # else it was closed meanwhile
                self._open[connection] = address
        return ""

    def leave(self, connection: Hashable) -> None:
        """Forget a connection."""
        with self._guard:
            self._waiting.pop(connection, None)
            self._open.pop(connection, None)

    def problem(self) -> str | None:
        """Say that somebody found no room within the last minute; None when all did."""
        with self._guard:
            since = time.monotonic() - _REMEMBERED_SECONDS
            while self._full and self._full[0][0] < since:
                self._full.popleft()
            if not self._full:
                return None
            (who, most), *_ = Counter(address for _, address in self._full).most_common(1)
            waiting, associations = len(self._waiting), len(self._open)
        return (
            f"no room for {len(self._full)} connections in the last {_REMEMBERED_SECONDS:g} s, {most} of them from "
            f"{who}; now {associations} of {self._settings.max_associations} associations are open, and {waiting} "
            "connections have not asked for one"
        )

    def _no_room(self, address: str, reason: str) -> str:
        self._full.append((time.monotonic(), address))
        return reason

    def _is_one_address(self) -> bool:
        """Whether all who may connect have one address, so that a share of it would help nobody."""
        return all(each.num_addresses == 1 for each in self._networks) and len(self._networks) <= 1


def _holder(address: str) -> str:
    """Return an IPv4 address, or the network of an IPv6 address: a machine there has any number of addresses."""
    sought = ipaddress.ip_address(address)
    return address if sought.version == 4 else str(ipaddress.ip_network((sought, 64), strict=False))


class FloodGuard:
    """Keeps a peer that is turned away all the time from filling the disk with lines about it."""

    MOST = 10  # lines of one kind within a minute; a scanner or a health check of a load balancer makes fewer

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._told: dict[Hashable, tuple[float, int]] = {}  # since when, and how often

    def left_out(self, event: Hashable) -> int | None:
        """Return how many of its kind were left out before this one is told; None when this is left out too."""
        now = time.monotonic()
        with self._guard:
            since, count = self._told.get(event, (now, 0))
            is_new = now - since >= _REMEMBERED_SECONDS
            left_out = max(0, count - self.MOST) if is_new else 0
            if is_new:
                since, count = now, 0
            if event not in self._told and len(self._told) >= _MOST_REMEMBERED:
                self._told.clear()
            self._told[event] = since, count + 1
            return left_out if count < self.MOST else None
