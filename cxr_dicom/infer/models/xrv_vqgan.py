"""``xrv-vqgan*``: reconstruction error of the VQGAN autoencoders of TorchXRayVision."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_dicom.config import Settings
from cxr_dicom.infer import weights
from cxr_dicom.infer.autoencoder import Autoencoder
from cxr_dicom.infer.backend import on_backend
from cxr_dicom.infer.base import Model
from cxr_dicom.infer.device import choose
from cxr_dicom.infer.weights.pickles import read_state
from cxr_dicom.records import ModelInfo

if TYPE_CHECKING:
    import torch

_SIZE = 768
_GREY_SCALE = 1024  # the networks were trained on -1 to 1
_CITATION = (
    "Esser et al. Taming transformers for high-resolution image synthesis. CVPR 2021. "
    "https://arxiv.org/abs/2012.09841; weights by Joseph Paul Cohen, TorchXRayVision"
)

MODELS = tuple(
    ModelInfo(
        name=name,
        version="1",
        title=f"Reconstruction error of a VQGAN autoencoder, {size}",
        predicts=("reconstruction_error", "mean_reconstruction_error"),
        input_size=_SIZE,
        manufacturer="TorchXRayVision",
        licence="Apache-2.0",
        citation=_CITATION,
        weights_file=file,
        weights_url=weights.RELEASE + file,
        failures=(
            "A high error says that an image is unlike those that it was trained on, not that it is diseased.",
            "There is no threshold: compare within your own images.",
        ),
    )
    for name, size, file in (
        ("xrv-vqgan", "24 x 24 codes", "2023-07-04T06-25-02_cxr2_vqgan_768_sd.ckpt"),
        ("xrv-vqgan-msdd", "12 x 12 codes", "2023-07-29T17-34-14_cxr2_vqgan_768_msdd.ckpt"),
    )
)


def build(name: str, settings: Settings) -> Model:
    """Load the VQGAN ``name``."""
    import torch
    from torchxrayvision.baseline_models.ieee8023.vqgan import VQModel

    info = next(info for info in MODELS if info.name == name)
    device = choose(settings.models)
    tensors, lock = weights.load(info, settings, weights.Upstream(state=_tensors))
    with torch.device("meta"):
        network: Any = VQModel(**architecture(tensors))
    weights.fill(network, tensors, device)

    def redraw(pixels: torch.Tensor) -> torch.Tensor:
        drawn, _ = network((pixels / _GREY_SCALE).repeat(1, 3, 1, 1))
        grey: torch.Tensor = (drawn[:, :1] * _GREY_SCALE).clip(-_GREY_SCALE, _GREY_SCALE)
        return grey

    compute, info = on_backend(redraw, weights.identified(info, lock), settings)
    return Autoencoder(info=info, redraw=compute, device=device)


def architecture(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Read off the tensors what upstream keeps in a second file: the parameters of its ``VQModel``."""

    def numbers(pattern: str) -> list[int]:
        return sorted({int(found[1]) for key in tensors if (found := re.match(pattern, key))})

    first, last = tensors["encoder.conv_in.weight"], tensors["decoder.conv_out.weight"]
    levels = numbers(r"encoder\.down\.(\d+)\.block\.")
    widths = [tensors[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in levels]
    codes, width_of_code = tensors["quantize.embedding.weight"].shape
    return {
        "n_embed": codes,
        "embed_dim": width_of_code,
        "ddconfig": {
            "ch": first.shape[0],
            "in_channels": first.shape[1],
            "out_ch": last.shape[0],
            "ch_mult": [width // first.shape[0] for width in widths],
            "num_res_blocks": len(numbers(r"encoder\.down\.0\.block\.(\d+)\.")),
            "attn_resolutions": [_SIZE >> level for level in numbers(r"encoder\.down\.(\d+)\.attn\.")],
            "resolution": _SIZE,
            "z_channels": tensors["quant_conv.weight"].shape[1],
            "double_z": False,
        },
    }


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """Take the tensors of a checkpoint, without the loss and the discriminator of its training."""
    return {key: tensor for key, tensor in read_state(path).items() if not key.startswith("loss.")}
