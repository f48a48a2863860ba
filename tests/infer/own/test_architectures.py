"""Somebody's weights in our architectures: what PyTorch's own networks give, and files that lie refused in one line."""

import json
import struct
import tracemalloc

import pytest
import torch
import torchxrayvision as xrv
from safetensors.torch import save, save_file
from torchvision.models import resnet50
from torchxrayvision.baseline_models.chestx_det.ptsemseg.pspnet import pspnet

from cxr_dicom.errors import ModelError, SettingsError, WeightsError
from cxr_dicom.infer import weights
from cxr_dicom.infer.offline.unet import CompactUNet
from cxr_dicom.infer.own import architectures, tensors
from tests.infer.own.networks import SIZE, scores, table

MAKE = {
    "densenet121": lambda: xrv.models.DenseNet(num_classes=3, in_channels=3),
    "resnet50": lambda: resnet50(num_classes=3),
    "pspnet": lambda: pspnet(3),
    "unet": lambda: CompactUNet(widths=(8, 12, 16), stem=4, labels=3),
}


def made(name):
    torch.manual_seed(0)
    network = MAKE[name]().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training: else deep features fade or grow
            module.running_var.uniform_(0.5, 1.5)
    return network


@pytest.mark.parametrize("name", MAKE)
def test_it_gives_what_the_network_of_its_makers_gives(name, tmp_path):
    network = made(name)
    content = save(network.state_dict())
    run, channels = architectures.load(content, tmp_path, name, "cpu")
    pixels = torch.rand(1, channels, SIZE, SIZE)
    with torch.inference_mode():
        expected, (found, maps) = network(pixels), run(pixels)
    expected = expected[0] if isinstance(expected, tuple) else expected
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())
    assert (maps is not None) == (name in ("densenet121", "resnet50"))
    if maps is not None:  # the mean of a map is its logit, but for the bias
        layer = network.classifier if name == "densenet121" else network.fc
        assert (maps.mean(dim=(1, 2)) + layer.bias.detach() - expected[0]).abs().max() < 1e-4
    header = tensors.header(content)
    assert architectures.guess(header) == name
    assert architectures.look(content, name) == architectures.Look(
        channels=channels, outputs=3, gives=architectures.ALL[name].gives
    )


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    path = tmp_path_factory.mktemp("dense") / "mine.safetensors"
    torch.manual_seed(0)
    network = xrv.models.DenseNet(num_classes=2).eval()
    halves = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in network.state_dict().items()
    }
    save_file({name: tensor for name, tensor in halves.items() if "num_batches" not in name}, path)
    network.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in halves.items()})
    return path, network


def test_a_model_of_it_in_half_precision_scores_and_has_maps(dense, build, dx):
    path, network = dense
    model = build({**table(path, scores("pneumothorax", "mass", point=1e-9)), "architecture": "densenet121"})
    from tests.infer.own.test_scores_and_masks import upstream

    with torch.inference_mode():
        expected = network(upstream(dx, "crop"))[0].sigmoid().tolist()
    prediction = model.predict(dx, ())
    assert [finding.raw for finding in prediction.findings] == pytest.approx(expected, abs=1e-5)
    assert [heatmap.name for heatmap in prediction.heatmaps] == ["pneumothorax", "mass"]


def test_bytes_that_were_swapped_after_the_check_are_not_loaded(dense, tmp_path, build, monkeypatch):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(dense[0].read_bytes())
    verify = weights.verify

    def swapped(*given):
        lock = verify(*given)
        with path.open("r+b") as file:
            file.seek(-1, 2)
            file.write(b"\x01")
        return lock

    monkeypatch.setattr(weights, "verify", swapped)
    with pytest.raises(WeightsError, match="of a moment ago"):
        build({**table(path, scores("a", "b")), "architecture": "densenet121"})


def test_a_table_that_does_not_fit_says_what_was_expected(dense, tmp_path, build):
    given = {**table(dense[0], scores("a", "b"), channels=3), "architecture": "densenet121"}
    with pytest.raises((ModelError, SettingsError), match=r"input\.channels: the weights are of 1, got 3"):
        build(given)
    with pytest.raises(WeightsError, match=r"expected the weights of resnet50, found no weights conv1\.weight"):
        build({**table(dense[0], scores("a", "b")), "architecture": "resnet50"})
    with pytest.raises(
        ValueError, match=r"expected one of densenet121, .* for a .safetensors file, else none; got none"
    ):
        build(table(dense[0], scores("a", "b")))


# --- files that lie ------------------------------------------------------------------------------


