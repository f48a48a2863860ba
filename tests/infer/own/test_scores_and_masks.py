"""Networks of strangers against PyTorch itself, from the file's pixels to scores and masks on the source."""

import numpy as np
import pytest
import torch
import torchxrayvision as xrv
from torchvision.transforms.v2 import functional

from cxr_dicom.records import Presence
from tests.infer.own import networks
from tests.infer.own.networks import IMAGENET, SIZE, masks, scores, table
from tests.infer.test_placement import TURNS

FITS = ("crop", "pad", "stretch")
CASES = {  # how it was exported, and what its table says of its input
    "one channel": ({}, {}, {}),
    "three channels, ImageNet": ({"channels": 3}, {"channels": 3}, IMAGENET),
    "four images at once": ({}, {"batch": 4}, {}),
    "any size": ({}, {"dynamic": True}, {}),
}
files = pytest.mark.parametrize("file", ["onnxruntime", "openvino", "torchscript"])


def upstream(radiograph, fit, channels=1, mean=None, std=None):
    """What its author fed the network, by torchvision."""
    pixels = torch.tensor(xrv.utils.read_xray_dcm(radiograph.image.instance.path))
    rows, columns = pixels.shape
    longest = max(rows, columns)
    if fit == "crop":
        pixels = torch.tensor(xrv.datasets.XRayCenterCrop()(pixels[None].numpy())[0])
    if fit == "pad":
        left, top = longest // 2 - columns // 2, longest // 2 - rows // 2
        framed = torch.full((longest, longest), pixels.min())
        framed[top : top + rows, left : left + columns] = pixels
        pixels = framed
    square = (functional.resize(pixels[None], [SIZE, SIZE], antialias=True) + 1024) / 2048
    return functional.normalize(square.expand(channels, -1, -1), mean or [0], std or [1])[None]


def written(network, folder, file, **exported):
    if file == "torchscript":
        path = folder / "network.pt"
        torch.jit.script(network).save(path)
        return path
    return networks.export(network, folder / "network.onnx", **exported)


@files
@pytest.mark.parametrize("case", CASES)
def test_scores_are_those_of_pytorch(case, file, tmp_path, build, dx):
    made, exported, given = CASES[case]
    if file == "torchscript" and exported.get("batch"):
        pytest.skip("a program of TorchScript has no fixed batch")
    network = networks.made(networks.Classifier, **made)
    path = written(network, tmp_path, file, **exported)
    backend = {"backend": "openvino"} if file == "openvino" else {}
    model = build(table(path, scores("pneumothorax", "cavity", ""), **given), **backend)
    with torch.no_grad():
        expected = network(upstream(dx, "crop", **given))[0].sigmoid().tolist()
    found = model.predict(dx, ()).findings
    assert [finding.name for finding in found] == ["pneumothorax", "cavity"]
    assert [finding.raw for finding in found] == pytest.approx(expected[:2], abs=1e-5)
    assert [finding.call for finding in found] == [
        Presence.PRESENT if score >= 0.5 else Presence.ABSENT for score in expected[:2]
    ]


@pytest.mark.parametrize("file", ["onnxruntime", "openvino", "torchscript"])
def test_a_linear_layer_behind_an_average_gives_a_class_activation_map(file, tmp_path, build, dx):
    """That of Zhou et al., CVPR 2016, from the layers themselves; TorchScript hides them."""
    network = networks.made(networks.Classifier)
    path = written(network, tmp_path, file)
    backend = {"backend": "openvino"} if file == "openvino" else {}
    prediction = build(table(path, scores("mass", "cavity", "", point=1e-6)), **backend).predict(dx, ())
    if file == "torchscript":
        assert prediction.heatmaps == ()
        return
    with torch.no_grad():
        features = network.features(upstream(dx, "crop"))[0]
        maps = torch.einsum("nc,crl->nrl", network.linear.weight, features).relu()
        maps = torch.nn.functional.interpolate(maps[None], size=(224, 224), mode="bilinear")[0]
    assert [heatmap.name for heatmap in prediction.heatmaps] == ["mass", "cavity"]
    for heatmap, expected in zip(prediction.heatmaps, maps, strict=False):
        assert expected.max() > 0
        apart = np.abs(heatmap.values - (expected / expected.max()).numpy())
        assert apart.max() < 0.015, "cells are rounded to 1/100 of the greatest"
        assert apart.mean() < 0.004


