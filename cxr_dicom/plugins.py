"""The six kinds of choice, all made in one way: models, encoders, destinations, archives, exporters, engines.

A file in a seam's folder is a choice, and so is what an installed package names in the entry point
group of that seam: there ``name = "package.module"`` points at a module of the same shape as ours.
Ours are found first, and nobody can take their names. Other packages are imported only when a name is
asked for that is not ours, or when everything is listed: one that is broken stops nobody else.

What a module owes:

=============  =================================================  ==============================================
seam           function                                           also
=============  =================================================  ==============================================
models         ``build(name, settings) -> infer.base.Model``      ``MODELS``: a tuple of `records.ModelInfo`
encoders       ``build(settings) -> encode.base.Encoder``
destinations   ``build(table, open_commitment)``                  ``SETTINGS``: a `config.service.DestinationTable`
archives       ``build(table, listener)``                         ``SETTINGS``: a `config.service.ArchiveTable`
exporters      ``build(settings, names)``
engines        ``build(options) -> cohort.engine.Engine``
=============  =================================================  ==============================================
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

from cxr_dicom import __version__
from cxr_dicom.errors import CxrDicomError, SettingsError
from cxr_dicom.records import ModelInfo, ObjectKind

OURS = "cxr-dicom"  # the distribution of this package
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")  # it stands in settings, file names, tables and DICOM attributes
_MAX_NAME_LENGTH = 64  # characters of an LO value (PS3.5 6.2)


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """Something that a user can name in the settings."""

    name: str
    module: ModuleType  # has ``build``
    distribution: str  # the installed package that it comes from
    version: str  # of that package
    is_ours: bool = False  # whether it lies in the seam's folder, whatever its package calls itself

    @property
    def package(self) -> str:
        """The installed package with its version, as people write it."""
        return f"{self.distribution} {self.version}"

    def build(self, key: str, *arguments: Any) -> Any:
        """Call the module's ``build``.

        Raises
        ------
        SettingsError
            Naming ``key`` of the settings, whatever the ``build`` of another package raises that is no error of ours.
        """
        if self.is_ours:
            return self.module.build(*arguments)
        try:
            return self.module.build(*arguments)
        except (CxrDicomError, KeyboardInterrupt):
            raise
        except BaseException as error:
            text = f"{key}: {self.name!r} of {self.package}: {type(error).__name__}: {error}"
            raise SettingsError(text) from error


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
    load: Callable[[], Any]
    distribution: str
    version: str
    is_ours: bool = False

    def choices(self, seam: Seam) -> list[Choice]:
        """Import the module; raise whatever is wrong with it."""
        module = self.load()
        if not callable(getattr(module, "build", None)):
            raise TypeError(f"expected a module with a function `build`, found {module!r:.100}")
        names = list(seam.declared(module)) if seam.declared else [self.name]
        for name in () if self.is_ours else names:
            if wrong := problem_of_name(seam, name):
                raise ValueError(wrong)
        about = {"distribution": self.distribution, "version": self.version, "is_ours": self.is_ours}
        return [Choice(name=name, module=module, **about) for name in names]  # type: ignore[arg-type]


class Seam:
    """One kind of choice.

    Parameters
    ----------
    name
        Plural, such as ``models``. The entry point group of other packages is ``cxr_dicom.<name>``.
    folder
        The package whose modules are our own choices.
    declared
        Names of the choices that a module declares; by default one, that of the entry point.
    reserved
        Names that nobody can have, for they mean something else.
    """

    def __init__(
        self,
        name: str,
        folder: str,
        *,
        declared: Callable[[ModuleType], Iterable[str]] | None = None,
        reserved: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.group = f"cxr_dicom.{name}"
        self._folder = folder
        self.declared = declared
        self.reserved = frozenset(reserved)

    @property
    def names(self) -> list[str]:
        """Every name that the settings may hold: ours first, then those of other packages."""
        return list(self.choices)

    @cached_property
    def ours(self) -> dict[str, Choice]:
        """The choices of this package by name; no other package is imported."""
        folder = importlib.import_module(self._folder)
        offers = [self._our_offer(found.name) for found in pkgutil.iter_modules(folder.__path__)]
        return {choice.name: choice for offer in offers for choice in offer.choices(self)}

    @property
    def choices(self) -> dict[str, Choice]:
        """Every choice by name. This imports what other packages offer."""
        return self._found[0]

    @property
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
        if choice := self.ours.get(name) or self.choices.get(name):
            return choice
        for offer in self.broken:
            if offer.name == name:
                raise SettingsError(f"{key}: {name!r} of {offer.distribution} {offer.version}: {offer.problem}")
        text = f"{key}: {name!r} is not one of {', '.join(sorted(self.choices))}"
        broken = ", ".join(f"{offer.distribution} {offer.version}" for offer in self.broken)
        raise SettingsError(f"{text}; what is wrong with {broken} says `cxr-dicom plugins`" if broken else text)

    def forget(self) -> None:
        """Look again at the next question: what is installed has changed."""
        for name in ("ours", "_found"):
            self.__dict__.pop(name, None)

    @cached_property
    def _found(self) -> tuple[dict[str, Choice], list[Broken]]:
        choices, broken = dict(self.ours), list[Broken]()
        for offer in self._strangers():
            about = {"distribution": offer.distribution, "version": offer.version}
            try:
                declared = offer.choices(self)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # what others wrote may fail in any way, `sys.exit` included
                broken.append(Broken(name=offer.name, problem=f"{type(error).__name__}: {error}", **about))
                continue
            for choice in declared:
                if choice.name in choices:
                    problem = f"the name is taken by {choices[choice.name].distribution}"
                    broken.append(Broken(name=choice.name, problem=problem, **about))
                else:
                    choices[choice.name] = choice
        return choices, broken

    def _our_offer(self, module: str) -> _Offer:
        return _Offer(
            name=module.replace("_", "-"),
            load=lambda: importlib.import_module(f"{self._folder}.{module}"),
            distribution=OURS,
            version=__version__,
            is_ours=True,
        )

    def _strangers(self) -> Iterator[_Offer]:
        for point in sorted(entry_points(group=self.group), key=_order):
            distribution, version = _distribution(point)
            yield _Offer(name=point.name, load=point.load, distribution=distribution, version=version)


def problem_of_name(seam: Seam, name: object) -> str:
    """Say why a choice of somebody else cannot have this name; empty when it can."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > _MAX_NAME_LENGTH:
        rule = f"expected lower case letters and digits joined by -, at most {_MAX_NAME_LENGTH} characters"
        return f"{rule}; got the name {name!r:.100}"
    return f"expected a name that has no other meaning; got the name {name!r}" if name in seam.reserved else ""


