"""Networks compute in float32 on CUDA, in whichever process they are loaded, and on a CPU by oneDNN."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cxr_dicom.config import ModelSettings, Settings
from cxr_dicom.errors import WeightsError
from cxr_dicom.infer import build_models, onnx, weights
from cxr_dicom.infer.batches.network import Device
from cxr_dicom.infer.own import network

SETTINGS = Settings.model_validate({"models": {"names": ["offline-anatomy"], "device": "cpu"}})


@pytest.fixture(autouse=True)
def tf32():
    """As PyTorch is by default, and with TF32 for products too."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def is_float32():
    return not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32


def test_after_models_are_built():
    build_models(SETTINGS)
    assert is_float32()


def test_in_the_server_of_batches():
    Device("cpu")
    assert is_float32()


def test_in_the_process_of_the_users_own_networks(monkeypatch):
    monkeypatch.setattr(network, "_of_torch", lambda *_: is_float32())
    assert network.load(None, None, Path("network.pt"), ModelSettings(), "cpu", torch.get_num_threads())


def test_in_onnx_runtime(monkeypatch):
    asked = []

    def session(*arguments, providers, provider_options):
        asked.extend(zip(providers, provider_options, strict=True))
        raise RuntimeError("no CUDA here")

    monkeypatch.setattr("onnxruntime.InferenceSession", session)
    with pytest.raises(WeightsError, match="no CUDA here"):
        onnx._onnxruntime(b"", SimpleNamespace(grows=False), SimpleNamespace(name="mine"), "CUDAExecutionProvider", 1)
    assert asked == [("CUDAExecutionProvider", {"use_tf32": "0"})]


def convolutions():
    return torch.nn.Sequential(torch.nn.Conv2d(64, 128, 1), torch.nn.Conv2d(128, 64, 1, stride=2))


@torch.inference_mode()
def run(network, pixels):
    """Return what a network gives, and the names of the operations that PyTorch took."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        found = network(pixels)
    return found, {event.name for event in profile.events()}


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("threads", [1], indirect=True)
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch has no oneDNN on this machine")
def test_with_one_thread_convolutions_of_1_x_1_are_computed_by_onednn():
    network = convolutions()
    pixels = torch.randn(1, 64, 32, 32, generator=torch.Generator().manual_seed(0))
    expected, before = run(network, pixels)
    with torch.device("meta"):
        filled = convolutions()
    weights.fill(filled, network.state_dict(), "cpu")
    found, after = run(filled, pixels)
    torch.testing.assert_close(found, expected)
    assert "aten::_slow_conv2d_forward" in before
    assert "aten::mkldnn_convolution" in after
    assert "aten::_slow_conv2d_forward" not in after


@pytest.mark.parametrize(("has_onednn", "device"), [(False, "cpu"), (True, "meta")])
def test_without_onednn_or_a_cpu_convolutions_stay_as_they_are(has_onednn, device, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: has_onednn)
    network = convolutions()
    weights.fill(network, network.state_dict(), device)
    assert [layer.dilation for layer in network] == [(1, 1), (1, 1)]
