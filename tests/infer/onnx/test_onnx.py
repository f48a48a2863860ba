"""An ONNX file runs only if it is one graph of standard operators whose results are bounded."""

import os
import re
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cxr_dicom.config import Settings
from cxr_dicom.errors import WeightsError
from cxr_dicom.infer.onnx import graph, operators, read
from cxr_dicom.records import ModelInfo
from tests import ROOT
from tests.infer.onnx import hostile_onnx

HOSTILE = hostile_onnx.files()
INFO = ModelInfo(
    name="mine",
    version="1",
    title="",
    predicts=(),
    input_size=hostile_onnx.SIZE,
    manufacturer="",
    licence="",
    citation="",
)


def opened(path, **options):
    return read(path, INFO, Settings(), 1, "cpu", threads=1, **options)


@pytest.fixture
def no_runtime(monkeypatch):
    """A runtime that sees a file fails the test."""
    from cxr_dicom.infer import onnx as package

    monkeypatch.setattr(package, "_runtime", lambda *_: pytest.fail("a runtime saw the file"))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line_before_a_runtime_sees_it(name, tmp_path, monkeypatch, no_runtime):
    monkeypatch.chdir(tmp_path)
    content, expected = HOSTILE[name]
    path = tmp_path / "network.onnx"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=re.escape(expected)) as refused:
        opened(path)
    text = str(refused.value)
    assert text.startswith(f"{path}: expected a network of standard operators, found ")
    assert "\n" not in text
    assert list(tmp_path.iterdir()) == [path]


def test_more_operators_than_any_network_has_are_refused(tmp_path, monkeypatch, no_runtime):
    path = tmp_path / "network.onnx"
    path.write_bytes(hostile_onnx.well().SerializeToString())
    monkeypatch.setattr(graph, "_MOST_NODES", 0)
    with pytest.raises(WeightsError, match="found 1 operators, more than 0"):
        opened(path)


DETECTION = """
import sys
from pathlib import Path

import numpy as np
from cxr_dicom.infer import onnx
from tests.infer.onnx.test_onnx import opened

onnx.MOST_MEMORY = 16 << 20
found = opened(Path(sys.argv[1]), grows=True)
for count in (10, 64 * 64):
    pixels = np.zeros(64 * 64, np.float32)
    pixels[:count] = 1
    try:
        print(found.compute(pixels.reshape(1, 1, 64, 64))["out"].max())
    except Exception as error:
        print(type(error).__name__)
"""


def test_a_result_of_any_size_ends_at_the_bound(tmp_path):
    nodes = [
        hostile_onnx.node("NonZero", outputs=("places",)),
        hostile_onnx.node("Cast", ("places",), ("those",), to=1),
        hostile_onnx.node("Transpose", ("those",), ("turned",)),
        hostile_onnx.node("MatMul", ("turned", "those"), ("each with each",)),  # 64 MB, where all are there
        hostile_onnx.node("ReduceMax", ("each with each",), ("largest",), keepdims=0),
        hostile_onnx.node("Add", ("pixels", "largest")),
    ]
    path = tmp_path / "detector.onnx"
    path.write_bytes(hostile_onnx.well(nodes).SerializeToString())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DETECTION, path]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    few, many = finished.stdout.splitlines()
    assert float(few) == 1 + 9 * 9
    assert many == "ModelError"


def test_they_are_as_many_as_documented_and_the_one_that_they_were_made_of_runs(tmp_path):
    assert len(HOSTILE) == 47, "docs/security.md says how many"
    path = tmp_path / "network.onnx"
    path.write_bytes(hostile_onnx.well().SerializeToString())
    assert opened(path).compute(np.ones((1, 1, 64, 64), np.float32))["out"].max() == 9


@pytest.mark.parametrize("shape", [(1,), (1, 1, 1), (64, 1), (1, 64, 64)])
def test_a_slope_as_onnx_has_it_is_taken(tmp_path, shape):
    path = tmp_path / "network.onnx"
    slope = numpy_helper.from_array(np.full(shape, 0.5, np.float32), "slope")
    path.write_bytes(hostile_onnx.well([hostile_onnx.node("PRelu", ("pixels", "slope"))], [slope]).SerializeToString())
    assert opened(path).compute(np.full((1, 1, 64, 64), -2, np.float32))["out"].min() == -1


def test_every_operator_on_the_list_is_one_of_onnx():
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    assert known >= operators.OPERATORS >= operators.KEEPING
    touching = ("Random", "Sequence", "String", "Optional", "Loop", "Scan", "Image", "Multinomial", "Bernoulli")
    assert not [name for name in operators.OPERATORS if name.startswith(touching)]


def test_a_damaged_file_is_refused_wherever_it_is_cut_or_flipped(tmp_path):
    """As a fuzzer: whatever comes, the answer is a network or one line."""
    from cxr_dicom.infer.onnx.refusal import RefusedError

    whole = hostile_onnx.well().SerializeToString()
    chance = np.random.default_rng(0)
    answers = {"network": 0, "refused": 0}
    for number in range(len(whole) + 1500):
        content = bytearray(whole[:number] if number < len(whole) else whole)
        if number >= len(whole):
            for place in chance.integers(0, len(whole), 3):
                content[place] = chance.integers(0, 256)
        try:
            graph.check(bytes(content), 1, 64)
            answers["network"] += 1
        except RefusedError:
            answers["refused"] += 1
    assert min(answers.values()) > 10


GROWTH = """
import sys
from pathlib import Path

import onnx, onnxruntime, psutil, torch
from cxr_dicom.infer.onnx import graph
from tests.infer.onnx.test_onnx import opened

opened(Path(sys.argv[1]))  # what the libraries themselves take, once
before = psutil.Process().memory_info().rss
kept = opened(Path(sys.argv[2]))
print(psutil.Process().memory_info().rss - before)
"""


def test_a_file_of_100_megabytes_costs_little_more_than_its_own_memory(tmp_path):
    small, large = tmp_path / "small.onnx", tmp_path / "large.onnx"
    for path, columns in ((small, 1), (large, 6000)):
        nodes = [
            hostile_onnx.node("Flatten", ("pixels",), ("flat",)),
            hostile_onnx.node("Gemm", ("flat", "w"), ("sums",)),
            hostile_onnx.node("ReduceSum", ("sums",), ("sum",), keepdims=0),
            hostile_onnx.node("Add", ("pixels", "sum")),
        ]
        weights = [numpy_helper.from_array(np.ones((64 * 64, columns), np.float32), "w")]
        path.write_bytes(hostile_onnx.well(nodes, weights).SerializeToString())
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", GROWTH, small, large]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert int(finished.stdout) < 1.3 * large.stat().st_size
