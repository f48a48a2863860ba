"""What a TorchScript file says of itself: its weights and its graph, loaded as for a run, and not run."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from cxr_dicom.infer import torchscript

METADATA = "extra/metadata.json"  # where MONAI's `ckpt_export` puts that of the bundle
_LAST = {
    **dict.fromkeys(("aten::sigmoid", "aten::sigmoid_", "aten::hardsigmoid", "aten::hardsigmoid_"), "sigmoid"),
    "aten::softmax": "softmax",
    "aten::argmax": "labels",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """Of a program, which has no sizes."""

    channels: int | None  # by its first convolution; None where it has none of 1 or 3
    ends_in: dict[str, str | None]  # of each output: sigmoid, softmax, labels (argmax), or none of them
    metadata: bytes | None  # of a MONAI bundle, as it stands in the file


def look(content: bytes, path: Path, longest: int) -> Look:
    """Look into the bytes of a file.

    Parameters
    ----------
    path
        Only its name, for errors.
    longest
        Of the metadata that is taken, in bytes.

    Raises
    ------
    WeightsError
        As `torchscript.read`.
    """
    network = torchscript.load(content, path, "cpu")
    first = next((weight for _, weight in network.named_parameters() if weight.ndim == 4), None)
    return Look(
        channels=first.shape[1] if first is not None and first.shape[1] in (1, 3) else None,
        ends_in={name: _LAST.get(end) for name, end in torchscript.ends(network).items()},
        metadata=_metadata(content, longest),
    )


def _metadata(content: bytes, longest: int) -> bytes | None:
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = [name for name in archive.namelist() if name.endswith("/" + METADATA)]
            if len(names) != 1:
                return None
            with archive.open(names[0]) as file:
                found = file.read(longest + 1)
    except Exception:  # torch read it, and Python does not: then it says nothing
        return None
    return found if len(found) <= longest else None