def _order(point: EntryPoint) -> tuple[str, str, str]:
    return *_distribution(point), point.name


def _distribution(point: EntryPoint) -> tuple[str, str]:
    return (str(point.dist.name), str(point.dist.version)) if point.dist else ("unknown", "unknown")


def _models(module: ModuleType) -> Iterable[str]:
    """Names of the models that a module declares; a model's description is believed only when it is one."""
    infos = module.MODELS
    if not isinstance(infos, tuple) or not infos or not all(isinstance(info, ModelInfo) for info in infos):
        raise TypeError(f"expected MODELS to be a tuple of ModelInfo, got {infos!r:.100}")
    return [info.name for info in infos]


MODELS = Seam("models", "cxr_dicom.infer.models", declared=_models, reserved=("auto",))
ENCODERS = Seam(
    "encoders",
    "cxr_dicom.encode.objects",
    reserved={"auto", *(kind.replace("_", "-") for kind in ObjectKind)},
)
DESTINATIONS = Seam("destinations", "cxr_dicom.deliver.destinations")
ARCHIVES = Seam("archives", "cxr_dicom.ingest.archives")
EXPORTERS = Seam("exporters", "cxr_dicom.export.formats", reserved=("wrapped",))
ENGINES = Seam("engines", "cxr_dicom.cohort.engines")
SEAMS = (MODELS, ENCODERS, DESTINATIONS, ARCHIVES, EXPORTERS, ENGINES)


def strangers(chosen: Iterable[tuple[Seam, str]]) -> tuple[tuple[str, str, str, str], ...]:
    """Identify what other packages contribute: seam, name, distribution and version of each choice that is not ours.

    A result depends on them, so they belong to what identifies it. Names that nobody offers are left to `Seam.choose`.
    """
    settings = {MODELS.name: "models.names", ENCODERS.name: "encode.objects"}
    found = ((seam, seam.choose(settings.get(seam.name, seam.name), name)) for seam, name in chosen)
    return tuple(
        sorted(
            {
                (seam.name, choice.name, choice.distribution, choice.version)
                for seam, choice in found
                if not choice.is_ours
            }
        )
    )


def strangers_of(models: Iterable[str], encoders: Iterable[str]) -> tuple[tuple[str, str, str, str], ...]:
    """Identify the packages that models and encoders come from; ``auto`` is always one of ours."""
    chosen = [(MODELS, name) for name in models if name not in MODELS.reserved]
    return strangers((*chosen, *((ENCODERS, name) for name in encoders)))
