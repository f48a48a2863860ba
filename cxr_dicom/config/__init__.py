"""Settings: TOML file, then environment, then command line, into one frozen tree.

``cxr-dicom.toml`` has one table per stage. An environment variable names the same key in capital
letters: ``CXR_DICOM_ENCODE__GEOMETRY=strict`` is ``geometry`` of ``[encode]``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.exceptions import SettingsError as SettingsSourceError

from cxr_dicom.config import operating_points as site_points
from cxr_dicom.config.own import OwnModel
from cxr_dicom.config.routes import DEFAULT, MOST_ROUTES, RouteSettings
from cxr_dicom.config.service import (
    AssemblySettings,
    Destination,
    FilesSettings,
    ListenerSettings,
    MonitorSettings,
    PollerSettings,
    RetentionSettings,
    RetrySettings,
    ServiceSettings,
    SpoolSettings,
)
from cxr_dicom.config.table import Table as _Table
from cxr_dicom.config.web import WebSettings
from cxr_dicom.errors import SettingsError

ENVIRONMENT_PREFIX = "CXR_DICOM_"
RESULT_TABLES = ("select", "pixels", "models", "encode")  # what can change a result; the others say where it goes

_USER_IN_URL = re.compile(r"//[^/@]*@")
_CONTROL = re.compile("[\0-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_MOST_PROBLEMS, _LONGEST_SHOWN = 20, 200  # of an error; characters of a value in it

Policy = Literal["process", "skip"]


class SelectSettings(_Table):
    """``[select]``: which images are eligible."""

    unknown_view: Policy = "process"
    """An image that does not say whether it is frontal."""
    unknown_body_part: Policy = "process"
    """An image that does not say which part of the body it shows."""
    no_lungs: Policy = "skip"
    """An image that is no plausible frontal chest: `skip` withholds its objects."""
    orientation_by_content: Literal["warn", "correct", "skip"] = "warn"
    """An image stored turned, mirrored or inverted without saying so; `correct` turns it, and never mirrors it."""
    secondary_capture: Literal["auto", "process", "skip"] = "auto"
    """A Secondary Capture of Modality CR or DX; `auto`: `skip` in the service, else `process`."""
    max_pixels: int = Field(default=50_000_000, gt=0)
    """Largest Rows x Columns that is decoded; a larger matrix is refused unread."""


class PixelSettings(_Table):
    """``[pixels]``: how stored values become model input."""

    intensity: Literal["auto", "xrv", "voi"] = "auto"
    """`xrv`: as TorchXRayVision reads a file; `voi`: VOI LUT or window first; `auto`: `xrv` where the range is used."""


class ModelSettings(_Table):
    """``[models]``: which models run, and on what."""

    names: tuple[str, ...] = Field(default=("auto",), min_length=1)
    """Models in the order in which they run; `auto` takes what is installed."""
    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`."""
    backend: Literal["torch", "openvino"] = "torch"
    """What computes the networks; `openvino` is faster on a CPU, and needs `pip install '.[openvino]'` in the clone."""
    batch: int = Field(default=1, ge=1, le=64)
    """Images that a GPU computes at once, in one process for all workers of `run`; above 1 it is part of each result's
    version."""
    folder: Path | None = None
    """Where weights lie; default: TorchXRayVision's own cache folder."""
    mirror: str | None = None
    """URL of a folder that holds copies of the weights; default: where TorchXRayVision fetches them."""
    sha256: Mapping[str, str] = Field(default_factory=dict)
    """Digests that weights must have, by model name; those not named are trusted on first use."""
    accept_licence: tuple[str, ...] = ()
    """Models whose restrictive licence you accept, by name."""
    operating_points: Path | None = None
    """File of `cxr-dicom calibrate`: operating points of this site; default: the models' own."""
    operating_points_sha256: str | None = Field(default=None, pattern="^[0-9a-fA-F]{64}$")
    """Digest that it must have; default: taken when the settings are read."""
    own: tuple[OwnModel, ...] = ()
    """Networks of yours, each a table `[[models.own]]`."""

    @field_validator("own")
    @classmethod
    def _distinct(cls, own: tuple[OwnModel, ...]) -> tuple[OwnModel, ...]:
        if len({model.name for model in own}) < len(own):
            raise ValueError("two models have the same name")
        return own

    @model_validator(mode="after")
    def _pinned_once(self) -> Self:
        for model in self.own:
            if model.sha256 and self.sha256.get(model.name, model.sha256).lower() != model.sha256.lower():
                raise ValueError(f"sha256: {model.name} has another one in its table")
        return self

    def pinned(self, name: str) -> str | None:
        """Return the digest that the weights of a model must have; None where the settings do not say."""
        own = self.own_named(name)
        return self.sha256.get(name) or (own.sha256 if own else None)

    def own_named(self, name: str) -> OwnModel | None:
        """Return the table of a network of the user's; None where ``name`` is another model."""
        return next((model for model in self.own if model.name == name), None)

    @model_validator(mode="before")
    @classmethod
    def _identified(cls, values: Any) -> Any:
        """Take the digest of the file now: what is loaded later is this file, or nothing."""
        if isinstance(values, dict) and values.get("operating_points") and not values.get("operating_points_sha256"):
            return {**values, "operating_points_sha256": site_points.digest(Path(values["operating_points"]))}
        return values


