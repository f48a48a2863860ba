"""Upstream weight files, read without running what is in them.

A pickle is a program. Files in torch's zip format go through torch's restricted loader. It refuses
the whole modules that torch wrote before version 1.6, which the DenseNet weights are, so those go
through an unpickler of the same kind here. In both, a class outside of `_DATA` is either on the
named list `_INERT`, and then an empty stand-in takes its place, or the file is refused.
"""

from __future__ import annotations

import pickle
import tarfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

from cxr_dicom.errors import WeightsError
from cxr_dicom.system.words import printable

if TYPE_CHECKING:
    import torch

State = Mapping[str, "torch.Tensor"]

_NAMED, _SHOWN = 3, 100  # names in an error, and characters of each
ZIP_MAGIC = b"PK\x03\x04"  # what torch.load itself decides on

_INERT = (  # modules whose classes occur in upstream files and hold nothing that is needed
    "__main__",
    "_codecs",
    "argparse",
    "lightning",
    "lightning_fabric",
    "main",
    "numpy",
    "omegaconf",
    "pathlib",
    "pytorch_lightning",
    "taming",
    "torch.nn.backends",
    "torch.nn.modules",
    "torchvision.models",
    "torchxrayvision.models",
    "typing",
)

_DATA = {  # all that a tensor is made of
    ("__builtin__", "set"),
    ("builtins", "set"),
    ("collections", "OrderedDict"),
    ("torch", "Size"),
    ("torch._utils", "_rebuild_parameter"),
    ("torch._utils", "_rebuild_tensor"),
    ("torch._utils", "_rebuild_tensor_v2"),
}


class Inert:
    """Stands in for a class of `_INERT`: takes anything, keeps its state, does nothing."""

    dump_patches = False  # asked by torch of every class in a file older than 1.6

    def __new__(cls, *args: object, **kwargs: object) -> Inert:
        """Make an empty one."""
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Take anything."""

    def __setstate__(self, state: object) -> None:
        """Keep the attributes of a module."""
        if isinstance(state, dict):
            self.__dict__.update(state)


def read_state(path: Path) -> State:
    """Return the tensors of an upstream file, by name.

    Raises
    ------
    WeightsError
        As `read` and `state_of`.
    """
    with path.open("rb") as file:
        return state_of(read(file, path.name))


def read(file: BinaryIO, name: str) -> Any:
    """Return what an upstream file called ``name`` holds: tensors in containers, and stand-ins.

    Raises
    ------
    WeightsError
        If the file is damaged, is not a pickle of torch, or names a class that is not allowed.
    """
    magic = file.read(len(ZIP_MAGIC))
    file.seek(0)
    try:
        return _read_zip(file) if magic == ZIP_MAGIC else _read_legacy(file)
    except WeightsError as error:
        raise WeightsError(f"{name}: {error}") from error
    except Exception as error:  # any damage: torch raises a dozen kinds
        raise WeightsError(
            f"{name}: expected a complete weight file of torch, found a damaged or truncated one "
            f"({type(error).__name__}); delete it and fetch it again"
        ) from error


def state_of(content: Any) -> State:
    """Return the tensors of a state dict, of a checkpoint that holds one, or of a whole module.

    Raises
    ------
    WeightsError
        If there are none.
    """
    import torch

    if isinstance(content, Inert):
        content = dict(_tensors(content, ""))
    for key in ("state_dict", "model_state", "model", "model_state_dict", "network", "net"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    items = content.items() if isinstance(content, Mapping) else ()
    tensors = {key: value.detach() for key, value in items if isinstance(key, str) and isinstance(value, torch.Tensor)}
    if not tensors:
        raise WeightsError(f"expected tensors by name, found {type(content).__name__}")
    return tensors


def _tensors(module: Inert, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the parameters and buffers of a stand-in for a module, named as ``state_dict()`` does."""
    for kind in ("_parameters", "_buffers"):
        for name, tensor in _named(module, kind):
            yield prefix + name, tensor
    for name, child in _named(module, "_modules"):
        if isinstance(child, Inert):
            yield from _tensors(child, f"{prefix}{name}.")


def _named(module: Inert, kind: str) -> Iterable[tuple[str, Any]]:
    found = vars(module).get(kind)
    return found.items() if isinstance(found, Mapping) else ()


def _is_inert(module: str) -> bool:
    return any(module == known or module.startswith(known + ".") for known in _INERT)


def _refuse(names: Iterable[str]) -> WeightsError:
    some = ", ".join(printable(name[:_SHOWN]) for name in sorted(names)[:_NAMED])
    return WeightsError(
        f"expected tensors and known classes, found {some}: a file that names it could run code, "
        "so it was not opened further; delete it and fetch it again from its source"
    )


def _read_zip(file: BinaryIO) -> Any:
    import torch

    names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    if refused := [name for name in names if not _is_inert(name.rpartition(".")[0])]:
        raise _refuse(refused)
    file.seek(0)
    with torch.serialization.safe_globals([(Inert, name) for name in names]):
        return torch.load(file, map_location="cpu", weights_only=True)


def _read_legacy(file: BinaryIO) -> Any:
    import torch

    if tarfile.is_tarfile(file):
        raise WeightsError("expected a file of torch 0.1.10 or later, found a tar archive")
    file.seek(0)
    restricted = SimpleNamespace(
        __name__="restricted", Unpickler=_Unpickler, load=lambda file, **options: _Unpickler(file, **options).load()
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the source code that such files carry differs, and is not used
        return torch.load(file, map_location="cpu", weights_only=False, pickle_module=restricted)


class _Unpickler(pickle._Unpickler):
    """Finds nothing but `_DATA` and stand-ins, in no more memory than the file gives reason for.

    The unpickler in C takes 4 GB for the highest number of an object in a file of nine bytes; this one, in Python,
    keeps objects in a dict. Byte arrays would be made as long as a file says; torch writes none.
    """

    dispatch: ClassVar = {
        code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _DATA:
            return super().find_class(module, name)
        if _is_inert(module):
            return Inert
        raise _refuse([f"{module}.{name}"])
