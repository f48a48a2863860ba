"""Segmenters against TorchXRayVision's own code path, and their structures."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchxrayvision as xrv

from cxr_dicom.config import ModelSettings, Settings
from cxr_dicom.errors import SettingsError
from cxr_dicom.infer import segmenter
from cxr_dicom.infer.models import chestx_det, cxas
from cxr_dicom.infer.placement import square

UPSTREAM = {
    "chestx-det": (xrv.baseline_models.chestx_det.PSPNet, chestx_det),
    "cxas": (xrv.baseline_models.chestx_anatomy.UNetResNet50, cxas),
}


SMALL = 256


class SeenError(Exception):
    """Carries what a network was given, so that it need not run."""


@pytest.fixture
def small(monkeypatch):
    """Both at a side of 256 and not 512, which takes a quarter of the time; the input has a test of its own."""
    resize = xrv.utils.fix_resolution
    monkeypatch.setattr(xrv.utils, "fix_resolution", lambda pixels, size, model: resize(pixels, SMALL, model))


@pytest.mark.parametrize("name", UPSTREAM)
def test_masks_are_those_of_torchxrayvision(name, home, dx, upstream_input, parity, small):
    ours = home.build(name)
    ours = replace(ours, info=replace(ours.info, input_size=SMALL))
    make, module = UPSTREAM[name]
    cropped = upstream_input(dx)
    with torch.no_grad():
        probabilities = make()(cropped).sigmoid()
    prediction = ours.predict(dx, ())
    side = cropped.shape[-1]
    top, left = ((length - side) // 2 for length in dx.image.shape)
    areas, different = [], 0
    for index, structure in enumerate(module.STRUCTURES):
        enlarged = torch.nn.functional.interpolate(
            probabilities[:, index : index + 1], size=(side, side), mode="bilinear"
        )
        expected = np.zeros(dx.image.shape, bool)
        expected[top : top + side, left : left + side] = enlarged[0, 0] > 0.5
        mask = prediction.mask(structure.name)
        assert (mask is not None) == expected.any()
        if mask is not None:
            unsure = (enlarged[0, 0] - 0.5).abs().numpy() < 1e-5
            differs = (mask.region.matrix() != expected)[top : top + side, left : left + side]
            assert not (differs & ~unsure).any(), structure.name
            different += int(differs.sum())
        areas.append(expected.mean())
    parity(name, "DX", f"masks of {len(areas)} structures, pixels that differ", str(different))
    assert np.std(areas) > 0, "random weights that outline everything alike show nothing"
    assert any(0.01 < area < 0.5 for area in areas)


@pytest.mark.parametrize("name", UPSTREAM)
def test_input_is_that_of_torchxrayvision(name, home, rg1, upstream_input, parity):
    """On a real image, up to the first layer: the rest is the same network."""
    home.weights(name)
    theirs = UPSTREAM[name][0]()

    def stop(module, arguments):
        raise SeenError(arguments[0])

    inner = theirs.model if name == "chestx-det" else theirs.backbone
    inner.register_forward_pre_hook(stop)
    with pytest.raises(SeenError) as seen, torch.no_grad():
        theirs(upstream_input(rg1))
    pixels, _ = square(rg1, 512)
    given = segmenter.imagenet(torch.tensor(pixels)[None, None])
    difference = (given - seen.value.args[0]).abs().max().item()
    parity(name, "RG1", "input of the first layer", f"{difference:.1e}")
    assert difference <= 1e-6


def test_cxas_asks_for_its_licence(home):
    settings = Settings(models=ModelSettings(names=("cxas",), device="cpu"))
    with pytest.raises(
        SettingsError, match=r"models\.accept_licence.*CC-BY-NC-SA.*commercial.*accept_licence = \[\"cxas\"\]"
    ):
        cxas.build("cxas", settings)
