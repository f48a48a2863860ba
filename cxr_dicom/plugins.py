"""The six kinds of choice, all made in one way: models, encoders, destinations, archives, exporters, engines.

A file in a seam's folder is a choice, and so is what an installed package names in the entry point
group of that seam: there ``name = "package.module"`` points at a module of the same shape as ours.
Listing loads nothing heavy: a choice's module imports torch or highdicom only when it is built.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType

from cxr_dicom import __version__
from cxr_dicom.errors import SettingsError

OURS = "cxr-dicom"  # the distribution of this package


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Something that a user can name in the settings."""

    name: str
    module: ModuleType  # has ``build``
    distribution: str  # the installed package that it comes from
    version: str  # of that package

    @property
    def is_ours(self) -> bool:
        """Whether it comes with this package."""
        return self.distribution == OURS


@dataclass(frozen=True, kw_only=True, slots=True)
class Broken:
    """An entry point that offers nothing, and why."""

    name: str
    distribution: str
    version: str
    problem: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Offer:
    """A module that may declare choices, not yet imported."""

    name: str
    load: Callable[[], ModuleType]
    distribution: str
    version: str


class Seam:
    """One kind of choice.

    Parameters
    ----------
    group
        Entry point group by which other packages add choices, such as ``cxr_dicom.models``.
    folder
        The package whose modules are our own choices.
    declared
        Names of the choices that a module declares; by default one, the module's own.
    """

    def __init__(self, group: str, folder: str, declared: Callable[[ModuleType], Iterable[str]] | None = None) -> None:
        self.group = group
        self._folder = folder
        self._declared = declared

    @property
    def names(self) -> list[str]:
        """Every name that the settings may hold: ours first, then those of other packages."""
        return list(self.choices)

    @cached_property
    def choices(self) -> dict[str, Choice]:
        """Every choice by name."""
        return self._found[0]

    @cached_property
    def broken(self) -> list[Broken]:
        """Entry points that offer nothing: they cannot be imported, or take a name that is taken."""
        return self._found[1]

    def choose(self, key: str, name: str) -> Choice:
        """Return the choice ``name``, which the settings have under ``key``.

        Raises
        ------
        SettingsError
            If there is none; the text lists the choices, or says what is wrong with it.
        """
        if name in self.choices:
            return self.choices[name]
        for offer in self.broken:
            if offer.name == name:
                raise SettingsError(f"{key}: {name!r} of {offer.distribution} {offer.version}: {offer.problem}")
        raise SettingsError(f"{key}: {name!r} is not one of {', '.join(sorted(self.choices))}")

    @cached_property
    def _found(self) -> tuple[dict[str, Choice], list[Broken]]:
        choices: dict[str, Choice] = {}
        broken: list[Broken] = []
        for offer in (*self._ours(), *self._strangers()):
            about = {"distribution": offer.distribution, "version": offer.version}
            try:
                module = offer.load()
                declared = list(self._declared(module)) if self._declared else [offer.name]
                if not callable(getattr(module, "build", None)):
                    raise TypeError(f"{module.__name__} has no function `build`")
            except Exception as error:  # what others wrote may fail in any way; only who names it is stopped
                broken.append(Broken(name=offer.name, problem=f"{type(error).__name__}: {error}", **about))
                continue
            for name in declared:
                if name in choices:
                    problem = f"the name is taken by {choices[name].distribution}"
                    broken.append(Broken(name=name, problem=problem, **about))
                else:
                    choices[name] = Choice(name=name, module=module, **about)
        return choices, broken

    def _ours(self) -> Iterator[_Offer]:
        folder = importlib.import_module(self._folder)
        for found in pkgutil.iter_modules(folder.__path__):
            path = f"{self._folder}.{found.name}"
            yield _Offer(
                name=found.name.replace("_", "-"),
                load=lambda path=path: importlib.import_module(path),  # type: ignore[misc]
                distribution=OURS,
                version=__version__,
            )

    def _strangers(self) -> Iterator[_Offer]:
        for point in sorted(entry_points(group=self.group), key=_order):
            yield _Offer(
                name=point.name, load=point.load, distribution=_distribution(point)[0], version=_distribution(point)[1]
            )


def _order(point: EntryPoint) -> tuple[str, str]:
    return _distribution(point)[0], point.name


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (point.dist.name, point.dist.version) if point.dist else ("unknown", "unknown")
