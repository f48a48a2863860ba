"""Numbers and maps of strangers' networks."""

import numpy as np
import pytest
import torch

from cxr_dicom.errors import ModelError, SettingsError
from tests.infer.own import networks
from tests.infer.own.networks import scores, table
from tests.infer.own.test_scores_and_masks import FITS, upstream
from tests.infer.test_placement import TURNS

VALUES = {"kind": "values", "labels": [{"name": "apparent_age", "unit": "a"}, {"name": ""}, {"name": "ratio"}]}
MAPS = {"kind": "heatmaps", "activation": "sigmoid", "labels": [{"name": "brightness"}]}


def test_values_are_measurements_with_a_unit(tmp_path, build, dx):
    network = networks.made(networks.Classifier)
    path = networks.export(network, tmp_path / "network.onnx")
    age, ratio = build(table(path, VALUES)).predict(dx, ()).measurements
    with torch.no_grad():
        expected = network(upstream(dx, "crop"))[0].tolist()
    assert [age.value, ratio.value] == pytest.approx([expected[0], expected[2]], abs=1e-5)
    assert [(each.name, each.unit.value, each.code.scheme) for each in (age, ratio)] == [
        ("apparent_age", "a", "99CXRSITE"),
        ("ratio", "1", "99CXRSITE"),
    ]


def test_a_value_that_is_no_number_fails_the_image(tmp_path, build, dx):
    network = networks.made(networks.Classifier)
    with torch.no_grad():
        network.linear.bias[0] = float("nan")
    model = build(table(networks.export(network, tmp_path / "network.onnx"), VALUES))
    with pytest.raises(ModelError, match="not a number"):
        model.predict(dx, ())


@pytest.mark.parametrize("turn", TURNS[:6:5], ids=str)
@pytest.mark.parametrize("fit", FITS)
def test_a_painted_mark_is_bright_on_the_map_where_it_was_painted(fit, turn, tmp_path, build, painted):
    pixels = np.full((300, 260), -1024, np.float32)
    pixels[100:180, 90:200] = 1024
    path = networks.export(networks.Brightness(), tmp_path / "network.onnx")
    radiograph = painted(pixels, turn)
    (heatmap,) = build(table(path, MAPS, fit=fit)).predict(radiograph, ()).heatmaps
    shape = radiograph.image.shape
    found = heatmap.grid.resample(heatmap.values, shape, shape) > 0.5
    there = turn.to_source(pixels > 0)
    assert (found & there).sum() / (found | there).sum() > 0.93


def test_a_model_of_several_outputs_names_one(tmp_path, build, dx):
    class Two(networks.Classifier):
        def forward(self, pixels):
            return self.linear.bias[None] * 0 + pixels.mean(), super().forward(pixels)

    network = networks.made(Two)
    torch.onnx.export(
        network,
        (torch.zeros(1, 1, 64, 64),),
        str(tmp_path / "two.onnx"),
        dynamo=False,
        input_names=["pixels"],
        output_names=["means", "logits"],
    )
    output = {**scores("a", "b", "c"), "tensor": "logits"}
    found = build(table(tmp_path / "two.onnx", output)).predict(dx, ()).findings
    with torch.no_grad():
        expected = network(upstream(dx, "crop"))[1][0].sigmoid().tolist()
    assert [finding.raw for finding in found] == pytest.approx(expected, abs=1e-5)


def test_an_embedding_is_the_vector_of_the_network(tmp_path, build, dx):
    network = networks.made(networks.Classifier)
    path = networks.export(network, tmp_path / "network.onnx")
    prediction = build(table(path, {"kind": "embeddings", "width": 3})).predict(dx, ())
    with torch.no_grad():
        expected = network(upstream(dx, "crop"))[0].numpy()
    assert prediction.embedding.dtype == np.float32
    assert prediction.embedding == pytest.approx(expected, abs=1e-5)
    with pytest.raises(SettingsError, match=r"expected \(images, 4\) by its table, got \(1, 3\)"):
        build(table(path, {"kind": "embeddings", "width": 4}))
