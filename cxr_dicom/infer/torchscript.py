"""TorchScript files, loaded only if their program does nothing but compute.

A TorchScript file is no pickle of Python, but it is a program, and its language can reach files.
So its text is read first, by the reader that loads it, and every call in it must be on a list of
tensor operations.
"""

from __future__ import annotations

import re
from keyword import kwlist
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_dicom.dicom.private_parts import torchscript_sources
from cxr_dicom.errors import WeightsError

if TYPE_CHECKING:
    import torch

_CALL = re.compile(r"(\w+)\s*\(")
_CLASS = re.compile(r"^class \w+\(Module\):$", re.MULTILINE)
_METHOD = re.compile(r"forward\d*")  # tracing writes no other

_OPERATIONS = """
    _convolution adaptive_avg_pool2d adaptive_max_pool2d add add_ addmm annotate avg_pool2d batch_norm cat clamp
    contiguous conv2d detach div div_ dropout expand expand_as feature_dropout flatten floor_divide getattr
    hardtanh_ Int int linear log_softmax matmul max_pool2d mean mul mul_ NumToTensor permute relu relu_ reshape
    sigmoid sigmoid_ size softmax squeeze sub t transpose unsqueeze view
"""


def read(path: Path, device: str) -> torch.jit.ScriptModule:
    """Load a TorchScript file.

    Raises
    ------
    WeightsError
        If it is damaged, or calls anything but tensor operations.
    """
    import torch

    try:
        sources = torchscript_sources(path)
        refused = {call for code in sources.values() for call in _calls(code)}
        if not sources:
            raise WeightsError(f"{path}: expected a TorchScript file, found one without code")
        if refused:
            raise WeightsError(
                f"{path}: expected nothing but tensor operations, found calls of {', '.join(sorted(refused))}; it was "
                "not loaded; delete it and fetch it again from its source"
            )
        network: torch.jit.ScriptModule = torch.jit.load(str(path), map_location=device)  # type: ignore[no-untyped-call]
        return network.eval()
    except (RuntimeError, UnicodeDecodeError) as error:
        raise WeightsError(
            f"{path}: expected a complete TorchScript file, found a damaged or truncated one "
            f"({type(error).__name__}); delete it and fetch it again"
        ) from error


def _calls(code: str) -> set[str]:
    """Names that ``code`` calls and that are not on the list."""
    found = set(_CALL.findall(_CLASS.sub("", code))) - set(_OPERATIONS.split()) - set(kwlist)
    return {name for name in found if not _METHOD.fullmatch(name)}
