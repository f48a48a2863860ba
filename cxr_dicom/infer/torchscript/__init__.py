"""TorchScript files, loaded only if their program does nothing but compute with tensors.

A TorchScript file is a program, whose language can write files, and parts of it run while it is loaded: default
arguments, constants of classes, ``__setstate__``. So it is looked at twice, against one closed list of operators:

1. Before it is loaded, its text is parsed. It must be in the part of the language that ``torch.jit.save`` writes, in
   characters that Python's parser and torch's read alike, with nothing to run at load time. Its pickles may name only
   tensors and its own classes.
2. When it is loaded, and before anything of it runs, the graphs that torch compiled from it decide: every operator of
   every method of every module.

Behind both stands a process without network and writable paths for files of `[[models.own]]`, see `infer.own.apart`.
It is not the first wall, for not every platform can build such a process.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_dicom.dicom.private_parts import torchscript_content, torchscript_graphs, torchscript_size
from cxr_dicom.errors import WeightsError
from cxr_dicom.infer import weights
from cxr_dicom.infer.torchscript import pickles, syntax
from cxr_dicom.infer.torchscript.operators import KINDS

if TYPE_CHECKING:
    import torch

    from cxr_dicom.records import ModelInfo

_ZIP_START = b"PK\x03\x04"  # of any other file torch chooses the loader by its first bytes
_SAME_NUMBERS = {f"aten::{name}" for name in ("flatten", "view", "reshape", "squeeze", "unsqueeze", "to", "contiguous")}
_SQUASHING = {f"aten::{name}" for name in ("sigmoid", "sigmoid_", "softmax", "hardsigmoid", "hardsigmoid_")}
_OF_TORCH = (RuntimeError, LookupError, ValueError, TypeError, ArithmeticError)  # what pybind11 makes of those of C++
_LONGEST_CODE = 16 << 20  # bytes; that of the largest upstream file is 0.4 MB
_MOST_UNPACKED = 64 << 20  # bytes, that the records may have more than the file: only code and its places are packed


def read(path: Path, device: str, info: ModelInfo | None = None) -> torch.jit.ScriptModule:
    """Load a TorchScript file; torch gets the bytes that were looked at, whatever happens to the file meanwhile.

    Parameters
    ----------
    info
        Of the model, with the digest that the bytes must have; None: any.

    Raises
    ------
    WeightsError
        If it is damaged, another one, or holds anything but tensor operations.
    """
    content = path.read_bytes()
    if info is not None:
        weights.expect_same(content, info, path)
    return load(content, path, device)


def load(content: bytes, path: Path, device: str) -> torch.jit.ScriptModule:
    """Load the bytes of a file; ``path`` is for errors. See `read`."""
    import torch

    try:
        _expect_harmless(path, content)
        network: torch.jit.ScriptModule = torch.jit.load(BytesIO(content), map_location=device)  # type: ignore[no-untyped-call]
    except (*_OF_TORCH, pickles.DamagedPickleError) as error:
        raise WeightsError(
            f"{path}: expected a complete TorchScript file, found a damaged or truncated one "
            f"({type(error).__name__}); delete it and fetch it again"
        ) from error
    if refused := {node for graph in torchscript_graphs(network) for node in graph} - KINDS:
        raise _refusal(path, f"found {', '.join(sorted(refused))} in its graph")
    return network.eval()


def squashed(network: torch.jit.ScriptModule) -> dict[str, str]:
    """Name the outputs that are seen to be probabilities already, as names or numbers, and what made them so."""
    return {name: end for name, end in ends(network).items() if end in _SQUASHING}


def ends(network: torch.jit.ScriptModule) -> dict[str, str]:
    """Name the outputs, as names or numbers, and the operator that makes each, behind all that leaves its numbers."""
    found: dict[str, str] = {}
    for value in network.inlined_graph.outputs():
        node = value.node()
        given = list(node.inputs())
        if node.kind() == "prim::DictConstruct":
            named = {str(name.toIValue()): each for name, each in zip(given[::2], given[1::2], strict=True)}
        elif node.kind() in ("prim::TupleConstruct", "prim::ListConstruct"):
            named = {str(number): each for number, each in enumerate(given)}
        else:
            named = {"0": value}
        for name, each in named.items():
            maker = each.node()
            while maker.kind() in _SAME_NUMBERS:
                maker = next(iter(maker.inputs())).node()
            found[name] = str(maker.kind())
    return found


def _expect_harmless(path: Path, content: bytes) -> None:
    """Look at all of a file that torch would read, and run nothing."""
    start = content[: len(_ZIP_START)]
    if (more := torchscript_size(content) - len(content)) > _MOST_UNPACKED:
        raise _refusal(path, f"found {more} bytes more in its records than in the file")
    names, records = torchscript_content(content)
    codes = {name: content for name, content in records.items() if name.endswith(".py")}
    if start != _ZIP_START or not codes or "constants.pkl" not in records or "data.pkl" not in records:
        raise WeightsError(f"{path}: expected a TorchScript file, found one without code or constants")
    if "model.json" in names or len(set(names)) != len(names):
        raise _refusal(path, "found a second model in it")
    if (size := sum(map(len, codes.values()))) > _LONGEST_CODE:
        raise _refusal(path, f"found {size} bytes of code")
    try:
        program = syntax.Program({name: content.decode() for name, content in codes.items()})
        program.check()
        for name in sorted(records.keys() - codes.keys()):
            pickles.check(records[name], program.classes)
    except syntax.RefusedError as error:
        raise _refusal(path, str(error)) from error


def _refusal(path: Path, found: str) -> WeightsError:
    return WeightsError(
        f"{path}: expected nothing but tensor operations, {found}; nothing of it ran; delete it and fetch it again "
        "from its source"
    )
