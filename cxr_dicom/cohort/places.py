"""Where the states of an output folder lie: some 50 bytes for each, however long its key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.system.packed import Ordered

_LATEST = 4096  # that are not in order yet
_DIGEST = np.dtype("S16")
_PLACE = np.dtype([("journal", "<u4"), ("offset", "<u8"), ("length", "<u4")])


class Place(NamedTuple):
    """Where a state lies."""

    journal: int
    offset: int
    length: int


class Places:
    """The place of the latest state of each key. One thread may note, and others read meanwhile."""

    def __init__(self) -> None:
        self._keys = Ordered()
        self._latest: dict[bytes, Place] = {}
        self._settled: tuple[NDArray[np.bytes_], NDArray[np.void]] = np.empty(0, _DIGEST), np.empty(0, _PLACE)

    def __len__(self) -> int:
        self._settle()
        return len(self._settled[0])

    def __iter__(self) -> Iterator[str]:
        """Yield the keys in order."""
        return (key for (key,) in self._keys)

    def __getitem__(self, key: str) -> Place | None:
        """Return the place of a key; None where it has none."""
        return self._find(_digest(key))

    def note(self, key: str, place: Place) -> bool:
        """Say where a state lies; return whether it counts: none of a later session is known."""
        digest = _digest(key)
        earlier = self._find(digest)
        if earlier and earlier.journal > place.journal:
            return False
        if earlier is None:
            self._keys.add([(key,)])
        self._latest[digest] = place
        if len(self._latest) >= _LATEST:
            self._settle()
        return True

    def in_order(self) -> Iterator[Place]:
        """Yield the places as they lie in the files."""
        self._settle()
        return map(_place, np.sort(self._settled[1], order=_PLACE.names))

    def _find(self, digest: bytes) -> Place | None:
        if place := self._latest.get(digest):
            return place
        digests, places = self._settled
        at = int(digests.searchsorted(np.bytes_(digest)))
        is_known = at < len(digests) and digests[at] == np.bytes_(digest)
        return _place(places[at]) if is_known else None

    def _settle(self) -> None:
        digests, places = self._settled
        latest = dict(sorted(self._latest.items()))
        new, of_new = np.array([*latest], _DIGEST), np.array([*latest.values()], _PLACE)
        at = np.searchsorted(digests, new)
        is_known = np.isin(new, digests, assume_unique=True)
        places = places.copy()
        places[at[is_known]] = of_new[is_known]
        at = at[~is_known]
        self._settled = np.insert(digests, at, new[~is_known]), np.insert(places, at, of_new[~is_known])
        self._latest = {}


def _digest(key: str) -> bytes:
    found = hashlib.blake2b(key.encode(), digest_size=_DIGEST.itemsize).digest()
    return found.rstrip(b"\0")  # which NumPy takes for padding


def _place(found: np.void) -> Place:
    return Place(*found.item())
