"""Parts of objects that are made once and stand in many: only our own encoders are given the one that all share.

A data set lets anybody change it. Whoever else asks gets a copy, so nothing that another package does
to its own object can reach into one of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from functools import lru_cache, wraps
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Part = TypeVar("Part")

_is_sharing: ContextVar[bool] = ContextVar("_is_sharing", default=False)


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
        remembered = lru_cache(maxsize=maxsize)(make)

        @wraps(make)
        def part(*arguments: Parameters.args, **named: Parameters.kwargs) -> Part:
            made = remembered(*arguments, **named)  # type: ignore[arg-type]
            return own(made)

        return part

    return decorated


def own(part: Part) -> Part:
    """Return the part itself to who shares, else a copy."""
    return part if _is_sharing.get() else deepcopy(part)
