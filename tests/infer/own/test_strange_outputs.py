"""Networks whose output is not what their table says: an error for each, never a wrong mask."""

import pytest
import torch
from torch import nn

from cxr_dicom.errors import ModelError, SettingsError
from tests.infer.own import networks
from tests.infer.own.networks import masks, scores, table

NUMBERS = masks("", "heart", "lungs", activation="labels")
STRANGE = {
    "one number": (
        lambda pixels: pixels.mean(),
        scores("mass"),
        "of 1 in the first dimension, the images; got float32",
    ),
    "no images": (lambda pixels: torch.cat([pixels[0]] * 3), NUMBERS, r"shape \(3, 64, 64\)"),
    "a number of no label": (lambda pixels: (pixels[:, 0] > 0.3).long() * 255, NUMBERS, "of 0 to 2, the labels"),
    "less than nothing": (lambda pixels: (pixels[:, 0] > 0.3).long() - 1, NUMBERS, "of 0 to 2, the labels; got -1"),
    "a fraction": (lambda pixels: pixels[:, 0] * 1.5, NUMBERS, "expected whole numbers"),
    "no number": (lambda pixels: pixels[:, 0] * float("nan"), NUMBERS, "not a number"),
}


class Strange(nn.Module):
    def __init__(self, compute):
        super().__init__()
        self.compute = compute

    def forward(self, pixels):
        return self.compute(pixels)


@pytest.mark.parametrize("file", ["onnx", "pt"])
@pytest.mark.parametrize("case", STRANGE)
def test_an_output_that_is_not_as_told_is_refused(case, file, tmp_path, build, dx):
    compute, output, expected = STRANGE[case]
    path = tmp_path / f"network.{file}"
    if file == "onnx":
        networks.export(Strange(compute), path)
    else:
        torch.jit.trace(Strange(compute), torch.rand(1, 1, 64, 64)).save(path)
    with pytest.raises((ModelError, SettingsError), match=expected):
        build(table(path, output)).predict(dx, ())


class Squashed(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def forward(self, pixels):
        logits = pixels.mean(dim=(2, 3))
        return (logits.sigmoid() if self.kind == "Sigmoid" else torch.cat([logits, -logits], 1).softmax(1)).view(1, -1)


@pytest.mark.parametrize("file", ["onnx", "pt"])
@pytest.mark.parametrize("kind", ["Sigmoid", "Softmax"])
@pytest.mark.parametrize("told", ["sigmoid", "softmax", "none"])
def test_probabilities_are_not_made_probabilities_again(told, kind, file, tmp_path, build, dx):
    if told == "softmax" and kind == "Sigmoid":
        pytest.skip("of one label there is no softmax")
    network, path = Squashed(kind), tmp_path / f"network.{file}"
    if file == "onnx":
        networks.export(network, path)
    else:
        torch.jit.trace(network, torch.rand(1, 1, 64, 64)).save(path)
    output = table(path, scores(*("mass", "cavity")[: 1 if kind == "Sigmoid" else 2], activation=told))
    if told == "none":
        assert build(output).predict(dx, ()).findings
        return
    by = kind if file == "onnx" else f"aten::{kind.lower()}"
    with pytest.raises(SettingsError, match=f"activation is {told}: expected logits, and .* comes out of {by}"):
        build(output)
