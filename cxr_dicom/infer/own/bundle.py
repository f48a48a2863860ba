"""MONAI bundles: what their metadata says is read as data; nothing of their configs is ever evaluated.

A bundle is a folder, or a ZIP archive of one, with ``configs/metadata.json``, other configs, and the network in
``models/`` (https://docs.monai.io, MONAI Bundle Specification). Configs are programs: text that begins with ``$`` is
Python, ``_target_`` names a class to make, ``@`` another part. Nobody who trusts files does better than not to run
them, so what they would do is asked.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from cxr_dicom.errors import WeightsError
from cxr_dicom.infer.own import preprocessing
from cxr_dicom.infer.own.preprocessing import Taken
from cxr_dicom.system.archives import DAMAGED, METHODS, ArchiveRefusedError, expect_small_directory

METADATA = "configs/metadata.json"
_INFERENCE = "configs/inference.json"
LONGEST_METADATA = 1 << 20  # bytes
_LONGEST_CONFIG = 1 << 22
_MOST_CONFIGS = 100
_MOST_MEMBERS = 10_000  # of an archive
_LONGEST_NETWORK = (1 << 31) - 1
_MOST_RATIO = 20  # of an archive's bytes; weights hardly become smaller
_NETWORKS = ("models/model.ts", "models/model.onnx", "models/model.pt")  # the first that is there
_SUFFIXES = (".json", ".yaml", ".yml")
_IN_YAML = re.compile(r"\$|\\(?:x24|u0024|U00000024)|!!?python")  # a $, written or escaped, and Python's own tags
_TARGET = re.compile(r'"?_target_"?\s*:\s*"?([\w.]+)')
_LARGEST = 1e6  # of a value of black or white
_ZIP = b"PK\x03\x04"


class RefusedError(Exception):
    """What was found in a bundle that is not taken; a text for the end of a sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """What ``network_data_format`` says of a network; None where it says nothing."""

    channels: int | None = None
    size: int | None = None
    range: tuple[float, float] | None = None
    output: str | None = None  # name of the only output
    kind: str | None = None  # scores or masks
    labels: tuple[str, ...] | None = None
    about: Mapping[str, str] | None = None  # texts of the metadata, by key


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A bundle that was read."""

    name: str
    format: Format
    network: str  # its name in the bundle
    content: bytes  # of the network
    place: Path | None  # of the network; None: in an archive
    licence: str | None
    unused: tuple[str, ...]  # what its configs would do, and nobody does: names of transforms
    preprocessing: Taken  # of its config for inference


def is_bundle(path: Path) -> bool:
    """Whether this is a folder, or an archive that is no TorchScript file."""
    if path.is_dir():
        return True
    if path.suffix.lower() != ".zip":
        return False
    with path.open("rb") as file:
        return file.read(len(_ZIP)) == _ZIP


def read(path: Path, *, metadata_only: bool = False) -> Bundle:
    """Read a bundle.

    Parameters
    ----------
    metadata_only
        Look at no other config: code in one is no reason then.

    Raises
    ------
    WeightsError
        If it is none, if a config holds code, or if its network is not one for a radiograph.
    """
    try:
        files: _Files = _Folder(path) if path.is_dir() else _Archive(path)
        metadata = files.read(METADATA, LONGEST_METADATA)
        found = format_of(metadata)
        unused: list[str] = []
        taken = Taken()
        if not metadata_only:
            for name in files.configs():
                content = files.read(name, _LONGEST_CONFIG)
                unused += _expect_data(name, content)
                if name == _INFERENCE and isinstance(config := _json(name, content), dict):
                    taken = preprocessing.read(config.get("preprocessing"))
        network = next((name for name in _NETWORKS if files.has(name)), None)
        if network is None:
            raise RefusedError(f"found no network: expected one of {', '.join(_NETWORKS)}")
        licence = _licence(files.read("LICENSE", LONGEST_METADATA)) if files.has("LICENSE") else None
        return Bundle(
            name=files.name,
            format=found,
            network=network,
            content=files.read(network, _LONGEST_NETWORK),
            place=files.place(network),
            licence=licence,
            unused=tuple(
                each for each in dict.fromkeys(unused) if each.rpartition(".")[2] not in ("Compose", *taken.done)
            ),
            preprocessing=taken,
        )
    except RefusedError as error:
        raise WeightsError(f"{path}: expected a MONAI bundle for radiographs, {error}; nothing of it ran") from error
    except ArchiveRefusedError as error:
        raise WeightsError(f"{path}: {error}; nothing of it ran") from error
    except DAMAGED as error:
        raise WeightsError(f"{path}: expected a MONAI bundle, found a damaged one ({type(error).__name__})") from error


def format_of(metadata: bytes) -> Format:
    """Read what the metadata of a bundle says of its network.

    Raises
    ------
    RefusedError
        If it is no JSON, holds code, or the network does not take one radiograph.
    """
    content = _json(METADATA, metadata)
    _expect_no_code(METADATA, content)
    formats = content.get("network_data_format") if isinstance(content, dict) else None
    if not isinstance(formats, dict):
        raise RefusedError("found metadata without network_data_format")
    inputs, outputs = formats.get("inputs"), formats.get("outputs")
    if not isinstance(inputs, dict) or len(inputs) != 1:
        raise RefusedError(f"found {len(inputs) if isinstance(inputs, dict) else 'no'} inputs, expected one")
    (given,) = inputs.values()
    given = given if isinstance(given, dict) else {}
    size = _size(given.get("spatial_shape"))
    if given.get("is_patch_data") is True:
        raise RefusedError("found a network of patches (is_patch_data), expected one that takes the whole image")
    channels = given.get("num_channels")
    if channels is not None and (type(channels) is not int or channels not in (1, 3)):
        raise RefusedError(f"found an input of {_short(channels)} channels, expected 1 or 3")
    name, output = next(iter(outputs.items())) if isinstance(outputs, dict) and len(outputs) == 1 else (None, {})
    output = output if isinstance(output, dict) else {}
    return Format(
        channels=channels,
        size=size,
        range=_range(given.get("value_range")),
        output=str(name) if name is not None else None,
        kind=_kind(output),
        labels=_labels(output),
        about={key: value for key, value in content.items() if isinstance(value, str)},
    )


# --- what the metadata says ----------------------------------------------------------------------


def _size(shape: Any) -> int | None:
    """Return rows and columns; None where they are a formula, as ``16*n`` or ``*``."""
    if not isinstance(shape, list):
        return None
    if len(shape) != 2:
        raise RefusedError(f"found a network of {len(shape)} dimensions ({_short(shape)}): a radiograph has two")
    rows, columns = (side if type(side) is int else None for side in shape)
    if rows and columns and rows != columns:
        raise RefusedError(f"found an input of {rows} x {columns}, expected a square")
    return rows if rows and columns else None


def _range(values: Any) -> tuple[float, float] | None:
    if not isinstance(values, list) or len(values) != 2 or not all(type(value) in (int, float) for value in values):
        return None
    low, high = values
    return (float(low), float(high)) if -_LARGEST < low < high < _LARGEST else None


def _kind(output: Mapping[str, Any]) -> str | None:
    words = {str(output.get("type")).lower(), str(output.get("format")).lower()}
    if words & {"classes", "probabilities", "classification", "labels"} and not words & {"segmentation"}:
        return "scores"
    return "masks" if "segmentation" in words else None


def _labels(output: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the channels in their order; None where one is missing."""
    named = output.get("channel_def")
    if not isinstance(named, dict) or not named:
        return None
    ordered = [named.get(str(number)) for number in range(len(named))]
    return tuple(map(str, ordered)) if all(isinstance(name, str) for name in ordered) else None


