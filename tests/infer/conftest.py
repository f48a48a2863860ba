"""A home folder with random weights, and radiographs to run them on.

Each file is made once per session: what TorchXRayVision reads there, we read there.
"""

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torchxrayvision as xrv
from pydicom import Dataset, dcmread

from cxr_dicom import synthetic
from cxr_dicom.config import ModelSettings, PixelSettings, Settings
from cxr_dicom.dicom.pixels import read
from cxr_dicom.infer import build_models, model_infos
from cxr_dicom.records import ChestImage, Radiograph, Spacing, SpacingSource, StoredInstance
from cxr_dicom.records.plane import Orientation
from tests import ROOT
from tests.infer import random_weights


@pytest.fixture
def threads(request):
    """Let PyTorch compute with as many threads as the test asks for."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def parity():
    """Collect (model, image, what was compared, greatest difference) for the table in the docs."""
    rows = []
    yield lambda *row: rows.append(row)
    if path := os.environ.get("PARITY_TABLE"):
        Path(path).write_text(PARITY + "".join(f"| `{a}` | {b} | {c} | {d} |\n" for a, b, c, d in rows))
        with (ROOT / "cxr_dicom" / "infer" / "parity.csv").open("w", newline="") as file:  # what `models card` shows
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(("model", "image", "what", "difference", "upstream"))
            writer.writerows((*row, f"TorchXRayVision {xrv.__version__}") for row in rows)


PARITY = f"""\
# Parity with TorchXRayVision

Made by the tests; do not edit by hand:

```bash
PARITY_TABLE=docs/models/parity.md pytest tests/infer -k torchxrayvision
```

Random weights in the upstream file formats; RG1 is a real CR image of 1955 × 1841 pixels, DX a synthetic one of 700 ×
560. The left side is TorchXRayVision {xrv.__version__} as its users call it: its reader, its crop, its class, its file.
Segmenters and the VQGAN are compared at a smaller side, both of them, to save time; that their full input is the
same has rows of its own.

| model | image | what | greatest difference |
|---|---|---|---|
"""


@dataclass
class Home:
    """A home folder, in which weights appear when they are asked for."""

    folder: Path  # TorchXRayVision's own below it

    def weights(self, name):
        """Return the upstream file of a model."""
        path = self.folder / model_infos()[name].weights_file
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            random_weights.write(name, path)
        return path

    def build(self, name, backend="torch"):
        """Build a model from its upstream file, if it has one."""
        if model_infos()[name].weights_file:
            self.weights(name)
        models = ModelSettings(names=(name,), device="cpu", backend=backend, accept_licence=("cxas",))
        settings = Settings(models=models)
        (model,) = build_models(settings)
        return model


@pytest.fixture(scope="session")
def session_home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def home(session_home, monkeypatch):
    """The home folder with the weights of this session."""
    monkeypatch.setenv("HOME", str(session_home))
    return Home(session_home / ".torchxrayvision" / "models_data")


def chest_image(path, header, orientation=None):
    """A chest image without the selection, which has tests of its own."""
    instance = StoredInstance(
        path=path, study_instance_uid="1", series_instance_uid="2", sop_instance_uid="3", sop_class_uid="4"
    )
    spacing = Spacing(rows_mm=1, columns_mm=1, source=SpacingSource.NONE)
    return ChestImage(
        instance=instance, header=header, view="PA", orientation=orientation or Orientation(), spacing=spacing
    )


def decoded(path):
    return read(chest_image(path, dcmread(path, stop_before_pixels=True)), PixelSettings())


@pytest.fixture(scope="session")
def dx_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("dx") / "dx.dcm"
    synthetic.radiograph(700, 560).save_as(path, enforce_file_format=True)
    return path


@pytest.fixture(scope="session")
def dx(dx_path):
    """A synthetic DX image."""
    return decoded(dx_path)


@pytest.fixture(scope="session")
def rg1(real):
    """A real CR image."""
    return decoded(real("RG1_UNCR.dcm"))


@pytest.fixture(params=["rg1", "dx"])
def radiograph(request):
    """Each of the two in orientation."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def upstream_input():
    """Give what a user of TorchXRayVision feeds to a model: its reader and its crop."""

    def read_and_crop(radiograph):
        pixels = xrv.utils.read_xray_dcm(radiograph.image.instance.path)
        return torch.from_numpy(xrv.datasets.XRayCenterCrop()(pixels[None]))[None]

    return read_and_crop


@pytest.fixture
def painted():
    """Make a radiograph of pixels that are given in the standard view."""

    def make(pixels, orientation=None):
        header = Dataset()
        header.Rows, header.Columns = (orientation or Orientation()).to_source(pixels).shape
        image = chest_image(Path("painted"), header, orientation)
        return Radiograph(image=image, pixels=np.ascontiguousarray(pixels, np.float32), sha256="0")

    return make
