"""Networks that find boxes: their layouts, the way back to the radiograph, and what is wrong with some."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.ops import nms

from cxr_dicom.errors import ModelError, SettingsError
from cxr_dicom.records import Presence
from cxr_dicom.results.calibrate import file
from tests.infer.own import networks
from tests.infer.own.networks import SIZE, Given, boxes, table
from tests.infer.own.test_scores_and_masks import FITS
from tests.infer.test_placement import TURNS
from tests.infer.test_site import points

MARK = (100, 90, 180, 200)  # top, left, bottom, right of what was painted
LAYOUTS = {
    "separate": {},
    "separate, normalised centres": {"format": "cxcywh", "normalised": True},
    "rows": {"layout": "rows"},
    "rows of centres": {"layout": "rows", "format": "cxcywh"},
    "classes": {"layout": "classes", "normalised": True},
    "classes, across": {"layout": "classes", "format": "cxcywh", "across": True},
}


class Bright(nn.Module):
    """Finds the box around what is bright."""

    def __init__(self, layout="separate", normalised=False, across=False, **given):
        super().__init__()
        self.layout, self.normalised, self.across = layout, normalised, across
        self.format = given.get("format", "xyxy")

    def forward(self, pixels):
        bright = (pixels[0, 0] > 0.5).float()
        steps = torch.arange(SIZE, dtype=torch.float32)
        sides = []
        for axis in (0, 1):
            reached = bright.amax(axis) * (steps + 1)
            first = SIZE - (bright.amax(axis) * (SIZE - steps)).amax()
            sides.append((first, reached.amax()))
        (left, right), (top, bottom) = sides
        box = torch.stack([left, top, right, bottom])[None]
        if self.format == "cxcywh":
            box = torch.cat([(box[:, :2] + box[:, 2:]) / 2, box[:, 2:] - box[:, :2]], 1)
        box = box / SIZE if self.normalised else box
        one = box[:, :1] * 0
        if self.layout == "classes":
            rows = torch.cat([box, one + 0.25, one + 0.75], 1)
            return rows.transpose(0, 1)[None] if self.across else rows[None]
        if self.layout == "rows":
            return torch.cat([box, one + 0.75, one + 1], 1)[None]
        return box, one[0] + 0.75, one[0] + 1


def exported(network, path, layout="separate"):
    names = ("boxes", "scores", "labels") if layout == "separate" else ("out",)
    return networks.export(network, path, outputs=names)


@pytest.fixture(scope="module")
def bright(tmp_path_factory):
    return exported(Bright(), tmp_path_factory.mktemp("bright") / "network.onnx")


@pytest.fixture
def detect(tmp_path, build):
    """Predict with a network of given boxes, and what its table says of them."""
    numbers = itertools.count()

    def predict(radiograph, found, scores, numbers_of_labels, **given):
        network = Given(found, scores, numbers_of_labels, **given)
        path = exported(network, tmp_path / f"{next(numbers)}.onnx", network.layout)
        given.pop("across", None)
        return build(table(path, boxes("", "nodule", **given), fit="stretch")).predict(radiograph, ())

    return predict


@pytest.mark.parametrize("turn", TURNS, ids=str)
@pytest.mark.parametrize("fit", FITS)
def test_a_box_comes_back_where_the_mark_was_painted(fit, turn, bright, build, painted):
    top, left, bottom, right = MARK
    pixels = np.full((300, 260), -1024, np.float32)
    pixels[top:bottom, left:right] = 1024
    radiograph = painted(pixels, turn)
    (found,) = build(table(bright, boxes("", "nodule"), fit=fit)).predict(radiograph, ()).detections
    rows, columns = turn.to_source(pixels > 0).nonzero()
    there = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    pixel = 300 / SIZE  # of the network, on the image
    assert found.box == pytest.approx(there, abs=pixel)
    assert (found.name, found.number, found.score) == ("nodule", 1, 0.75)


@pytest.mark.parametrize("file", ["onnxruntime", "openvino", "torchscript"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_says_the_same(layout, file, tmp_path, build, painted):
    given = LAYOUTS[layout]
    pixels = np.full((SIZE, SIZE), -1024, np.float32)
    pixels[10:30, 20:50] = 1024
    network = Bright(**given)
    told = {key: value for key, value in given.items() if key != "across"}
    if file == "torchscript":
        path = tmp_path / "network.pt"
        torch.jit.trace(network, torch.rand(1, 1, SIZE, SIZE)).save(path)
        told |= {} if told.get("layout") else {"tensors": ("0", "1", "2")}
    else:
        path = exported(network, tmp_path / "network.onnx", network.layout)
    backend = {"backend": "openvino"} if file == "openvino" else {}
    prediction = build(table(path, boxes("", "nodule", **told)), **backend).predict(painted(pixels), ())
    (found,) = prediction.detections
    assert found.box == (20, 10, 50, 30)
    (finding,) = prediction.findings
    assert (finding.name, finding.raw, finding.operating_point) == ("nodule", 0.75, 0.5)
    assert finding.call is Presence.PRESENT


def test_boxes_that_overlap_are_suppressed_as_torchvision_does(detect, painted):
    chance = np.random.default_rng(0)
    corner = chance.uniform(0, 40, (200, 2))
    found = np.concatenate([corner, corner + chance.uniform(5, 20, (200, 2))], 1)
    scores = chance.uniform(0.5, 1, 200)
    radiograph = painted(np.zeros((SIZE, SIZE), np.float32))
    made = detect(radiograph, found, scores, [1] * 200, iou_threshold=0.3, max_boxes=500).detections
    kept = nms(torch.tensor(found).float(), torch.tensor(scores).float(), 0.3)
    assert 5 < len(kept) < 100
    assert [each.box for each in made] == [pytest.approx(found[place], abs=0.01) for place in kept.tolist()]
    assert [each.number for each in made] == list(range(1, len(kept) + 1))


def test_a_box_of_another_label_does_not_suppress(detect, painted):
    radiograph = painted(np.zeros((SIZE, SIZE), np.float32))
    labels = ("mass", "nodule")
    made = detect(radiograph, [[10, 10, 30, 30]] * 2, [0.9, 0.8], [0, 1], iou_threshold=0.3, names=labels)
    assert [(each.name, each.number) for each in made.detections] == [("mass", 1), ("nodule", 1)]


def test_a_label_has_its_own_threshold_which_calls_its_finding(detect, painted):
    radiograph = painted(np.zeros((SIZE, SIZE), np.float32))
    labels = [{"name": "mass", "operating_point": 0.9}, {"name": "nodule"}]
    made = detect(radiograph, [[10, 10, 30, 30]] * 2, [0.7, 0.7], [0, 1], labels=labels)
    assert [each.name for each in made.detections] == ["nodule"]
    assert [(f.raw, f.operating_point, f.call) for f in made.findings] == [
        (pytest.approx(0.7), 0.9, Presence.ABSENT),
        (pytest.approx(0.7), 0.5, Presence.PRESENT),
    ]


def test_a_point_of_the_site_moves_the_call_and_the_boxes_together(tmp_path, build, painted):
    path = exported(Given([[10, 10, 30, 30]], [0.4], [0]), tmp_path / "network.onnx")
    given, radiograph = table(path, boxes("mass")), painted(np.zeros((SIZE, SIZE), np.float32))
    model = build(given)
    assert model.predict(radiograph, ()).detections == ()
    info = model.info
    file.write(tmp_path / "site.toml", points(name="mine", version=info.version, weights_sha256=info.weights_sha256))
    made = build(given, operating_points=str(tmp_path / "site.toml")).predict(radiograph, ())
    (mass,) = made.findings
    assert (mass.operating_point, mass.site_point.upstream, mass.call) == (0.25, 0.5, Presence.PRESENT)
    assert [each.box for each in made.detections] == [(10, 10, 30, 30)]


@pytest.mark.parametrize("layout", ["separate", "rows", "classes"])
def test_without_a_box_a_finding_is_absent(layout, detect, painted):
    made = detect(painted(np.zeros((SIZE, SIZE), np.float32)), [], [], [], layout=layout)
    assert made.detections == ()
    assert [(finding.raw, finding.call) for finding in made.findings] == [(0, Presence.ABSENT)]


def test_a_hundred_thousand_boxes_are_bounded_and_said(detect, painted):
    count = 100_000
    chance = np.random.default_rng(0)
    corner = chance.uniform(0, 30, (count, 2))
    found = np.concatenate([corner, corner + 5], 1)
    scores = chance.uniform(0.5, 1, count)
    made = detect(painted(np.zeros((SIZE, SIZE), np.float32)), found, scores, [1] * count, max_boxes=7)
    assert [each.score for each in made.detections] == pytest.approx(sorted(scores)[:-8:-1])
    (warning,) = made.warnings
    assert warning == f"mine found {count} boxes; the 7 of highest score are reported"


def test_what_lies_beside_the_image_is_cut_or_left_out(tmp_path, build, painted):
    """The frame of ``pad`` is no part of the image, and a finding is not called for what is there alone."""
    found = [[-10, 20, 20, 40], [0, 0, 10, 64], [20, 60, 30, 90]]  # the image is the columns 16 to 48
    path = exported(Given(found, [0.9, 0.8, 0.7], [1, 1, 1]), tmp_path / "network.onnx")
    model = build(table(path, boxes("", "nodule"), fit="pad"))
    made = model.predict(painted(np.zeros((SIZE, SIZE // 2), np.float32)), ())
    assert [each.box for each in made.detections] == [(0, 20, 4, 40), (4, 60, 14, 64)]
    path = exported(Given(found[1:2], [0.8], [1]), tmp_path / "beside.onnx")
    made = build(table(path, boxes("", "nodule"), fit="pad")).predict(painted(np.zeros((64, 32), np.float32)), ())
    assert (made.detections, made.findings[0].call) == ((), Presence.ABSENT)


ODD = {
    "no number": ([[1, 2, float("nan"), 4]], [0.9], [1], {}, "a box that is not a number"),
    "a score that is no number": ([[1, 2, 3, 4]], [float("nan")], [1], {}, "a score that is not a number"),
    "corners that are inverted": ([[40, 2, 3, 50]], [0.9], [1], {}, "left before right.*got 40, 2, 3, 50"),
    "centre and size": ([[40, 40, 10, 10]], [0.9], [1], {}, "if centre and size, cxcywh"),
    "pixels": ([[1, 2, 30, 40]], [0.9], [1], {"normalised": True}, "expected boxes in 0 to 1, got 1, 2, 30, 40"),
    "fractions": ([[0.1, 0.2, 0.3, 0.4]], [0.9], [1], {}, "pixels of an input of 64, got 0.1, .* it is true"),
    "far": ([[1, 2, 9000, 40]], [0.9], [1], {}, "pixels of an input of 64, got 1, 2, 9000, 40"),
    "a label too many": ([[1, 2, 3, 4]], [0.9], [2], {}, "whole numbers of 0 to 1, the labels; got 2"),
    "a label of less than nothing": ([[1, 2, 3, 4]], [0.9], [-1], {"layout": "rows"}, "the labels; got -1"),
    "half a label": ([[1, 2, 3, 4]], [0.9], [0.5], {"layout": "rows"}, "the labels; got 0.5"),
    "logits": ([[1, 2, 3, 4]], [7], [1], {}, "got 7 to 7; if these are logits, it is sigmoid"),
}


@pytest.mark.parametrize("case", ODD)
def test_an_odd_box_fails_the_image(case, detect, painted):
    found, scores, numbers, given, expected = ODD[case]
    with pytest.raises((ModelError, SettingsError), match=expected):
        detect(painted(np.zeros((SIZE, SIZE), np.float32)), found, scores, numbers, **given)


def test_what_lies_below_the_threshold_may_be_odd(detect, painted):
    """As the rows that fill an output of fixed length are."""
    found = [[10, 10, 30, 30], [0, 0, 0, 0], [float("nan")] * 4, [5, 5, 1, 1]]
    made = detect(painted(np.zeros((SIZE, SIZE), np.float32)), found, [0.9, 0, 0, 0.1], [1, -1, 7, 0])
    assert [each.box for each in made.detections] == [(10, 10, 30, 30)]


def test_shapes_that_do_not_fit_are_told_at_the_start(tmp_path, build):
    path = exported(Given([[1, 2, 3, 4]], [0.9], [1], layout="rows"), tmp_path / "rows.onnx", "rows")
    with pytest.raises(SettingsError, match=r"layout is classes: expected \(images, boxes, 5\) by its labels"):
        build(table(path, boxes("nodule", layout="classes")))
    with pytest.raises(SettingsError, match=r"output\.tensors: the network has no output 'boxes', 'scores', 'labels'"):
        build(table(path, boxes("", "nodule")))
