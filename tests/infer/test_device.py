"""Networks compute in float32 on CUDA, in whichever process they are loaded."""

from pathlib import Path

import pytest
import torch

from cxr_dicom.config import ModelSettings, Settings
from cxr_dicom.infer import build_models
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
