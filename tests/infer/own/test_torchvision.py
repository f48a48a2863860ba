"""A detector of torchvision, exported as its users do: what it finds is what torchvision finds."""

import pytest
import torch

from cxr_dicom.errors import ModelError, SettingsError, WeightsError
from tests.infer.onnx import hostile_onnx
from tests.infer.own import networks
from tests.infer.own.networks import SIZE, boxes, table
from tests.infer.own.test_scores_and_masks import upstream

TOLD = boxes("mass", "nodule", "cavity", score_threshold=0.3)


@pytest.fixture(scope="module")
def detector():
    return networks.fcos()


@pytest.fixture(scope="module")
def path(detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("torchvision")
    return networks.export(detector, folder / "fcos.onnx", 3, outputs=("boxes", "scores", "labels"))


def test_its_boxes_scores_and_labels_are_those_of_torchvision(detector, path, build, dx):
    made = build(table(path, TOLD, channels=3)).predict(dx, ()).detections
    with torch.no_grad():
        (expected,) = detector(list(upstream(dx, "crop", 3)))
    left, top, right, bottom = expected["boxes"].T  # some have no area, for the layers are random
    reaching = (expected["scores"] >= 0.3) & (right > left) & (bottom > top)
    assert 3 <= reaching.sum() <= 20
    names = [TOLD["labels"][number]["name"] for number in expected["labels"][reaching].tolist()]
    assert [each.name for each in made] == names
    assert [each.score for each in made] == pytest.approx(expected["scores"][reaching].tolist(), abs=1e-5)
    rows, columns = dx.image.shape
    side = min(rows, columns)
    corner = torch.tensor([columns // 2 - side // 2, rows // 2 - side // 2] * 2)
    there = expected["boxes"][reaching] / SIZE * side + corner
    for each, box in zip(made, there.tolist(), strict=True):
        assert each.box == pytest.approx(box, abs=0.01 + 1e-5 * side)


def test_openvino_which_cannot_bound_its_memory_is_refused(path, build):
    with pytest.raises(SettingsError, match="ONNX Runtime can bound its memory, OpenVINO cannot"):
        build(table(path, TOLD, channels=3), backend="openvino")


def test_only_a_detector_may_make_results_of_unknown_size(path, build):
    output = {"kind": "scores", "activation": "none", "labels": [{"name": "mass"}], "tensor": "scores"}
    with pytest.raises(WeightsError, match="whose size is not known beforehand"):
        build(table(path, output, channels=3))


def test_one_that_grows_without_bound_is_stopped(tmp_path, build):
    """Its result is as large as a pixel says: 400 GB."""
    nodes = [
        hostile_onnx.node("ReduceMax", ("pixels",), ("most",), keepdims=0),
        hostile_onnx.node("Add", ("most", "much"), ("count",)),
        hostile_onnx.node("Cast", ("count",), ("whole",), to=7),
        hostile_onnx.node("Reshape", ("whole", "one"), ("shape",)),
        hostile_onnx.node("ConstantOfShape", ("shape",), ("made",)),
        hostile_onnx.node("ReduceSum", ("made",), ("sum",), keepdims=0),
        hostile_onnx.node("Add", ("pixels", "sum"), ("out",)),
    ]
    weights = [hostile_onnx.numbers("much", 1e11, kind="float32"), hostile_onnx.numbers("one", 1)]
    file = tmp_path / "bomb.onnx"
    file.write_bytes(hostile_onnx.well(nodes, weights).SerializeToString())
    with pytest.raises((SettingsError, ModelError), match="the network failed"):
        build(table(file, boxes("mass", layout="rows")))
