"""OpenVINO gives what PyTorch gives, says that it did, and does not depend on the number of threads."""

import logging
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from cxr_dicom.config import ModelSettings, Settings
from cxr_dicom.errors import SettingsError
from cxr_dicom.infer import build_models, model_infos
from cxr_dicom.infer.backend import on_backend
from cxr_dicom.infer.models import chestx_det
from cxr_dicom.infer.offline.unet import CompactUNet
from cxr_dicom.infer.pspnet import logits
from cxr_dicom.infer.winograd import lighten
from tests import ROOT

OPENVINO = Settings(models=ModelSettings(backend="openvino"))
INFO = replace(model_infos()["xrv-densenet121-all"], input_size=32)


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


@pytest.fixture
def small_pspnet(monkeypatch):
    """The PSPNet at a side of 192 and not 512, which takes a seventh of the time."""
    monkeypatch.setattr(chestx_det, "MODELS", (replace(chestx_det.MODELS[0], input_size=192),))


def test_a_classifier_gives_the_same_scores_and_maps(home, rg1):
    expected = home.build("xrv-densenet121-all").predict(rg1, ())
    found = home.build("xrv-densenet121-all", "openvino").predict(rg1, ())
    for one, other in zip(expected.findings, found.findings, strict=True):
        assert other.raw == pytest.approx(one.raw, abs=1e-5)
        assert other.call is one.call
    assert [heatmap.name for heatmap in expected.heatmaps] == [heatmap.name for heatmap in found.heatmaps]
    for one, other in zip(expected.heatmaps, found.heatmaps, strict=True):
        apart = np.abs(one.values - other.values)
        assert apart.max() < 0.015, "a cell next to a limit of rounding may be rounded otherwise, to 1/100"
        assert apart.mean() < 1e-3


@pytest.mark.parametrize("name", ["chestx-det", "offline-anatomy"])
def test_a_segmenter_gives_the_same_masks(name, home, rg1, small_pspnet):
    expected = home.build(name).predict(rg1, ())
    found = home.build(name, "openvino").predict(rg1, ())
    assert len(expected.masks) >= 3
    for one, other in zip(expected.masks, found.masks, strict=True):
        assert one.structure == other.structure
        assert dice(one.region.matrix(), other.region.matrix()) > 0.9999


def test_the_number_of_threads_changes_nothing():
    torch.manual_seed(0)
    network, pixels = CompactUNet().eval().requires_grad_(False), torch.rand(1, 1, 256, 256)

    def logits_with(threads):
        torch.set_num_threads(threads)
        return on_backend(network, replace(INFO, input_size=256), OPENVINO)[0](pixels)

    try:
        assert torch.equal(logits_with(2), logits_with(1))
    finally:
        torch.set_num_threads(1)


def test_two_backends_can_be_told_apart(home):
    one = home.build("offline-anatomy").info
    other = home.build("offline-anatomy", "openvino").info
    assert one.version == "1"
    assert other.version.startswith("1; OpenVINO 20")
    assert other.version.endswith(" float32")
    assert len(other.version) <= 64, "a long string (LO) in DICOM"
    assert Settings().digest != OPENVINO.digest


def test_arithmetic_is_float32_on_any_processor():
    """Bfloat16, which OpenVINO takes by itself where it can, would be wrong by a hundredth."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 64, 3), torch.nn.Conv2d(64, 8, 3)).requires_grad_(False)
    compute, _ = on_backend(network, INFO, OPENVINO)
    pixels = torch.rand(1, 1, 32, 32)
    assert torch.allclose(compute(pixels), network(pixels), atol=1e-5)


def test_threads_are_not_pinned_for_workers_would_share_a_core(monkeypatch):
    import openvino

    compiled = []

    class Core(openvino.Core):
        def compile_model(self, *arguments):
            compiled.append(super().compile_model(*arguments))
            return compiled[-1]

    monkeypatch.setattr(openvino, "Core", Core)
    on_backend(torch.sigmoid, INFO, OPENVINO)
    assert [network.get_property("ENABLE_CPU_PINNING") for network in compiled] == [False]


def test_openvino_tells_nobody_that_it_was_imported():
    """It looks for its reporter when it is imported; other programs of this process may have that."""
    said = "import openvino.tools.ovc.telemetry_utils as used, openvino_telemetry; print(used.tm.__name__)"
    code = f"from cxr_dicom.infer.backend import imported; imported(); {said}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "openvino.tools.ovc.telemetry_stub"


def test_openvino_must_be_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(SettingsError, match=r"models\.backend: .*pip install '\.\[openvino\]'"):
        on_backend(torch.sigmoid, INFO, OPENVINO)


def test_a_network_that_openvino_cannot_run_is_refused():
    with pytest.raises(SettingsError, match=r"models\.backend: OpenVINO cannot run xrv-densenet121-all.*bessel_j0"):
        on_backend(torch.special.bessel_j0, INFO, OPENVINO)


def test_openvino_takes_the_cpu_and_no_other_device():
    with pytest.raises(SettingsError, match=r"models\.device: OpenVINO runs on 'cpu' here, not on 'cuda'"):
        build_models(Settings(models=ModelSettings(names=("offline-anatomy",), backend="openvino", device="cuda")))


def test_nothing_is_said_to_the_root_logger(caplog, monkeypatch):
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    monkeypatch.setattr(TorchFXPythonDecoder, "_decomp_table", None)  # it speaks when it makes this, once
    handlers = list(logging.getLogger().handlers)
    on_backend(torch.sigmoid, INFO, OPENVINO)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert logging.getLogger().handlers == handlers


@pytest.mark.parametrize("side", [64, 104, 136, 256])
def test_the_pspnet_is_that_of_upstream(side):
    """Of any size: where pyramid cells do not divide the feature map, and where there are tiles of Winograd's, too."""
    from torchxrayvision.baseline_models.chestx_det.ptsemseg.pspnet import pspnet

    torch.manual_seed(0)
    network = pspnet(3, block_config=[1, 1, 1, 1]).train()
    pixels = torch.randn(2, 3, side, side)
    with torch.no_grad():
        network(pixels)  # gives its norms some statistics
        expected = network.eval()(pixels[:1])
        lighten(network)
        found = logits(network, pixels[:1])
    assert expected.std() > 1e-3
    assert torch.allclose(found, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())
