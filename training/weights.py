"""Write the weights file that ships in the package."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file

from cxr_dicom.infer.offline.unet import LABELS, CompactUNet

NAME = "offline-anatomy"
VERSION = "1.0.0"


def export(network: CompactUNet, path: Path, size: int) -> None:
    """Store a network in half precision with what is needed to build it again.

    Parameters
    ----------
    network : CompactUNet
    path : Path
        Ends in ``.safetensors``.
    size : int
        Edge in pixels of the square input that the network was trained for.
    """
    tensors = {
        name: (t.half() if t.is_floating_point() else t).detach().clone().contiguous()
        for name, t in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    save_file(
        tensors,
        path,
        metadata={
            "name": NAME,
            "version": VERSION,
            "labels": json.dumps(list(LABELS)),
            "input_size": str(size),
            "architecture": json.dumps(network.arguments),
            "licence": "Apache-2.0",
        },
    )
