"""Long lists in little memory: pickled and compressed in blocks, of which one is open at a time.

Neighbours have most of their text in common, as paths and UIDs do: what takes a kilobyte as an object takes some
tens of bytes here.
"""

from __future__ import annotations

import heapq
import pickle
import zlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, TypeVar, overload

T = TypeVar("T")

_BLOCK = 128  # items
_RUN = 8192  # items that are put in order at once
_FAST = 1  # level of zlib


class Packed(Sequence[T]):
    """A list that is made once. What it gives is a copy each time.

    Parameters
    ----------
    items
        Are pickled; read once.
    """

    def __init__(self, items: Iterable[T]) -> None:
        rest, self._length, self._blocks = iter(items), 0, list[bytes]()
        while block := list(islice(rest, _BLOCK)):
            self._blocks.append(zlib.compress(pickle.dumps(block), _FAST))
            self._length += len(block)
        self._latest = lru_cache(maxsize=1)(self._open)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[T]:
        for number in range(len(self._blocks)):
            yield from self._open(number)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        if isinstance(index, slice):
            return [self[number] for number in range(self._length)[index]]
        number, place = divmod(range(self._length)[index], _BLOCK)
        return self._latest(number)[place]

    def _open(self, number: int) -> list[T]:
        return pickle.loads(zlib.decompress(self._blocks[number]))  # type: ignore[no-any-return]  # noqa: S301  # is ours


class Ordered:
    """Tuples that come in any order, and are read in theirs, as often as one likes."""

    def __init__(self, items: Iterable[tuple[Any, ...]] = ()) -> None:
        self._runs: list[Packed[tuple[Any, ...]]] = []
        self._latest: list[tuple[Any, ...]] = []
        self.add(items)

    def add(self, items: Iterable[tuple[Any, ...]]) -> None:
        """Add some more."""
        for item in items:
            self._latest.append(item)
            if len(self._latest) >= _RUN:
                self._runs.append(Packed(sorted(self._latest)))
                self._latest = []

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return heapq.merge(*self._runs, sorted(self._latest))
