"""What a file says of itself, for a table of ``[[models.own]]``: looked into by the checks of a run, and not run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from cxr_dicom.config.own import FILES
from cxr_dicom.errors import SettingsError, WeightsError, how_to_install
from cxr_dicom.infer.findings import FINDINGS
from cxr_dicom.infer.own import architectures, bundle, tensors
from cxr_dicom.system.digest import sha256

LARGEST_FILE = (1 << 31) - 1  # bytes
_MOST_OUTPUTS = 64
_MOST_NAMED = 12  # transforms
_LABELS = ("labels", "names", "classes", "class_names", "targets")  # keys of metadata_props, as exporters write them
_LICENCES, _AUTHORS, _TITLES = ("licence", "license"), ("author", "authors"), ("title", "task", "name", "description")
_OF_PYTHON = re.compile(r"""(\d{1,4})\s*:\s*['"]([^'"]{0,80})['"]""")
_BACKGROUND = ("background", "bg", "unused", "ignore")
_FROM_CHECKPOINT = "; a checkpoint of weights alone is no network: write it by `python -m monai.bundle ckpt_export`"


@dataclass(frozen=True, kw_only=True, slots=True)
class Output:
    """An output of a network."""

    name: str
    ends_in: str | None  # sigmoid, softmax, labels; None: none of them
    shape: tuple[int | None, ...] | None  # None: not known

    @property
    def is_map(self) -> bool | None:
        """Whether it gives maps; None: not known."""
        if self.shape is None:
            return None
        return len(self.shape) > 2 and any(side is None or side > 1 for side in self.shape[2:])

    @property
    def count(self) -> int | None:
        """Its labels; None: not known."""
        if self.shape is None or self.ends_in == "labels" or len(self.shape) < 2:
            return None
        return self.shape[1] if self.is_map is False or len(self.shape) == 4 else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of a file; None: it does not say."""

    network: str  # its file name
    content: bytes
    place: Path | None  # where it lies; None: in an archive
    format: str  # for people
    sha256: str
    outputs: tuple[Output, ...]
    name: str
    channels: int | None = None
    size: int | None = None
    architecture: str | None = None
    range: tuple[float, float] | None = None
    kind: str | None = None
    labels: tuple[str, ...] | None = None
    licence: str | None = None
    citation: str | None = None
    title: str | None = None
    output: str | None = None  # the only one that is meant
    input: Mapping[str, object] = field(
        default_factory=dict
    )  # keys of the table besides, from a bundle's preprocessing
    notes: tuple[str, ...] = ()  # what a person has to know


