"""Parts of objects that are made once and stand in many: only our own encoders are given the one that all share.

A data set lets anybody change it. Whoever else asks gets a copy, so nothing that another package does
to its own object can reach into one of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from functools import lru_cache, partial, wraps
from typing import Any, ParamSpec, TypeVar
from weakref import ref

from pydicom import Dataset

Parameters = ParamSpec("Parameters")
Part = TypeVar("Part")

_is_sharing: ContextVar[bool] = ContextVar("_is_sharing", default=False)
_notes: dict[int, tuple[ref[Dataset], dict[Hashable, bytes]]] = {}  # by id of the part


@contextmanager
def sharing(is_sharing: bool = True) -> Iterator[None]:
    """Give the shared parts themselves to what runs in the block: it promises not to change them."""
    token = _is_sharing.set(is_sharing)
    try:
        yield
    finally:
        _is_sharing.reset(token)


def shared(maxsize: int | None = None) -> Callable[[Callable[Parameters, Part]], Callable[Parameters, Part]]:
    """Remember what a function made, for equal arguments; see the module."""

    def decorated(make: Callable[Parameters, Part]) -> Callable[Parameters, Part]:
        @lru_cache(maxsize=maxsize)
        def remembered(*arguments: Parameters.args, **named: Parameters.kwargs) -> Part:
            made = make(*arguments, **named)
            items: Any = [made] if isinstance(made, Dataset) else made
            for item in items:
                _notes[id(item)] = ref(item, partial(_forget, id(item))), {}
            return made

        @wraps(make)
        def part(*arguments: Parameters.args, **named: Parameters.kwargs) -> Part:
            made = remembered(*arguments, **named)  # type: ignore[arg-type]
            return own(made)

        return part

    return decorated


def notes(item: Dataset) -> dict[Hashable, bytes] | None:
    """Return what is remembered of a shared part, as long as it lives; None of any other item."""
    found = _notes.get(id(item))
    return found[1] if found and found[0]() is item else None


def _forget(part: int, _: ref[Dataset]) -> None:
    _notes.pop(part, None)


def own(part: Part) -> Part:
    """Return the part itself to who shares, else a copy."""
    return part if _is_sharing.get() else deepcopy(part)
