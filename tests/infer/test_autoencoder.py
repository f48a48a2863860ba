"""Autoencoders against TorchXRayVision, and their error as a heatmap and one score."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchxrayvision as xrv

from cxr_dicom.infer.models import xrv_vqgan
from cxr_dicom.infer.placement import square
from tests.infer import random_weights

YAML = """\
model:
  params:
    embed_dim: 8
    n_embed: 16
    ddconfig:
"""


def redraw_resnet(home, pixels):
    return xrv.autoencoders.ResNetAE(weights="101-elastic")(pixels)["out"]


def redraw_vqgan(home, pixels):
    """Upstream reads the architecture from a second file; we read it off the tensors."""
    lines = []
    for key, value in random_weights.VQGAN.items():
        lines += (
            [f"      {key}:", *(f"      - {item}" for item in value)]
            if isinstance(value, list)
            else [f"      {key}: {value}"]
        )
    yaml = home.folder / "vqgan.yaml"
    yaml.write_text(YAML + "\n".join(lines) + "\n")
    path = home.weights("xrv-vqgan")
    network = xrv.baseline_models.ieee8023.VQGAN(ckpt_path=str(path), yaml_path=str(yaml))
    network.upsample = torch.nn.Identity()  # to 768 x 768, which takes long
    return network(pixels)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("threads", [2], indirect=True)
@pytest.mark.parametrize(("name", "redraw"), [("xrv-resnetae", redraw_resnet), ("xrv-vqgan", redraw_vqgan)])
def test_the_reconstruction_is_that_of_torchxrayvision(name, redraw, home, dx, parity):
    """With two threads oneDNN computes upstream's convolutions of 1 x 1, too; random weights enlarge what is rounded.

    In float32 either way is 0.017 standard deviations away from the result in float64.
    """
    model = home.build(name)
    model = replace(model, info=replace(model.info, input_size=min(model.info.input_size, 224)))
    pixels, placement = square(dx, model.info.input_size)
    with torch.no_grad():
        expected = (redraw(home, torch.tensor(pixels)[None, None])[0, 0].numpy() - pixels).__abs__() / 2048
    prediction = model.predict(dx, ())
    (heatmap,), (score,) = prediction.heatmaps, prediction.measurements
    difference = np.abs(heatmap.values - expected.clip(0, 1)).max()
    parity(name, "DX", "reconstruction error of each pixel", f"{difference:.1e}")
    assert difference <= 1e-5
    assert heatmap.grid == placement.grid(expected.shape)
    assert score.value == pytest.approx(expected.clip(0, 1).mean(), abs=1e-5)
    assert 0 < score.value < 1
    assert prediction.findings == ()


def test_the_architecture_is_read_off_the_tensors():
    for extra in ({}, {"ch_mult": [1, 2], "num_res_blocks": 2, "attn_resolutions": [768]}):
        config = random_weights.VQGAN | extra
        with torch.device("meta"):
            network = xrv.baseline_models.ieee8023.VQModel(config, n_embed=16, embed_dim=8)
        found = xrv_vqgan.architecture(network.state_dict())
        assert found == {"n_embed": 16, "embed_dim": 8, "ddconfig": {k: v for k, v in config.items() if k != "dropout"}}