def look(
    path: Path,
    *,
    channels: int | None = None,
    size: int | None = None,
    architecture: str | None = None,
    metadata_only: bool = False,
) -> Facts:
    """Look into a file, or a bundle.

    Parameters
    ----------
    channels, size, architecture
        What a person says of it; used where the file leaves it open.
    metadata_only
        Of a bundle, leave all configs alone but its metadata.

    Raises
    ------
    WeightsError
        If it is none that may run.
    SettingsError
        If nothing is installed that reads it.
    """
    if not path.exists():
        raise WeightsError(f"{path}: expected a file, found none")
    if bundle.is_bundle(path):
        found = bundle.read(path, metadata_only=metadata_only)
        form = found.format
        content, place, suffix = found.content, found.place, Path(found.network).suffix
        network = f"{_key(found.name, '-') or 'model'}{suffix}" if place is None else Path(found.network).name
        name, notes = found.name, _notes(found)
    else:
        if not path.is_file() or path.suffix.lower() not in FILES:
            raise WeightsError(f"{path}: expected a file that ends in {', '.join(FILES)}, or a MONAI bundle")
        if (length := path.stat().st_size) > LARGEST_FILE:
            raise WeightsError(f"{path}: expected at most {LARGEST_FILE} bytes, found {length}")
        form, content, place, network = None, path.read_bytes(), path.absolute(), path.name
        found, name, notes, suffix = None, path.stem, (), path.suffix
    seen = _Seen(path if found is None else path / found.network, content)
    match suffix.lower():
        case ".onnx":
            looked = seen.onnx(channels or (form.channels if form else None), size or (form.size if form else None))
        case ".safetensors":
            looked = seen.tensors(architecture)
        case _:
            looked = seen.torchscript(is_of_bundle=found is not None)
    if not 1 <= len(looked.outputs) <= _MOST_OUTPUTS:
        raise WeightsError(f"{path}: expected 1 to {_MOST_OUTPUTS} outputs, found {len(looked.outputs)}")
    form = form or looked.form or bundle.Format()
    given, conflicts = _prepared(found, looked, form)
    about = {**looked.properties, **(form.about or {})}
    return Facts(
        network=network,
        content=content,
        place=place,
        format="MONAI bundle, " * (found is not None) + looked.format,
        sha256=sha256(BytesIO(content)),
        outputs=looked.outputs,
        name=_key(name, "-") or "mine",
        channels=looked.channels or form.channels or channels,
        size=looked.size or given.pop("size", form.size) or size,
        architecture=looked.architecture,
        range=given.pop("range", form.range),
        kind=looked.kind or form.kind,
        labels=form.labels or _labels(looked.properties),
        licence=(found.licence if found else None) or _first(about, _LICENCES),
        citation=_first(about, ("citation", "references", *_AUTHORS)),
        title=_first(about, _TITLES),
        output=form.output if form.output in [each.name for each in looked.outputs] else None,
        input=given,
        notes=(*notes, *conflicts),
    )


def label_key(text: str) -> str:
    """Make the name of a label of what a file calls it; of a finding that we know, our name; of a background none."""
    if text in FINDINGS:
        return FINDINGS[text].name
    key = _key(text, "_")
    return "" if key in _BACKGROUND else key


def is_background(text: str) -> bool:
    """Whether a label says that it is of nothing."""
    return not text.strip() or _key(text, "_") in _BACKGROUND


# --- the formats ---------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Looked:
    format: str
    outputs: tuple[Output, ...]
    properties: Mapping[str, str]
    channels: int | None = None
    size: int | None = None
    architecture: str | None = None
    kind: str | None = None
    form: bundle.Format | None = None


@dataclass(frozen=True, slots=True)
class _Seen:
    path: Path  # for errors
    content: bytes

    def onnx(self, channels: int | None, size: int | None) -> _Looked:
        try:
            from cxr_dicom.infer.onnx import look as onnx_look
            from cxr_dicom.infer.onnx.refusal import RefusedError
        except ImportError as error:
            raise SettingsError(f"{self.path}: onnx is not installed; {how_to_install('onnx')}") from error
        try:
            found = onnx_look.look(self.content, channels, size)
        except RefusedError as error:
            text = f"{self.path}: expected a network of standard operators, {error}; nothing of it ran"
            raise WeightsError(text) from error
        outputs = (Output(name=n, ends_in=found.ends_in[n], shape=found.shapes.get(n)) for n in found.outputs)
        return _Looked(
            format="ONNX",
            outputs=tuple(outputs),
            properties=found.properties,
            channels=found.channels,
            size=found.size,
            kind="boxes" if found.grows else None,  # nothing else may be of a size that is not known beforehand
        )

    def torchscript(self, *, is_of_bundle: bool) -> _Looked:
        from cxr_dicom.infer.torchscript import look as torchscript_look

        try:
            found = torchscript_look.look(self.content, self.path, bundle.LONGEST_METADATA)
            form = bundle.format_of(found.metadata) if found.metadata else None
        except WeightsError as error:
            raise WeightsError(f"{error}{_FROM_CHECKPOINT if is_of_bundle else ''}") from error
        except bundle.RefusedError as error:
            raise WeightsError(
                f"{self.path}: expected a network for radiographs, {error}; nothing of it ran"
            ) from error
        outputs = (Output(name=name, ends_in=end, shape=None) for name, end in found.ends_in.items())
        return _Looked(format="TorchScript", outputs=tuple(outputs), properties={}, channels=found.channels, form=form)

    def tensors(self, architecture: str | None) -> _Looked:
        try:
            read = tensors.header(self.content)
            chosen = architecture or architectures.guess(read)
            if chosen is None:
                raise tensors.RefusedError(
                    f"found another architecture: {', '.join(list(read.shapes)[:2])!a:.120}"
                    f"; expected one of {', '.join(architectures.ALL)}"
                )
            found = architectures.look(self.content, chosen)
        except tensors.RefusedError as error:
            raise WeightsError(
                f"{self.path}: expected the weights of {architecture or 'a network'}, {error}"
            ) from error
        shape: tuple[int | None, ...] = (1, found.outputs, *([None, None] if found.gives == "masks" else []))
        return _Looked(
            format=f"safetensors, {chosen}",
            outputs=(Output(name="0", ends_in=None, shape=shape),),
            properties=read.metadata,
            channels=found.channels,
            architecture=chosen,
            kind="masks" if found.gives == "masks" else None,
        )