def _licence(content: bytes) -> str | None:
    text = content.decode("utf-8", "replace")
    if "Apache License" in text and "Version 2.0" in text:
        return "Apache-2.0"
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return first[:64] or None


# --- what the configs would do -------------------------------------------------------------------


def _json(name: str, content: bytes) -> Any:
    try:
        return json.loads(content)
    except RecursionError as error:
        raise RefusedError(f"found {name} nested without end") from error
    except ValueError as error:
        raise RefusedError(f"found {name} that is no JSON") from error


def _expect_no_code(name: str, content: Any) -> list[str]:
    """Refuse text that MONAI would evaluate; return the classes that it would make."""
    targets = []
    for key, value in _texts(content):
        if value.lstrip().startswith("$"):
            raise _code(name, value)
        if key == "_target_":
            targets.append(value)
    return targets


def _expect_data(name: str, content: bytes) -> list[str]:
    """Refuse a config with code; return the names of what it would make."""
    if name.endswith(".json"):
        return _plain(_expect_no_code(name, _json(name, content)))
    text = content.decode("utf-8", "replace")  # YAML is not parsed: that takes a library that nothing else here needs
    if found := _IN_YAML.search(text):
        raise _code(name, text[found.start() :].partition("\n")[0])
    return _plain(_TARGET.findall(text))


