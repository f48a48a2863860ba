"""Networks compute in float32 on CUDA, in whichever process they are loaded."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cxr_dicom.config import ModelSettings, Settings
from cxr_dicom.errors import WeightsError
from cxr_dicom.infer import build_models, onnx
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
