"""What models say of one image, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

Value = TypeVar("Value")
Kept = TypeVar("Kept")


def named(said: Iterable[tuple[str, str, Value]]) -> dict[str, Value]:
    """Bring together what models say, given as model, name and value in the order of the models.

    The first model keeps a name. The value of a later one is added under the name, two underscores and
    the model, as in the columns of a table: ``heart__offline_anatomy``.
    """
    found: dict[str, Value] = {}
    for model, name, value in said:
        found[f"{name}__{model.replace('-', '_')}" if name in found else name] = value
    return found


class Named(Mapping[str, Value], Generic[Kept, Value]):
    """A mapping whose values are made when they are asked for, anew each time.

    Parameters
    ----------
    kept
        What the values are made of.
    make
        Makes one; what it gives is the caller's own, to change at will.
    """

    def __init__(self, kept: Mapping[str, Kept], make: Callable[[Kept], Value]) -> None:
        self._kept = kept
        self._make = make

    def __getitem__(self, name: str) -> Value:
        if name not in self._kept:
            raise KeyError(f"{name!r} is not one of {', '.join(self._kept) or 'none'}")
        return self._make(self._kept[name])

    def __contains__(self, name: object) -> bool:
        return name in self._kept

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"<{len(self)}: {', '.join(self)}>" if self._kept else "<none>"
