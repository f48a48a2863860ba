"""A table of ``[[models.own]]`` as text, and its place at the end of a settings file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cxr_dicom.config import load
from cxr_dicom.config.own import OwnModel
from cxr_dicom.errors import SettingsError
from cxr_dicom.system import atomic

_DELETE = "\x7f"  # JSON leaves it as it is, TOML does not


def checked(table: Mapping[str, Any]) -> OwnModel:
    """Check a table as the settings do.

    Raises
    ------
    SettingsError
        Naming what is wrong, each with its key.
    """
    try:
        return OwnModel.model_validate(dict(table))
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, each['loc'])) or 'table'}: {each['msg']}" for each in error.errors())
        raise SettingsError("; ".join(problems)) from error


def expect_free(config: Path, name: str) -> None:
    """Raise `SettingsError` if a settings file cannot be read, or has a network of this name."""
    if load(config).models.own_named(name) is not None:
        raise SettingsError(f"{config}: has a model {name!r} already; expected a name that is free")


def text(table: Mapping[str, Any], comment: str) -> str:
    """Write a table as TOML, one line for each key; ``comment`` stands behind its digest."""
    lines = ["[[models.own]]"]
    for key, value in table.items():
        lines.append(f"{key} = {_value(value)}" + (f"  # {comment}" if key == "sha256" else ""))
    return "\n".join(lines) + "\n"


def append(config: Path, written: str) -> None:
    """Put a table at the end of a settings file, whose bytes stay as they are.

    Raises
    ------
    SettingsError
        If the file is not there, or says its own networks in another way than in tables.
    """
    place = config.resolve()  # a link stays one
    try:
        before = place.read_bytes()
        joint = b"" if not before or before.endswith(b"\n\n") else b"\n" if before.endswith(b"\n") else b"\n\n"
        after = before + joint + written.encode()
        _expect_one_more(before, after)
        with atomic.open_bytes(place, place.stat().st_mode & 0o777) as file:
            file.write(after)
    except ValueError as error:  # of TOML, and of UTF-8
        raise SettingsError(
            f"{config}: no table [[models.own]] can stand at its end ({error}); put it there by hand"
        ) from error
    except OSError as error:
        raise SettingsError(f"{config}: {error.strerror}; `cxr-dicom init` writes one") from error


def _expect_one_more(before: bytes, after: bytes) -> None:
    """Compare what the file says before and after: one network more, and nothing else."""
    old, new = tomllib.loads(before.decode()), tomllib.loads(after.decode())
    new["models"]["own"].pop()
    for settings in (old, new):
        if settings.get("models", {}).get("own") == []:
            del settings["models"]["own"]
        if settings.get("models") == {}:
            del settings["models"]
    if old != new:
        raise ValueError("what stands there would change")


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(str(value) if isinstance(value, Path) else value, ensure_ascii=False).replace(_DELETE, "\\u007f")
