"""A worker of a run: where it is, what it has, and what became of it."""

from __future__ import annotations

import platform
import re
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from cxr_dicom import __version__

_LIBRARIES = ("torch", "torchxrayvision", "pydicom", "highdicom", "numpy", "openvino", "onnxruntime")

Model = tuple[str, str, str | None]  # name, version, SHA-256 of the weights
Models = tuple[Model, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Worker:
    """A worker: where it is, what it has, and what became of it."""

    host: str
    node: str = ""  # as the engine knows the machine, where names may be given twice
    processor: str = ""
    instruction_set: str = ""  # the widest that the networks use: AVX512, AVX2, ...
    versions: Mapping[str, str] = field(default_factory=dict)  # of this package and of the libraries that make results
    models: Models = ()  # as loaded
    token: str = ""  # what it found in the file that the parent wrote
    proof: str = ""  # name of the file that it wrote for the parent, and what stands in it
    unseen: tuple[int, ...] = ()  # files of the input that it does not find as the parent does, by number
    missing: tuple[str, ...] = ()  # files of the settings and of credentials that it lacks, by what names them
    refused: str = ""  # why it may not work here, or no longer; empty while it may


def this_machine(models: Models = ()) -> Worker:
    """Describe the machine of this process."""
    return Worker(
        host=socket.gethostname(),
        processor=_processor(),
        instruction_set=_instruction_set(),
        models=models,
    )


def versions() -> dict[str, str]:
    """Return the versions of this package and of the libraries that make results."""
    found = {"cxr-dicom": __version__, "python": ".".join(platform.python_version_tuple()[:2])}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("model name", "Processor", "CPU part"):
                return " ".join(value.split())
    return platform.processor() or platform.machine()


def _instruction_set() -> str:
    """Return what PyTorch uses, where it is loaded; else what the processor has."""
    if torch := sys.modules.get("torch"):
        return str(torch.backends.cpu.get_cpu_capability())
    with suppress(OSError):
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
        words = flags[1].split() if flags else []
        return next((said for said, flag in (("AVX512", "avx512f"), ("AVX2", "avx2")) if flag in words), "DEFAULT")
    return ""