_WITHOUT_EFFECT = {  # on a result, given the weights and the digest of the operating points
    "device",
    "folder",
    "mirror",
    "sha256",
    "accept_licence",
    "operating_points",
    "own",
}


AUTO_OBJECTS = "auto"
_OBJECTS = ("seg", "sr", "parametric-map")  # what every place writes that is told nothing
_OF_SERVICE = ("presentation-state",)  # what the service adds to it


class EncodeSettings(_Table):
    """``[encode]``: which objects are written, and how."""

    objects: tuple[str, ...] = (AUTO_OBJECTS,)
    """Kinds of objects to write; `auto`: `seg`, `sr`, `parametric-map`, and in the service `presentation-state`."""
    geometry: Literal["viewer", "strict", "picture"] = "viewer"
    """`viewer`: a synthetic Frame of Reference, which OHIF and Slicer need; `strict`: none; `picture`: as `viewer`, and
    the radiograph with what was found as a picture (Secondary Capture), where viewers do not show the radiograph."""
    segmentation: Literal["auto", "binary", "labelmap", "both"] = "auto"
    """`auto`: BINARY where Columns is a multiple of 8, which all viewers unpack rightly, else LABELMAP."""
    map: Literal["float32", "coarse"] = "float32"
    """Grid of a map: `float32` that of the image, which OHIF needs; `coarse` that of the model, far smaller."""
    maps: Literal["top", "all"] = "top"
    """Maps of findings: `top` that of the highest score of an image; `all` one for each finding."""
    deflate: bool = True
    """Segmentations and maps in Deflated Explicit VR Little Endian: at a hundredth to a tenth of their size."""
    content_time: Literal["auto", "source", "now"] = "auto"
    """Content dates taken from the source image, or from the clock; `auto`: `now` in the service, else `source`."""

    @property
    def written(self) -> tuple[str, ...]:
        """The kinds of objects to write, with what ``auto`` stands for where nobody decided."""
        pictures = ("secondary-capture",) if self.geometry == "picture" else ()
        return tuple(dict.fromkeys((*self.with_auto(_OBJECTS), *pictures)))

    @property
    def unasked(self) -> frozenset[str]:
        """Kinds of objects that the service makes although nobody named them; a destination may do without."""
        added = set(_OF_SERVICE).difference(self.objects) if AUTO_OBJECTS in self.objects else ()
        return frozenset(name.replace("-", "_") for name in added)

    def with_auto(self, kinds: tuple[str, ...]) -> tuple[str, ...]:
        """Return the kinds of objects with ``kinds`` in place of ``auto``."""
        named = (kind for name in self.objects for kind in (kinds if name == AUTO_OBJECTS else (name,)))
        return tuple(dict.fromkeys(named))


