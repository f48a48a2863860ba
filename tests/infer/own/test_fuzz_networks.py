"""Networks of strangers, and what they give, as nobody thought of it: taken, or refused in one line; nothing runs."""

import json
import math
import time
import zipfile

import numpy as np
import pytest
import safetensors
import torch
from hypothesis import strategies as st
from safetensors.torch import load, save

from cxr_dicom.errors import ModelError, WeightsError
from cxr_dicom.infer import own
from cxr_dicom.infer.contract import problem
from cxr_dicom.infer.onnx import graph
from cxr_dicom.infer.onnx.refusal import RefusedError
from cxr_dicom.infer.own import bundle, outputs, tensors
from tests.fuzzing import damaged, fuzz
from tests.infer.onnx import hostile_onnx
from tests.infer.own import bundles
from tests.infer.own.conftest import settings
from tests.infer.own.networks import boxes, masks, scores, table

SECONDS = 5.0  # of the processor, for files of some kilobytes


def refused(read, *arguments, by):
    """Whether it is refused, as it should be: by one error, in one line."""
    start, said = time.process_time(), ""
    try:
        read(*arguments)
    except by as error:
        said = str(error)
        assert said
    assert "\n" not in said
    assert time.process_time() - start < SECONDS
    return bool(said)


def test_onnx():
    harmless = hostile_onnx.well().SerializeToString()
    corpus = [harmless, *(content for content, _ in hostile_onnx.files().values() if len(content) < 5000)]
    assert not refused(graph.check, harmless, 1, hostile_onnx.SIZE, by=RefusedError)

    def check(content, grows):
        refused(lambda: graph.check(content, 1, hostile_onnx.SIZE, grows=grows), by=RefusedError)

    fuzz(check, damaged(corpus), st.booleans(), examples=60)


def test_safetensors():
    content = save({"a": torch.arange(6.0).reshape(2, 3), "b.c": torch.zeros(2, dtype=torch.int64)}, {"about": "x"})
    numbers = st.integers(-1, 40) | st.sampled_from([1 << 32, 1 << 62, 1 << 64])
    part = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "I64", "U8", "F8_E4M3", "x"]),
            "shape": st.lists(numbers, max_size=3),
            "data_offsets": st.lists(numbers, min_size=1, max_size=3),
        }
    )
    headers = st.dictionaries(st.sampled_from(["a", "b", "__metadata__", "é"]), part, max_size=3)
    written = st.tuples(headers, st.integers(0, 64)).map(lambda made: _written(*made))

    def check(content):
        if refused(tensors.header, content, by=tensors.RefusedError):
            return
        shapes = tensors.header(content).shapes
        try:
            found = load(content)  # what we take, their reader takes, and sees the same in it
        except safetensors.SafetensorError as error:
            pytest.fail(f"taken by us alone: {error}")
        assert {name: tuple(each.shape) for name, each in found.items()} == dict(shapes)

    fuzz(check, damaged([content]) | written, examples=120)


def _written(header, count):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(count)


def test_metadata_of_bundles():
    keys = [*bundles.METADATA, *bundles.METADATA["network_data_format"]["inputs"]["image"], "inputs", "outputs", "pred"]
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["$import os", "image", "*", "16*n"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(keys), inner, max_size=4),
        max_leaves=10,
    )
    changed = st.builds(
        bundles.metadata,
        st.sampled_from(["inputs", "outputs"]),
        **dict.fromkeys(("spatial_shape", "num_channels", "value_range", "channel_def", "type", "format"), values),
    )
    written = st.one_of(values, changed).map(lambda value: json.dumps(value).encode())

    def check(content):
        if not refused(bundle.format_of, content, by=bundle.RefusedError):
            found = bundle.format_of(content)
            assert found.channels in (None, 1, 3)
            assert found.range is None or all(map(math.isfinite, found.range))
            assert not any(text.lstrip().startswith("$") for text in found.about.values())

    fuzz(check, written | damaged([json.dumps(bundles.METADATA).encode()]), examples=100)


def test_archives_of_bundles(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = bundles.write(tmp_path / "made", network="none")
    (folder / "models" / "model.pt").write_bytes(b"weights")
    path = tmp_path / "bundle.zip"
    whole = bundles.zipped(folder, path).read_bytes()
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("made/../../escaped.json", "{}")
    corpus = [whole, path.read_bytes()]

    def check(content):
        path.write_bytes(content)
        refused(bundle.read, path, by=WeightsError)
        assert sorted(each.name for each in tmp_path.iterdir()) == ["bundle.zip", "made"], "nothing beside it"

    fuzz(check, damaged(corpus), examples=60)


NUMBERS = st.sampled_from([0.0, 1.0, 0.5, -1.0, 2.0, 31.5, 64.0, 1e9, -1e38, math.nan, math.inf, 0.49999])
OUTPUTS = {
    "boxes in rows": boxes("mass", "nodule", layout="rows", score_threshold=0.5),
    "boxes by classes": boxes("mass", "nodule", layout="classes", score_threshold=0.5, normalised=True),
    "scores": scores("mass", "nodule", activation="none"),
    "masks": masks("", "heart", activation="labels"),
    "values": {"kind": "values", "labels": [{"name": "height", "unit": "mm", "code": ["1", "99X", "Height"]}]},
    "heatmaps": {"kind": "heatmaps", "labels": [{"name": "mass"}], "activation": "sigmoid"},
    "embeddings": {"kind": "embeddings", "width": 4},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", OUTPUTS)
def test_what_a_network_gives(kind, dx, tmp_path):
    """A prediction that keeps to the contract, or an error of the model: never an image with half of it."""
    given = settings(table(tmp_path / "own.onnx", OUTPUTS[kind])).models.own[0]
    info = own._info(given)
    taken = []

    def check(shape, numbers):
        values = np.resize(np.array(numbers, np.float32), shape)
        found = torch.from_numpy(values)
        network = outputs.model(given, info, lambda pixels: (found, None), "cpu")
        if refused(outputs.expect_fit, given, info, found, by=ModelError):
            return
        if not refused(lambda: taken.append(network.predict(dx, ())), by=ModelError):
            assert problem(taken[-1], info, dx.image) == ""

    sides = st.sampled_from([1, 2, 4, 6, 8])
    shapes = st.lists(sides, min_size=1, max_size=3).map(lambda rest: (1, *rest))
    numbers = st.lists(NUMBERS, min_size=1, max_size=12)
    fuzz(check, shapes | st.sampled_from([(1, 8, 6), (1, 2), (1, 1, 8, 8), (1, 4)]), numbers, examples=60)
    assert taken, "all was refused: nothing was tried"