def _plain(targets: Sequence[str]) -> list[str]:
    return [target for target in targets if re.fullmatch(r"[\w.]{1,80}", target)]


def _code(name: str, text: str) -> RefusedError:
    return RefusedError(
        f"found code in {ascii(name)[1:-1]}: {_short(text)}; "
        "with --metadata-only its configs are left alone, and their metadata and network are taken"
    )


def _texts(content: Any) -> Iterator[tuple[str, str]]:
    """Yield every text with its key; the whole has a depth that JSON was read with."""
    waiting = [("", content)]
    while waiting:
        key, value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.items()
        elif isinstance(value, list):
            waiting += ((key, each) for each in value)
        elif isinstance(value, str):
            yield key, value


def _short(value: Any) -> str:
    return ascii(value)[:60]


# --- where it lies -------------------------------------------------------------------------------


class _Folder:
    """A bundle as a folder. Only names that we know are opened, and only plain files."""

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self.name = self._path.name

    def has(self, name: str) -> bool:
        return (self._path / name).is_file()

    def place(self, name: str) -> Path | None:
        return self._path / name

    def read(self, name: str, longest: int) -> bytes:
        path = self._path / name
        if not path.is_file():
            raise RefusedError(f"found no {name}")
        if not path.resolve().is_relative_to(self._path):
            raise RefusedError(f"found {name} that leads out of it")
        with path.open("rb") as file:
            content = file.read(longest + 1)
        return _bounded(name, content, longest)

    def configs(self) -> list[str]:
        found = (path.name for path in (self._path / "configs").iterdir())
        return _configs(f"configs/{name}" for name in found)


class _Archive:
    """A bundle as a ZIP archive, whose names are never paths here."""

    def __init__(self, path: Path) -> None:
        expect_small_directory(path, _MOST_MEMBERS)
        self._path = path
        with zipfile.ZipFile(path) as archive:
            names = [member.filename for member in archive.infolist()]
        if len(names) > _MOST_MEMBERS or len(set(names)) != len(names):
            raise RefusedError("found a name twice, or too many files")
        roots = [name.removesuffix(METADATA) for name in names if name == METADATA or name.endswith("/" + METADATA)]
        if len(roots) != 1:
            raise RefusedError(f"found {METADATA} {len(roots)} times")
        (self._root,) = roots
        self._names = {name.removeprefix(self._root) for name in names if name.startswith(self._root)}
        self.name = PurePosixPath(self._root).name or path.stem

    def has(self, name: str) -> bool:
        return name in self._names

    def place(self, name: str) -> Path | None:
        return None

    def read(self, name: str, longest: int) -> bytes:
        if name not in self._names:
            raise RefusedError(f"found no {name}")
        with zipfile.ZipFile(self._path) as archive:
            member = archive.getinfo(self._root + name)
            if member.flag_bits & 1 or member.compress_type not in METHODS:
                raise RefusedError(f"found {name} with a password, or packed in another way than deflated")
            longest = min(longest, max(LONGEST_METADATA, _MOST_RATIO * self._path.stat().st_size))
            with archive.open(member) as file:
                return _bounded(name, file.read(longest + 1), longest)

    def configs(self) -> list[str]:
        return _configs(name for name in self._names if name.startswith("configs/") and name.count("/") == 1)


_Files = _Folder | _Archive


def _configs(names: Iterator[str]) -> list[str]:
    found = sorted(name for name in names if name.lower().endswith(_SUFFIXES) and name != METADATA)
    if len(found) > _MOST_CONFIGS:
        raise RefusedError(f"found {len(found)} configs, expected at most {_MOST_CONFIGS}")
    return found


def _bounded(name: str, content: bytes, longest: int) -> bytes:
    if len(content) > longest:
        raise RefusedError(f"found {name} of more than {longest} bytes")
    return content
