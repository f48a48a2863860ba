"""Results of the models on one image, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

Value = TypeVar("Value")
Source = TypeVar("Source")


def named(items: Iterable[tuple[str, str, Value]]) -> dict[str, Value]:
    """Combine the results of all models, given as model, name and value in the order of the models.

    The first model keeps a name. The value of a later one is added under the name, two underscores and
    the model, as in the columns of a table: ``heart__offline_anatomy``.
    """
    found: dict[str, Value] = {}
    for model, name, value in items:
        found[f"{name}__{model.replace('-', '_')}" if name in found else name] = value
    return found


class Named(Mapping[str, Value], Generic[Source, Value]):
    """A mapping whose values are computed on access, each time anew.

    Parameters
    ----------
    sources
        What the values are made of.
    make
        Makes one; what it gives is the caller's own, to change at will.
    """

    def __init__(self, sources: Mapping[str, Source], make: Callable[[Source], Value]) -> None:
        self._sources = sources
        self._make = make

    def __getitem__(self, name: str) -> Value:
        if name not in self._sources:
            raise KeyError(f"{name!r} is not one of {', '.join(self._sources) or 'none'}")
        return self._make(self._sources[name])

    def __contains__(self, name: object) -> bool:
        return name in self._sources

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)

    def __repr__(self) -> str:
        return f"<{len(self)}: {', '.join(self)}>" if self._sources else "<none>"