# --- words ---------------------------------------------------------------------------------------


def _notes(found: bundle.Bundle) -> tuple[str, ...]:
    notes = []
    if found.preprocessing.done:
        notes.append(f"taken over of its preprocessing: {', '.join(found.preprocessing.done[:_MOST_NAMED])}")
    if found.unused:
        names = ", ".join(found.unused[:_MOST_NAMED])
        how = "say what preprocessing does by --fit, --resize, --intensity"
        notes.append(f"its configs would make {names}: nothing is made; {how}")
    if "transposed" not in found.preprocessing.input:
        notes.append("MONAI reads pictures with columns before rows: --transposed, if it was trained on such")
    return tuple(notes)


def _prepared(
    found: bundle.Bundle | None, looked: _Looked, form: bundle.Format
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what preprocessing says of the input, without that in which network or metadata contradict it."""
    given = dict(found.preprocessing.input) if found else {}
    ranges = None if "mean" in given else form.range  # that of the metadata is of what the network gets
    told: dict[str, Any] = {
        "size": looked.size or form.size,
        "channels": looked.channels or form.channels,
        "range": ranges,
    }
    conflicts = []
    for key, other in told.items():
        said = given.get(key)
        if said is not None and other is not None and said != other:
            conflicts.append(f"its preprocessing makes {key} {said}, the network or its metadata say {other}")
            del given[key]
    given.pop("channels", None)
    if not given.get("transposed"):
        given.pop("transposed", None)
    return given, tuple(conflicts)


def _key(text: str, joint: str) -> str:
    """Lower case letters and digits, joined; empty where nothing is left that begins with a letter."""
    key = re.sub(r"[^a-z0-9]+", joint, text.lower()[:200]).strip(joint)[:64].strip(joint)
    return key if key[:1].isalpha() else ""


def _first(about: Mapping[str, str], keys: Iterable[str]) -> str | None:
    """Return the first text of these keys that one line of an object can hold."""
    lower = {key.lower(): value for key, value in about.items()}
    for key in keys:
        text = " ".join(lower.get(key, "").split()).replace("\\", "/")
        if text and text.isprintable():
            return text[:200]
    return None


def _labels(properties: Mapping[str, str]) -> tuple[str, ...] | None:
    """Read the labels that an exporter left: a list, or a mapping of numbers, in JSON or as Python writes it."""
    lower = {key.lower(): value for key, value in properties.items()}
    for text in filter(None, (lower.get(key) for key in _LABELS)):
        found = _literal(text)
        if isinstance(found, dict):
            found = [found.get(str(number)) for number in range(len(found))]
        if isinstance(found, list) and found and all(isinstance(each, str) for each in found):
            return tuple(found)
    return None


def _literal(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if pairs := _OF_PYTHON.findall(text):  # a dictionary of Python, which is not evaluated
        return dict(pairs)
    return [part.strip() for part in text.split(",")] if "," in text and text.isprintable() else None
