"""The lighter convolutions against PyTorch's own, in twice the precision."""

from __future__ import annotations

import pytest
import torch
from torch.nn import Conv2d, Sequential
from torch.nn.functional import conv2d

from cxr_dicom.infer import winograd

INPUTS, OUTPUTS = 160, 3


@pytest.fixture
def only_tiles(monkeypatch):
    """Without the direct way."""
    monkeypatch.setattr(winograd, "conv2d", None)


def pixels_and_weight(rows, columns, inputs=INPUTS, count=1):
    generator = torch.Generator().manual_seed(rows + columns)
    pixels = torch.randn(count, inputs, rows, columns, generator=generator)
    return pixels, torch.randn(OUTPUTS, inputs, 3, 3, generator=generator) / (9 * inputs) ** 0.5


@pytest.mark.usefixtures("only_tiles")
@pytest.mark.parametrize("inputs", [1, 128, 129, 300])
@pytest.mark.parametrize(("dilation", "rows", "columns"), [(1, 32, 32), (1, 36, 44), (2, 40, 32), (4, 64, 32)])
def test_results_are_those_of_a_direct_convolution(inputs, dilation, rows, columns):
    pixels, weight = pixels_and_weight(rows, columns, inputs)
    expected = conv2d(pixels.double(), weight.double(), padding=dilation, dilation=dilation)
    found = winograd.convolve(pixels, weight, dilation)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-4 * expected.std()


@pytest.mark.parametrize(
    ("count", "rows", "columns", "dilation"), [(1, 33, 32, 1), (1, 36, 36, 2), (2, 32, 32, 1), (1, 16, 16, 1)]
)
def test_where_tiles_do_not_fit_the_direct_way_is_taken(count, rows, columns, dilation):
    pixels, weight = pixels_and_weight(rows, columns, count=count)
    found = winograd.convolve(pixels, weight, dilation)
    assert torch.equal(found, conv2d(pixels, weight, padding=dilation, dilation=dilation))


def test_layers_for_which_it_pays_are_made_lighter():
    wide = Conv2d(128, 128, 3, padding=2, dilation=2)
    others = [
        Conv2d(128, 127, 3, padding=1),
        Conv2d(127, 128, 3, padding=1),
        Conv2d(128, 128, 1),
        Conv2d(128, 128, 3, padding=1, stride=2),
        Conv2d(128, 128, 3, padding=1, groups=2),
        Conv2d(128, 128, 3),
        Conv2d(128, 128, 3, padding=1, padding_mode="reflect"),
    ]
    network = Sequential(Sequential(wide), *others)
    names, types = list(network.state_dict()), [type(layer) for layer in others]
    pixels = torch.randn(1, 128, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = wide(pixels)
        winograd.lighten(network)
        found = wide(pixels)
    assert 0 < (found - expected).abs().max() < 1e-4 * expected.std(), "the same, on the other way"
    assert [type(layer) for layer in others] == types
    assert list(network.state_dict()) == names
