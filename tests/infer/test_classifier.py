"""Classifiers against TorchXRayVision's own code path, and what is made of their scores."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torchxrayvision as xrv

from cxr_dicom.errors import ModelError
from cxr_dicom.infer import classifier, model_infos
from cxr_dicom.infer.findings import FINDINGS, names
from cxr_dicom.infer.models import chexpert, jfhealthcare, xrv_densenet121
from cxr_dicom.records import Presence

TOLERANCE = 1e-5


def upstream_densenet(home, name):
    return xrv.models.DenseNet(weights="densenet121-res224-" + name.removeprefix("xrv-densenet121-"))


def upstream_resnet(home, name):
    return xrv.models.ResNet(weights="resnet50-res512-all")


def upstream_jfhealthcare(home, name):
    return xrv.baseline_models.jfhealthcare.DenseNet()


def upstream_chexpert(home, name):
    return xrv.baseline_models.chexpert.DenseNet(weights_zip=str(home.weights(name)), num_models=1)


UPSTREAM = {
    **{info.name: upstream_densenet for info in xrv_densenet121.MODELS},
    "xrv-resnet50-all": upstream_resnet,
    "jfhealthcare": upstream_jfhealthcare,
    "chexpert": upstream_chexpert,
}


@pytest.fixture(autouse=True)
def small_and_offline(monkeypatch):
    """One member of the ensemble; and jfhealthcare does not fetch weights of ImageNet that it replaces at once."""
    monkeypatch.setattr(chexpert, "MEMBERS", 1)
    monkeypatch.setattr(torch.utils.model_zoo, "load_url", lambda url: {})


def upstream_scores(model, radiograph, upstream_input):
    with torch.no_grad():
        scores = model(upstream_input(radiograph))[0].tolist()
    thresholds = getattr(model, "op_threshs", None)
    return dict(
        zip(
            model.targets,
            zip(scores, [0.0] * len(scores) if thresholds is None else thresholds.tolist(), strict=True),
            strict=True,
        )
    )


@pytest.mark.parametrize("name", UPSTREAM)
def test_scores_are_those_of_torchxrayvision(name, home, rg1, dx, upstream_input, parity):
    ours = home.build(name)
    theirs = UPSTREAM[name](home, name)
    for image, radiograph in (("RG1", rg1), ("DX", dx)):
        found = {finding.name: finding for finding in ours.predict(radiograph, ()).findings}
        expected = upstream_scores(theirs, radiograph, upstream_input)
        assert len(found) == sum(bool(label) for label in expected)
        compared = {
            label: score for label, (score, threshold) in expected.items() if label and not math.isnan(threshold)
        }
        difference = max(abs(found[FINDINGS[label].name].probability - score) for label, score in compared.items())
        parity(name, image, f"{len(compared)} scores", f"{difference:.1e}")
        assert difference <= TOLERANCE
        assert any(0.01 < finding.raw < 0.99 for finding in found.values()), "saturated scores show nothing"


def test_a_finding_without_an_operating_point_is_indeterminate_and_keeps_its_raw_score(home, dx):
    prediction = home.build("xrv-resnet50-all").predict(dx, ())
    unknown = {finding.name: finding for finding in prediction.findings if finding.operating_point is None}
    assert set(unknown) == {"lung_lesion", "enlarged_cardiomediastinum"}
    for finding in unknown.values():
        assert finding.call is Presence.INDETERMINATE
        assert finding.probability == finding.raw


def test_scaling_is_that_of_torchxrayvision_to_the_bit():
    scores = np.random.default_rng(0).random(500).astype(np.float32)
    for known in xrv.models.model_urls.values():
        for threshold in classifier.thresholds(known.get("op_threshs", ())):
            if threshold is not None:
                theirs = xrv.models.op_norm(torch.from_numpy(scores)[:, None], torch.tensor([threshold])).flatten()
                ours = [classifier.calibrate(float(score), threshold) for score in scores]
                assert ours == theirs.tolist()
    assert classifier.calibrate(1.0, 1 - 1e-9) == 1  # in single precision that threshold is 1


@pytest.mark.parametrize("threshold", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("raw", [0.0, 0.009, 0.01, 0.3, 0.5, 0.9, 1.0])
def test_calibration_is_that_of_torchxrayvision(raw, threshold):
    expected = xrv.models.op_norm(torch.tensor([[raw]]), torch.tensor([threshold]))
    assert classifier.calibrate(raw, threshold) == pytest.approx(expected.item(), abs=TOLERANCE)
    assert classifier.calibrate(threshold, threshold) == pytest.approx(0.5)


def test_a_score_at_the_operating_point_is_a_call(home, dx):
    findings = home.build("xrv-densenet121-all").predict(dx, ()).findings
    calls = {finding.call for finding in findings}
    assert calls <= {Presence.PRESENT, Presence.ABSENT}
    for finding in findings:
        assert (finding.call is Presence.PRESENT) == (finding.probability >= 0.5)


@pytest.mark.parametrize(
    "info", [info for info in model_infos().values() if info.name in UPSTREAM], ids=lambda i: i.name
)
def test_predicts_names_the_targets_of_upstream(info, home):
    home.build(info.name)
    lock = json.loads((home.folder / info.weights_file).with_suffix(".lock.json").read_text())
    assert info.predicts == tuple(FINDINGS[label].name for label in lock["targets"] if label)


def test_titles_and_cards_say_what_upstream_ships():
    """How many findings, how many operating points where some are missing, and how many data sets."""
    known = {"xrv-resnet50-all": xrv.models.model_urls["resnet50-res512-all"]}
    for name, info in model_infos().items():
        if name.startswith("xrv-densenet121-"):
            known[name] = xrv.models.model_urls["densenet121-res224-" + name.removeprefix("xrv-densenet121-")]
        if name in known:
            labels = [label for label in known[name]["labels"] if label]
            points = [p for label, p in zip(known[name]["labels"], known[name]["op_threshs"], strict=True) if label]
            missing = [names(label)[0] for label, p in zip(labels, points, strict=True) if math.isnan(p)]
            assert info.title.startswith(f"{len(labels)} findings"), name
            assert ("operating points" in info.title) == bool(missing), name
            if missing:
                assert f", {len(labels) - len(missing)} with operating points," in info.title
                assert all(finding in info.failures[0] for finding in missing)
    sets = re.search("datasets: (.*) datasets", xrv.autoencoders.model_urls["101-elastic"]["description"])[1].split()
    assert len(sets) == 5
    assert "five public data sets" in model_infos()["xrv-resnetae"].title
    assert len(re.split(", | and ", model_infos()["xrv-resnetae"].trained_on.partition(", as upstream")[0])) == len(
        sets
    )


def test_heatmaps_are_of_the_findings_called_present_and_of_the_top_one(home, radiograph):
    prediction = home.build("xrv-densenet121-all").predict(radiograph, ())
    present = {finding.name for finding in prediction.findings if finding.call is Presence.PRESENT}
    top = max(prediction.findings, key=lambda finding: finding.probability).name
    assert {heatmap.name for heatmap in prediction.heatmaps} == present | {top}
    side = min(radiograph.image.shape)
    for heatmap in prediction.heatmaps:
        assert heatmap.values.dtype == np.float32
        assert heatmap.values.min() >= 0
        assert heatmap.values.max() == pytest.approx(1)
        assert heatmap.grid.shape == heatmap.values.shape == (224, 224)
        assert heatmap.grid.step == (side / 224, side / 224)


def test_a_linear_head_gives_the_gradient_map_without_gradients():
    """For a head that is linear behind a mean, Grad-CAM is the class activation map."""
    torch.manual_seed(0)
    features = torch.randn(1, 12, 7, 7, requires_grad=True)
    weight, bias = torch.randn(3, 12), torch.randn(3)
    logits, maps = classifier.pooled_linear(features, weight, bias)
    for index in range(3):
        (gradient,) = torch.autograd.grad(logits[index], features, retain_graph=True)
        expected = (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1)[0] * 49
        assert torch.allclose(maps[index], expected, atol=1e-5)
        assert torch.allclose(maps[index].mean() + bias[index], logits[index], atol=1e-5)


def test_the_map_of_jfhealthcare_adds_up_to_its_logit():
    """Average and maximum of each channel are sums over places: nothing of the score is left out."""
    torch.manual_seed(0)
    features = torch.randn(1, 6, 5, 4).relu()
    norm, linear = torch.nn.BatchNorm2d(12).eval(), torch.nn.Conv2d(12, 1, 1)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    with torch.no_grad():
        norm.weight.normal_()
        logit, activation = jfhealthcare.head(features, norm, linear)
        constant = linear(norm(torch.zeros(1, 12, 1, 1))).squeeze()
    assert activation.shape == (5, 4)
    assert torch.allclose(activation.mean() + constant, logit, atol=1e-5)


def test_the_map_points_at_the_place_that_decides(painted):
    """A network that looks at brightness alone: the heatmap is 1 where the bright spot was painted."""
    pixels = np.full((448, 320), -1024, np.float32)
    pixels[300:340, 40:80] = 1024

    def score(x):
        cells = torch.nn.functional.avg_pool2d((x + 1024) / 2048, 32)
        return torch.tensor([0.9]), cells[0]

    target = classifier.Target(finding=FINDINGS["Mass"], threshold=0.5)
    info = next(iter(model_infos().values()))
    model = classifier.Classifier(info=replace(info, input_size=320), score=score, targets=(target,), device="cpu")
    (heatmap,) = model.predict(painted(pixels), ()).heatmaps
    row, column = np.unravel_index(heatmap.values.argmax(), heatmap.values.shape)
    at_row = (row + 0.5) * heatmap.grid.step[0] + heatmap.grid.origin[0]
    at_column = (column + 0.5) * heatmap.grid.step[1] + heatmap.grid.origin[1]
    assert at_row == pytest.approx(320, abs=16)
    assert at_column == pytest.approx(60, abs=16)


def test_codes_are_distinct_and_fit_their_value_representations():
    codes = [kind.code for kind in FINDINGS.values()]
    assert len(set(codes)) == len(codes)
    for code in codes:
        assert len(code.value) <= 16
        assert len(code.meaning) <= 64


def test_the_chexpert_zip_must_be_whole(home, tmp_path, monkeypatch):
    monkeypatch.setattr(chexpert, "MEMBERS", 2)
    with pytest.raises(chexpert.WeightsError, match="2 checkpoints of each finding"):
        dict(chexpert._tensors(home.weights("chexpert")))


def test_a_network_that_fails_is_a_model_error(home, dx, painted):
    model = home.build("xrv-densenet121-all")

    def exhausted(pixels):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    with pytest.raises(ModelError, match=r"^xrv-densenet121-all: the network failed on cpu: CUDA out of memory\.$"):
        replace(model, score=exhausted).predict(dx, ())
    with pytest.raises(ModelError, match="not a number"):
        model.predict(painted(np.full((300, 300), np.nan)), ())


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("threads", [1], indirect=True)
@pytest.mark.parametrize("name", ["xrv-densenet121-all", "chexpert"])
@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch has no oneDNN on this machine")
@torch.inference_mode()
def test_with_one_thread_onednn_computes_convolutions_of_1_x_1(name, home):
    model = home.build(name)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
        model.score(torch.zeros(1, 1, model.info.input_size, model.info.input_size))
    ways = {event.name for event in profile.events() if event.input_shapes[1:2] and event.input_shapes[1][2:] == [1, 1]}
    assert "aten::mkldnn_convolution" in ways
    assert "aten::_slow_conv2d_forward" not in ways
