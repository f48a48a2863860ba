"""`models add` of networks that find boxes, or give a vector."""

import re

import pytest
from PIL import Image, ImageChops

from cxr_dicom.config import load
from tests.infer.own import networks

SAID = ("--range", "0,1", "--licence", "MIT", "--citation", "nobody", "--config", "site.toml")
ROWS = {"found": [[8, 8, 24, 30], [30, 12, 50, 44]], "scores": [0.9, 0.6], "numbers": [1, 0]}


@pytest.fixture
def added(tmp_path, invoke, monkeypatch):
    """Add a network; give what was said, and its table."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site.toml").touch()

    def add(network, *arguments, channels=1, outputs=("out",), code=0):
        networks.export(network, tmp_path / "mine.onnx", channels, outputs=outputs)
        done = invoke("models", "add", "mine.onnx", *SAID, *arguments)
        assert done.exit_code == code, done.output
        return done.output, [own.output for own in load(tmp_path / "site.toml").models.own]

    return add


def test_a_detector_of_torchvision_is_known_by_its_outputs(added, tmp_path):
    given = ("--box-format", "xyxy", "--coordinates", "pixels", "--labels", "mass,nodule,cavity=0.2")
    outputs = ("boxes", "scores", "labels")
    said, (output,) = added(networks.fcos(), "--activation", "none", *given, channels=3, outputs=outputs)
    assert (output.layout, output.format, output.normalised) == ("separate", "xyxy", False)
    assert [label.operating_point for label in output.labels] == [None, None, 0.2]
    assert re.search(r"  (mass|nodule|cavity)_1: 0\.\d{4}; left, top, right, bottom: ", said)
    with Image.open(tmp_path / "mine.png") as picture:
        red, _, blue = picture.convert("RGB").split()
        assert ImageChops.subtract(red, blue).getextrema()[1] > 200, "a box is drawn in its colour"


def test_what_rows_of_boxes_do_not_say_is_asked_for(added):
    said, none = added(networks.Given(**ROWS, layout="classes"), "--kind", "boxes", code=2)
    assert none == []
    for option in ("--layout (", "--box-format (", "--coordinates (", "--activation (", "--labels ("):
        assert option in said
    given = ("--kind", "boxes", "--layout", "classes", "--box-format", "xyxy", "--coordinates", "pixels")
    said, (output,) = added(
        networks.Given(**ROWS, layout="classes"), *given, "--activation", "none", "--labels", "mass,nodule"
    )
    assert output.layout == "classes"
    assert "nodule_1: 0.9000; left, top, right, bottom: " in said
    assert "mass_1: 0.6000; left, top, right, bottom: " in said
    assert "says the same of a black picture" in said


def test_a_detector_that_finds_nothing_is_doubted(added):
    given = ("--kind", "boxes", "--layout", "rows", "--box-format", "xyxy", "--coordinates", "pixels")
    quiet = ROWS | {"scores": [0.1, 0.2]}
    said, _ = added(networks.Given(**quiet, layout="rows"), *given, "--activation", "none", "--labels", "mass,nodule")
    assert "DOUBTFUL: no box at all" in said


def test_the_width_of_a_vector_is_that_of_the_output(added):
    said, (output,) = added(networks.made(networks.Classifier, outputs=5), "--kind", "embeddings")
    assert (output.kind, output.width) == ("embeddings", 5)
    assert re.search(r"  5 numbers, -?\d", said)