class Settings(_Table):
    """All settings. Frozen; `digest` identifies what they do to a result."""

    select: SelectSettings = SelectSettings()
    pixels: PixelSettings = PixelSettings()
    models: ModelSettings = ModelSettings()
    encode: EncodeSettings = EncodeSettings()
    service: ServiceSettings = ServiceSettings()
    spool: SpoolSettings = SpoolSettings()
    listener: ListenerSettings = ListenerSettings()
    web: WebSettings = WebSettings()
    assembly: AssemblySettings = AssemblySettings()
    poller: PollerSettings = PollerSettings()
    routes: Annotated[tuple[RouteSettings, ...], Field(max_length=MOST_ROUTES)] = ()
    destinations: tuple[Destination, ...] = ()
    retention: RetentionSettings = RetentionSettings()
    monitor: MonitorSettings = MonitorSettings()
    retry: RetrySettings = RetrySettings()
    files: FilesSettings = FilesSettings()

    @field_validator("destinations")
    @classmethod
    def _distinct(cls, destinations: tuple[Destination, ...]) -> tuple[Destination, ...]:
        if len({destination.name for destination in destinations}) < len(destinations):
            raise ValueError("two destinations have the same name")
        return destinations

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> Settings:
        known = {destination.name for destination in self.destinations}
        if len({route.name for route in self.routes}) < len(self.routes):
            raise ValueError("two routes have the same name")
        for route in self.routes:
            if unknown := [name for name in route.destinations or () if name not in known]:
                raise ValueError(f"routes.{route.name}.destinations: no [[destinations]] is named {unknown[0]!r}")
        return self

    @property
    def by_route(self) -> dict[str, Settings]:
        """What is set for the images of each route that any can take, in their order, `DEFAULT` last; without routes.

        The ``destinations`` of each are those that it may go to.
        """
        found: dict[str, Settings] = {}
        for route in self.routes:
            found[route.name] = self._on(route)
            if not route.has_conditions:  # what it does not take never came
                return found
        return {**found, DEFAULT: self.model_copy(update={"routes": ()})}

    def expect_one_way(self) -> None:
        """Refuse routes that decide which models run or what they make, where nobody asks who sent an image.

        Raises
        ------
        SettingsError
            Naming the routes.
        """
        deciding = [route.name for route in self.routes if route.models is not None or route.objects is not None]
        if deciding:
            raise SettingsError(
                f"routes: {', '.join(deciding)} decide in the service which models run and what they make, by who sent"
                " an image among others; outside of it there are no routes: name the models that are to run on all"
            )

    def _on(self, route: RouteSettings) -> Settings:
        changes: dict[str, Any] = {"routes": ()}
        if route.models is not None:
            changes["models"] = self.models.model_copy(update={"names": route.models})
        if route.objects is not None:
            changes["encode"] = self.encode.model_copy(update={"objects": route.objects})
        if (names := route.destinations) is not None:
            changes["destinations"] = tuple(each for each in self.destinations if each.name in names)
        return self.model_copy(update=changes)

    def with_models(self, names: tuple[str, ...]) -> Settings:
        """Return these settings with other models, whatever route an image takes."""
        changes = {
            "models": self.models.model_copy(update={"names": names}),
            "routes": tuple(route.model_copy(update={"models": None}) for route in self.routes),
        }
        return self.model_copy(update=changes)

    def decided(self, *, service: bool) -> Settings:
        """Return these settings with what was left open decided, as it is in the service or elsewhere."""
        objects = self.encode.with_auto((*_OBJECTS, *_OF_SERVICE) if service else _OBJECTS)
        encode: dict[str, Any] = {} if objects == self.encode.objects else {"objects": objects}
        if self.encode.content_time == "auto":
            encode["content_time"] = "now" if service else "source"
        changes: dict[str, Any] = {"encode": self.encode.model_copy(update=encode)} if encode else {}
        if self.select.secondary_capture == "auto":
            policy = "skip" if service else "process"
            changes["select"] = self.select.model_copy(update={"secondary_capture": policy})
        return self.model_copy(update=changes) if changes else self

    @cached_property
    def digest(self) -> str:
        """SHA-256 of every setting that can change a result, as canonical JSON."""
        decided = self.decided(service=False)
        absent = set() if self.models.operating_points_sha256 else {"operating_points_sha256"}
        absent |= {"batch"} if self.models.batch == 1 else set()
        unchanged = {"orientation_by_content"} if self.select.orientation_by_content == "warn" else set()
        content = decided.model_dump(
            mode="json",
            include=set(RESULT_TABLES),
            exclude={"models": _WITHOUT_EFFECT | absent, "select": unchanged},  # what came later, at its default
        )
        if own := [model.meaning for model in self.models.own if model.name in self.models.names]:
            content["models"]["own"] = own
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load(path: Path | None = None, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Settings:
    """Read the settings.

    Parameters
    ----------
    path
        TOML file; None for defaults and environment only.
    overrides
        Values from the command line, by table and key; they win.

    Raises
    ------
    SettingsError
        Naming the key, the bad value and what is accepted.
    """

    class Sources(Settings, BaseSettings):  # reads the three sources; the result is plain Settings
        model_config = SettingsConfigDict(env_prefix=ENVIRONMENT_PREFIX, env_nested_delimiter="__", extra="forbid")

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, InitSettingsSource(settings_cls, _read(path))

    _expect_known_tables(os.environ)
    try:
        values: dict[str, Any] = dict(overrides or {})
        return Settings.model_validate(Sources(**values).model_dump())
    except ValidationError as error:
        raise SettingsError(_explain(error, path)) from error
    except SettingsSourceError as error:
        raise SettingsError(f"environment: {error}") from error


def _expect_known_tables(environment: Iterable[str]) -> None:
    """Refuse what pydantic-settings passes over: a variable of ours that names no table."""
    for name in environment:
        table = name.lower().removeprefix(ENVIRONMENT_PREFIX.lower()).partition("__")[0]
        if name.upper().startswith(ENVIRONMENT_PREFIX) and table not in Settings.model_fields:
            raise SettingsError(f"environment: {name} names none of the tables {', '.join(Settings.model_fields)}")


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        read = tomllib.loads(path.read_text(encoding="utf-8"))
        if key := _odd_text(read):
            raise ValueError(f"{key}: expected text without control characters")
    except (OSError, ValueError, RecursionError) as error:
        raise SettingsError(f"{path}: {error}") from error
    return read


def _odd_text(read: Any) -> str | None:
    """Return the key of a text that no path or address can have; None where there is none."""
    if isinstance(read, str):
        return "" if _CONTROL.search(read) else None
    pairs = read.items() if isinstance(read, Mapping) else enumerate(read) if isinstance(read, list) else ()
    found = ((key, _odd_text(value)) for key, value in pairs)
    return next((f"{key}.{rest}".rstrip(".") for key, rest in found if rest is not None), None)


def _explain(error: ValidationError, path: Path | None) -> str:
    problems = [_explain_problem(problem) for problem in error.errors()]
    more = [f"and {len(problems) - _MOST_PROBLEMS} more"] if len(problems) > _MOST_PROBLEMS else []
    return f"{path or 'settings'}: " + "; ".join(problems[:_MOST_PROBLEMS] + more)


def _explain_problem(problem: ErrorDetails) -> str:
    """Name key, value and what is accepted; no value where it may be a password that has no place here."""
    key, value = ".".join(str(part) for part in problem["loc"]), problem["input"]
    if problem["type"] == "extra_forbidden":
        return f"{key}: no such key"
    if not key:  # it is about tables together
        return problem["msg"]
    if isinstance(value, Mapping):
        return f"{key}: {problem['msg']}"
    return f"{key} = {_USER_IN_URL.sub('//***@', _short(value))}: {problem['msg']}"


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # a number of thousands of digits
        return "..."
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