def test_softmax_is_over_all_labels_and_a_name_that_is_empty_is_not_reported(tmp_path, build, dx):
    network = networks.made(networks.Classifier)
    path = networks.export(network, tmp_path / "network.onnx")
    model = build(table(path, scores("", "mass", "cavity", activation="softmax", point=None)))
    with torch.no_grad():
        expected = network(upstream(dx, "crop"))[0].softmax(0).tolist()
    found = model.predict(dx, ()).findings
    assert [finding.raw for finding in found] == pytest.approx(expected[1:], abs=1e-5)
    assert {finding.call for finding in found} == {Presence.INDETERMINATE}


@files
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_masks_are_those_of_pytorch_but_for_pixels_at_the_threshold(activation, fit, file, tmp_path, build, dx):
    """The author's way: his probabilities enlarged to the square and compared there."""
    network = networks.made(networks.Segmenter, outputs=3)
    path = written(network, tmp_path, file)
    names = ("right_lung", "cavity", "heart")
    backend = {"backend": "openvino"} if file == "openvino" else {}
    prediction = build(table(path, masks(*names, activation=activation), fit=fit), **backend).predict(dx, ())
    with torch.no_grad():
        logits = network(upstream(dx, fit))
    probabilities = logits.softmax(1) if activation == "softmax" else logits.sigmoid()
    rows, columns = dx.image.shape
    side = {"crop": (min(rows, columns),) * 2, "pad": (max(rows, columns),) * 2, "stretch": (rows, columns)}[fit]
    enlarged = torch.nn.functional.interpolate(probabilities, size=side, mode="bilinear")[0].numpy()
    if activation == "softmax":
        margin = np.stack([plane - np.delete(enlarged, n, 0).max(0) for n, plane in enumerate(enlarged)])
    else:
        margin = enlarged - 0.5
    top, left = rows // 2 - side[0] // 2, columns // 2 - side[1] // 2
    inner = (
        slice(max(top, 0), max(top, 0) + min(side[0], rows)),
        slice(max(left, 0), max(left, 0) + min(side[1], columns)),
    )
    taken = tuple(slice(part.start - start, part.stop - start) for part, start in zip(inner, (top, left), strict=True))
    total = np.zeros(dx.image.shape, int)
    for name, values in zip(names, margin, strict=True):
        mask = prediction.mask(name)
        found = mask.region.matrix() if mask else np.zeros(dx.image.shape, bool)
        total += found
        unsure = np.abs(values[taken]) < (
            0.05 if activation == "softmax" else 1e-4
        )  # a tie of two is drawn between them
        assert not ((found[inner] != (values[taken] > 0)) & ~unsure).any(), name
        assert unsure.mean() < 0.2
    assert (total > 0).mean() > 0.01
    assert activation == "sigmoid" or total.max() == 1, "labels that exclude each other never overlap"


@pytest.mark.parametrize("turn", TURNS, ids=str)
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("kind", ["sigmoid", "labels"])
def test_a_painted_mark_comes_back_where_it_was_painted(kind, fit, turn, tmp_path, build, painted):
    pixels = np.full((300, 260), -1024, np.float32)
    pixels[100:180, 90:200] = 1024
    radiograph = painted(pixels, turn)
    network, names = (
        (networks.Brightness(), ("mark",)) if kind == "sigmoid" else (networks.Numbers(), ("", "edge", "mark"))
    )
    path = networks.export(network, tmp_path / "network.onnx")
    mask = build(table(path, masks(*names, activation=kind), fit=fit)).predict(radiograph, ()).mask("mark")
    found, there = mask.region.matrix(), turn.to_source(pixels > 0)
    assert (found & there).sum() / (found | there).sum() > 0.93  # a pixel of the network is five of the image


def test_with_softmax_the_greatest_has_the_pixel_though_it_is_less_than_a_half(tmp_path, build, painted):
    pixels = np.full((300, 260), -1024, np.float32)
    pixels[100:180, 90:200] = 1024
    path = networks.export(networks.Unsure(), tmp_path / "network.onnx")
    prediction = build(table(path, masks("", "mark", "other", activation="softmax"))).predict(painted(pixels), ())
    found, there = prediction.mask("mark").region.matrix(), pixels > 0
    assert (found & there).sum() / (found | there).sum() > 0.93
    assert prediction.mask("other") is None
