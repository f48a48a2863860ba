"""Private parts of libraries that we rely on, each in a function of its own.

What is not here, because it is a class that ours derive from: pynetdicom's reactor, in ``system/requestor.py`` and in
``server.py``, ``connection.py``, ``upper_layer.py`` and ``dimse.py`` of ``ingest/``. What we expect of each part, and
which file would have to change with the library, says ``tests/dicom/test_private_parts.py``. Libraries are imported
when a function is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import torch
    from pydicom.dataset import FileMetaDataset
    from pynetdicom.association import Association


def read_file_meta_info(file: BinaryIO) -> FileMetaDataset:
    """Read the file meta information that begins where ``file`` stands, and leave it at the data set.

    pydicom has it public by path only (``pydicom.filereader.read_file_meta_info``).
    """
    from pydicom.filereader import _read_file_meta_info

    return _read_file_meta_info(file)


def send_files_byte_for_byte() -> None:
    """Let ``pynetdicom.Association.send_c_store`` send the data set of a file as it lies there, in pieces.

    By itself it decodes the file and encodes it again, in memory. The switch is documented, but its module is private.
    """
    from pynetdicom import _config

    _config.STORE_SEND_CHUNKED_DATASET = True


def take_both_roles(opened: Association, sop_classes: Iterable[str]) -> None:
    """Let an association receive what it asked to receive, though the peer did not answer the role selection.

    By PS3.7 D.3.3.4 the default roles hold then, and pynetdicom refuses the sub-operations of a C-GET. Archives that
    do not answer send all the same, and DCMTK takes it.
    """
    wanted = set(sop_classes)
    for context in opened.accepted_contexts:
        if context.abstract_syntax in wanted:
            context._as_scp = True


def anatomy_state(checkpoint: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Rename and choose the tensors of a CXAS checkpoint as TorchXRayVision does when it loads one."""
    from torchxrayvision.baseline_models import chestx_anatomy

    renamed: dict[str, torch.Tensor] = chestx_anatomy._remap_state_dict_keys(
        chestx_anatomy._extract_state_dict(checkpoint)
    )
    return renamed


def anatomy_logits(network: Any, pixels: torch.Tensor) -> torch.Tensor:
    """Run TorchXRayVision's CXAS network on pixels that are normalised already; its ``forward`` does so once more.

    Parameters
    ----------
    pixels
        (1, 3, rows, columns) float32, normalised as for ImageNet.

    Returns
    -------
    Tensor
        (1, structures, rows, columns), before the sigmoid.
    """
    found: torch.Tensor = network._forward(pixels)["logits"]
    return found


def torchscript_content(content: bytes) -> tuple[list[str], dict[str, bytes]]:
    """Return the names of all records of a TorchScript file, and its code and pickles, as torch reads them.

    Of pickles all: where its code came from, in ``.debug_pkl``, is unpickled as soon as an error or a graph says it.

    Raises
    ------
    RuntimeError
        If it is damaged.
    """
    import torch

    reader = torch._C.PyTorchFileReader(BytesIO(content))
    names = list(reader.get_all_records())
    wanted = [name for name in names if name.endswith("pkl") or (name.startswith("code/") and name.endswith(".py"))]
    return names, {name: reader.get_record(name) for name in wanted}


def torchscript_size(content: bytes) -> int:
    """Return the bytes of all records of a TorchScript file as they are unpacked, by its own directory.

    Raises
    ------
    RuntimeError
        If it is damaged.
    """
    import torch

    reader = torch._C.PyTorchFileReader(BytesIO(content))
    return sum(map(reader.get_record_size, reader.get_all_records()))


def torchscript_graphs(network: torch.jit.ScriptModule) -> Iterator[Iterator[str]]:
    """Yield the kinds of the operators in the compiled graph of every method and hook of every module.

    Calls of other methods and functions are put in place of the call; one that is left can be of anything.
    """
    import torch

    for module in network.modules():
        compiled: Any = module._c  # all of them are script modules
        hooks = [*compiled._get_forward_hooks(), *compiled._get_forward_pre_hooks()]
        for method in [*map(compiled._get_method, compiled._method_names()), *hooks]:
            graph = method.graph.copy()
            torch._C._jit_pass_inline(graph)
            yield _kinds(graph)


def _kinds(graph: torch.Graph) -> Iterator[str]:
    """Yield the kind of every node, of those inside of others too."""
    waiting = list(graph.nodes())
    while waiting:
        node = waiting.pop()
        yield node.kind()
        for block in node.blocks():
            waiting += block.nodes()
        for name in node.attributeNames():
            if node.kindOf(name) == "g":
                waiting += node.g(name).nodes()
            elif node.kindOf(name) == "gs":
                yield "prim::graphs"  # nothing that is loaded from a file has them


def operator_names() -> set[str]:
    """Return the names of all operators that torch knows, without their namespace."""
    import torch

    return {schema.name.partition("::")[2] for schema in torch._C._jit_get_all_schemas()}


def forget_model_bytes(session: Any) -> None:
    """Let an ``onnxruntime.InferenceSession`` drop its copy of the file, which it keeps to start itself again."""
    session.disable_fallback()  # then it never does
    session._model_bytes = b""
