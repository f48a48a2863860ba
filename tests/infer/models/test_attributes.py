"""View, age, sex and race against TorchXRayVision; and that nobody takes them for findings."""

import pytest
import torch
import torchxrayvision as xrv

from cxr_dicom.config import Settings
from cxr_dicom.infer import resolve
from cxr_dicom.infer.models import attributes

PROTECTED = {"age", "sex", "race"}


def upstream(name, pixels):
    """Numbers of TorchXRayVision, its logits as probabilities."""
    with torch.no_grad():
        if name == "view":
            return xrv.baseline_models.xinario.ViewModel()(pixels)[0].softmax(dim=0)
        if name == "sex":
            return xrv.baseline_models.mira.SexModel()(pixels)[0].softmax(dim=0)
        if name == "race":
            return xrv.baseline_models.emory_hiti.RaceModel()(pixels)[0].exp()
        return xrv.baseline_models.riken.AgeModel().eval()(pixels)[0]


@pytest.mark.parametrize("name", ["view", "age", "sex", "race"])
def test_numbers_are_those_of_torchxrayvision(name, home, rg1, dx, upstream_input, parity):
    model = home.build(name)
    for image, radiograph in (("RG1", rg1), ("DX", dx)):
        prediction = model.predict(radiograph, ())
        expected = upstream(name, upstream_input(radiograph)).tolist()
        assert [each.name for each in prediction.measurements] == list(model.info.predicts)
        difference = max(abs(each.value - value) for each, value in zip(prediction.measurements, expected, strict=True))
        parity(name, image, f"{len(expected)} numbers", f"{difference:.1e}")
        assert difference <= 1e-5
        assert name == "age" or all(1e-4 < value < 1 - 1e-4 for value in expected), "saturated numbers show nothing"
        assert prediction.findings == prediction.masks == prediction.heatmaps == ()


def test_probabilities_add_up_to_one(home, dx):
    for name in ("view", "sex", "race"):
        assert sum(each.value for each in home.build(name).predict(dx, ()).measurements) == pytest.approx(1)


def test_they_run_only_when_named(home):
    for name in PROTECTED:
        home.weights(name)
    assert not PROTECTED & set(resolve(Settings()))


def test_titles_say_that_they_are_for_audit():
    for info in attributes.MODELS:
        assert ("for audit, not for diagnosis" in info.title) == (info.name in PROTECTED)
        assert all(len(attributes.CODES[name].value) <= 16 for name in info.predicts)
