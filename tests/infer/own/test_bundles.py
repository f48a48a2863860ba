"""MONAI bundles: read as data, and what is not one for a radiograph refused in one line, with nothing run."""

import json
import zipfile

import numpy as np
import pytest
import torch

from cxr_dicom.errors import WeightsError
from cxr_dicom.infer.own.look import look
from tests import ROOT
from tests.infer.own import bundles, networks
from tests.infer.own.test_architectures import LIES

PACKED = ("an import", "YAML with an escape", "metadata of 2 MB", "a pickle that runs", "no network", "150 configs")
NUMBERED = {"spatial_shape": ["16*n", "16*n"], "value_range": [0, float("inf")]}


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    assert list((tmp_path / "here").iterdir()) == [], "something ran, or was written"


@pytest.mark.parametrize("packed", [False, True])
def test_a_bundle_says_what_its_metadata_says(packed, tmp_path):
    path = bundles.write(tmp_path / "chest_segmentation")
    network = (path / "models" / "model.ts").read_bytes()
    path = bundles.zipped(path, tmp_path / "chest_segmentation_v0.1.0.zip") if packed else path
    facts = look(path)
    assert facts.content == network
    assert (facts.channels, facts.size, facts.range, facts.kind) == (1, 64, (0.0, 1.0), "masks")
    assert (facts.labels, facts.licence) == (("background", "right lung", "heart"), "Apache-2.0")
    assert (facts.citation, facts.title) == ("Nobody et al. 2026", "Segmentation of lungs and heart")
    assert (facts.name, facts.place is None) == ("chest-segmentation", packed)
    assert "LoadImaged, ScaleIntensityd" in facts.notes[0] or "ScaleIntensityd, LoadImaged" in facts.notes[0]


def test_a_formula_for_a_size_and_an_infinite_range_are_left_open(tmp_path):
    path = bundles.write(tmp_path / "bundle", content=bundles.metadata(**NUMBERED))
    facts = look(path, metadata_only=True)
    assert (facts.size, facts.range) == (None, None)
    assert look(path).range == (0.0, 1.0), "its preprocessing says one"


def test_onnx_in_a_bundle_and_the_metadata_that_a_program_carries(tmp_path):
    path = bundles.write(tmp_path / "bundle", network="none")
    networks.export(networks.made(networks.Segmenter, outputs=3), path / "models" / "model.onnx")
    facts = look(path)
    assert facts.outputs[0].shape == (1, 3, 64, 64)
    program = torch.jit.trace(networks.made(networks.Segmenter, outputs=3), torch.rand(1, 1, 64, 64))
    extra = {"metadata.json": json.dumps(bundles.METADATA), "inference.json": json.dumps(bundles.IMPORTS)}
    torch.jit.save(program, tmp_path / "exported.ts", _extra_files=extra)
    assert look(tmp_path / "exported.ts").labels == facts.labels


@pytest.mark.parametrize("name", bundles.HOSTILE)
def test_a_hostile_bundle_is_refused_in_one_line_and_nothing_of_it_runs(name, tmp_path):
    make, expected = bundles.HOSTILE[name]
    path = tmp_path / "bundle"
    make(path)
    if name in PACKED:
        path = bundles.zipped(path, tmp_path / "bundle.zip")
    with pytest.raises(WeightsError) as refused:
        look(path)
    text = str(refused.value)
    assert expected in text
    assert "\n" not in text
    assert len(text) < 700


def test_code_is_left_alone_where_that_is_asked_for(tmp_path):
    path = bundles.write(tmp_path / "bundle", inference=bundles.IMPORTS)
    with pytest.raises(WeightsError, match=r"'\$import os'|os\.system.*--metadata-only"):
        look(path)
    assert look(path, metadata_only=True).labels == ("background", "right lung", "heart")


def _two_roots(path, folder):
    bundles.zipped(folder, path, **{"other/configs/metadata.json": "{}"})


def _one_name_twice(path, folder):
    with pytest.warns(UserWarning, match="Duplicate name"):
        bundles.zipped(folder, path, **{f"{folder.name}/configs/metadata.json": "{}"})


def _bomb(path, folder):
    (folder / "models" / "model.ts").unlink()
    bundles.zipped(folder, path, **{f"{folder.name}/models/model.onnx": bytes(64 << 20)})


def _password(path, folder):
    bundles.zipped(folder, path)
    content = bytearray(path.read_bytes())
    place = content.rfind(b"PK\x01\x02", 0, content.find(b"models/model.ts", content.find(b"PK\x01\x02")))
    content[place + 8] |= 1
    path.write_bytes(content)


def _cut(path, folder):
    content = bundles.zipped(folder, path).read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _damaged(path, folder):
    content = bytearray(bundles.zipped(folder, path).read_bytes())
    place = content.find(b"models/model.ts") + 200
    content[place : place + 64] = np.random.default_rng(0).bytes(64)
    path.write_bytes(content)


def _too_many(path, folder):
    bundles.zipped(folder, path)
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(10_001):
            archive.writestr(f"b/{number}", "")


ARCHIVES = {
    "two bundles": (_two_roots, "found configs/metadata.json 2 times"),
    "one name twice": (_one_name_twice, "found a name twice"),
    "a bomb": (_bomb, "found models/model.onnx of more than"),
    "a password": (_password, "with a password"),
    "half of it": (_cut, "found no list of its files"),
    "a damaged member": (_damaged, "found a damaged one"),
    "10,000 files": (_too_many, "expected at most 10000 files"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_hostile_archive_is_refused_in_one_line(name, tmp_path):
    make, expected = ARCHIVES[name]
    make(tmp_path / "bundle.zip", bundles.write(tmp_path / "bundle"))
    with pytest.raises(WeightsError) as refused:
        look(tmp_path / "bundle.zip")
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_names_of_an_archive_are_no_paths(tmp_path):
    folder = bundles.write(tmp_path / "bundle")
    facts = look(bundles.zipped(folder, tmp_path / "bundle.zip", root="../../etc"))
    assert facts.network == "etc.ts"
    facts = look(bundles.zipped(folder, tmp_path / "up.zip", root="../.."))
    assert facts.network == "model.ts"


def test_they_are_as_many_as_documented():
    count = len(bundles.HOSTILE) + len(ARCHIVES) + len(LIES)
    assert f"of {count} hostile bundles and files" in (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
