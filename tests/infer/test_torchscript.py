"""A TorchScript file runs only if its program does nothing but compute."""

import pytest
import torch

from cxr_dicom.errors import WeightsError
from cxr_dicom.infer import torchscript


class Save(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(x, "ran")
        return x


class ReadFile(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_file("/etc/hostname", size=1, dtype=torch.uint8)


class OnLoad(torch.nn.Module):
    """Would run while it is loaded."""

    def __init__(self):
        super().__init__()
        self.training = False

    @torch.jit.export
    def __getstate__(self):
        return (torch.zeros(1), self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        torch.save(state[0], "ran")
        self.training = state[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.parametrize("module", [Save, ReadFile, OnLoad])
def test_a_program_that_reaches_files_is_refused_and_does_not_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "age.pt"
    torch.jit.script(module()).save(str(path))
    with pytest.raises(WeightsError, match=r"age\.pt: expected nothing but tensor operations, found calls of"):
        torchscript.read(path, "cpu")
    assert not (tmp_path / "ran").exists()


def test_a_program_that_computes_is_loaded(home):
    network = torchscript.read(home.weights("age"), "cpu")
    assert network(torch.zeros(1, 3, 320, 320)).shape == (1, 1)


@pytest.mark.parametrize("keep", [0, 100, -100])
def test_a_truncated_file_is_an_error(keep, home, tmp_path):
    path = tmp_path / "age.pt"
    path.write_bytes(home.weights("age").read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"age\.pt: expected a complete TorchScript file"):
        torchscript.read(path, "cpu")


def test_a_zip_without_a_program_is_an_error(tmp_path):
    path = tmp_path / "age.pt"
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(WeightsError, match=r"age\.pt: expected a TorchScript file"):
        torchscript.read(path, "cpu")
