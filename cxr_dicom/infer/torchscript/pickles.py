"""The pickles of a TorchScript file: tensors, numbers, and objects of the classes of its code. Nothing is unpickled."""

from __future__ import annotations

import pickletools
from collections.abc import Collection

from cxr_dicom.infer.torchscript.syntax import RefusedError

_KNOWN = {
    ("collections", "OrderedDict"),
    ("torch._utils", "_rebuild_tensor_v2"),
    *(("torch.jit._pickle", name) for name in ("build_boollist", "build_doublelist", "build_intlist")),
    *(("torch.jit._pickle", name) for name in ("build_tensorlist", "restore_type_tag")),
}
_OTHER_NAMES = ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4")  # ways to name a class that torch does not write
_NUMBERING = ("PUT", "BINPUT", "LONG_BINPUT")


class DamagedPickleError(Exception):
    """A pickle ends too early, or is none."""


def check(content: bytes, classes: Collection[str]) -> None:
    """Refuse a pickle that names anything but tensors and ``classes``.

    Raises
    ------
    RefusedError
        Naming it.
    DamagedPickleError
        If it cannot be read.
    """
    try:
        for count, (code, argument, _) in enumerate(pickletools.genops(content)):
            if code.name in _OTHER_NAMES:
                raise RefusedError(f"found {code.name} in a pickle")
            if code.name in _NUMBERING and (argument or 0) > count:  # torch reserves memory for all numbers up to it
                raise RefusedError(f"found object number {argument} among {count} objects in a pickle")
            if code.name == "GLOBAL":
                _expect_known(str(argument), classes)
    except (ValueError, IndexError) as error:
        raise DamagedPickleError(str(error)) from error


def _expect_known(named: str, classes: Collection[str]) -> None:
    module, _, name = named.partition(" ")
    is_storage = module == "torch" and name.endswith("Storage") and name.isalpha()
    if not (is_storage or (module, name) in _KNOWN or f"{module}.{name}" in classes):
        raise RefusedError(f"found {module}.{name} in a pickle")