def file(header, numbers=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + numbers


def one(dtype="F32", shape=(1,), place=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(place)}


MANY = one(shape=(10_000,), place=(4, 40_004))
LIES = {
    "nothing": (b"", "found 0 bytes"),
    "a length and no header": (struct.pack("<Q", 100), "with a header of 100"),
    "a header of 2^63 bytes": (file({}, length=1 << 63), "with a header of 9223372036854775808"),
    "a header of 2 MB": (file(b"{" + b" " * (2 << 20) + b"}"), "more than 1048576"),
    "nested without end": (file(b'{"a":' + b"[" * 200_000), "nested without end"),
    "no JSON": (file(b"{]"), "no JSON"),
    "a list": (file(b"[]"), "no JSON object"),
    "white space before it": (file(b' {"a":1}'), "no JSON object"),
    "not UTF-8": (file(b'{"\xff":1}'), "no JSON"),
    "no tensors": (file({}), "found 0 tensors"),
    "6000 tensors": (
        file({f"t{n}": one(place=(4 * n, 4 * n + 4)) for n in range(6000)}, bytes(24_000)),
        "found 6000 tensors",
    ),
    "a name twice": (file(b'{"a":1,"a":2}'), "found a name twice"),
    "an overlap": (file({"a": one(), "b": one(place=(2, 6))}, bytes(6)), "found 'b' at byte 2, expected 4"),
    "a gap": (file({"a": one(), "b": one(place=(8, 12))}, bytes(12)), "found 'b' at byte 8, expected 4"),
    "the same bytes for two": (file({"a": one(), "b": one()}, bytes(4)), "at byte 0, expected 4"),
    "bytes behind it": (file({"a": one()}, bytes(8)), "found 8 bytes of numbers, whose header needs 4"),
    "bytes that are missing": (file({"a": one()}), "found 0 bytes of numbers, whose header needs 4"),
    "a shape of more": (file({"a": one(shape=(1 << 40,))}, bytes(4)), "whose shape needs 4398046511104"),
    "a shape beyond counting": (file({"a": one(shape=(1 << 60, 1 << 60))}, bytes(4)), "a shape or place of 'a'"),
    "a place before the start": (file({"a": one(place=(-4, 0))}, bytes(4)), "a shape or place of 'a'"),
    "a truth for a length": (file({"a": one(shape=(True,))}, bytes(4)), "a shape or place of 'a'"),
    "a fraction for a length": (file({"a": one(shape=(1.0,))}, bytes(4)), "a shape or place of 'a'"),
    "an unknown type": (file({"a": one(dtype="F8_E4M3")}, bytes(4)), "the type 'F8_E4M3'"),
    "a list for a type": (file({"a": one(dtype=["F32"])}, bytes(4)), "the type ['F32']"),
    "a key more": (file({"a": {**one(), "code": "os.system"}}, bytes(4)), "found no type, shape and place"),
    "metadata with numbers": (file({"__metadata__": {"a": 1}, "a": one()}, bytes(4)), "metadata that is no text"),
    "a name that a terminal obeys": (file({"\x1b[2J\n": one()}, bytes(4)), "found no weights features.conv0.weight"),
    "a pickle": (b"\x80\x04cos\nsystem\n(S'touch ran'\ntR.", "with a header of"),
    "another network": (
        file({"features.conv0.weight": one(shape=(1, 1, 1, 1)), "classifier.weight": one(place=(4, 8))}, bytes(8)),
        "found 2 tensors, expected 727; missing: features.norm0.weight, ",
    ),
    "ten thousand labels": (
        file(
            {
                "features.conv0.weight": one(shape=(1, 1, 1, 1)),
                "classifier.weight": one(shape=(10_000,), place=(4, 40_004)),
            },
            bytes(40_004),
        ),
        "found 10000 outputs",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_file_that_lies_is_refused_in_one_line_and_costs_no_memory(name, tmp_path):
    content, expected = LIES[name]
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError) as refused:
            architectures.load(content, tmp_path / "mine.safetensors", "densenet121", "cpu")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "\x1b" not in str(refused.value)
    assert peak < 40 * len(content) + (24 << 20)


def test_a_shape_that_is_another_is_said_with_the_expected_one(tmp_path):
    state = made("unet").state_dict()
    wrong = save({**state, "fuse.0.weight": torch.zeros(8, 8, 3, 3)})
    with pytest.raises(WeightsError, match=r"found fuse\.0\.weight of 8 x 8 x 3 x 3, expected 8 x 12 x 3 x 3"):
        architectures.load(wrong, tmp_path, "unet", "cpu")
    whole = save({**state, "head.weight": state["head.weight"].long()})
    with pytest.raises(WeightsError, match=r"found whole numbers: head\.weight"):
        architectures.load(whole, tmp_path, "unet", "cpu")
    empty = save({**state, "down.0.0.0.weight": torch.zeros(1 << 40, 0, 3, 3)})
    with pytest.raises(WeightsError, match=r"expected 1 to 4096 of each"):
        architectures.load(empty, tmp_path, "unet", "cpu")
