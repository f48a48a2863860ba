"""A network of the user's, from a table in the settings to objects, tables, report, list and card."""

import csv
import json
import tomllib

import numpy as np
import pytest
from pydicom import dcmread

from cxr_dicom import read_results, synthetic
from cxr_dicom.config import load
from tests import validators
from tests.infer.own import networks
from tests.plugins.tutorial import FILES

TOML = """
[models]
names = ["outlines", "scores", "finder", "vectors"]
device = "cpu"

[[models.own]]
name = "outlines"
file = "{folder}/masks.onnx"
input = {{ size = 64, range = [0.0, 1.0], fit = "pad" }}
output = {{ kind = "masks", activation = "none", labels = [{{ name = "right_lung" }}, {{ name = "cavity" }}] }}
licence = "CC-BY-4.0"
citation = "nobody"

[[models.own]]
name = "scores"
file = "{folder}/scores.onnx"
input = {{ size = 64, range = [0.0, 1.0], fit = "pad" }}
output = {{ kind = "scores", activation = "sigmoid", labels = [
  {{ name = "pneumothorax", operating_point = 0.1, radelement = "RDES999999" }},
  {{ name = "cavity", operating_point = 0.9 }}, {{ name = "" }}
] }}
licence = "MIT"
citation = "nobody"

[[models.own]]
name = "finder"
file = "{folder}/boxes.onnx"
input = {{ size = 64, range = [0.0, 1.0], fit = "pad" }}
output = {{ kind = "boxes", layout = "separate", labels = [{{ name = "" }}, {{ name = "nodule" }}] }}
licence = "MIT"
citation = "nobody"

[[models.own]]
name = "vectors"
file = "{folder}/scores.onnx"
input = {{ size = 64, range = [0.0, 1.0], fit = "pad" }}
output = {{ kind = "embeddings", width = 3 }}
licence = "MIT"
citation = "nobody"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two networks, their settings, a study, and what `run` made of it."""
    folder = tmp_path_factory.mktemp("own")
    networks.export(networks.Halves(), folder / "masks.onnx")
    networks.export(networks.made(networks.Classifier), folder / "scores.onnx")
    found = [[20, 10, 50, 30], [30, 30, 40, 40]]
    networks.export(
        networks.Given(found, [0.75, 0.625], [1, 1]), folder / "boxes.onnx", outputs=("boxes", "scores", "labels")
    )
    (folder / "site.toml").write_text(TOML.format(folder=folder))
    synthetic.write_study(folder / "images", [synthetic.radiograph()])
    return folder


@pytest.fixture(scope="module")
def ran(folder, invoke):
    out = folder / "out"
    done = invoke("run", folder / "images", "-o", out, "--config", folder / "site.toml", "--engine", "here")
    assert done.exit_code == 0, done.output
    (row,) = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    return out, row


def test_what_it_finds_is_in_every_object_and_table(ran):
    out, row = ran
    assert [model["name"] for model in row["models"]] == ["outlines", "scores", "finder", "vectors"]
    assert all("ONNX Runtime" in model["version"] and len(model["weights_sha256"]) == 64 for model in row["models"])
    assert set(row["scores"]) == {"pneumothorax", "cavity", "nodule"}
    assert [each["score"] for each in row["detections"]["nodule"]] == [0.75, 0.625]
    assert "nodule_detections" in (out / "results.csv").read_text()
    assert row["scores"]["pneumothorax"]["call"] == "present"
    (line,) = csv.DictReader((out / "results.csv").read_text().splitlines())
    assert any(key.startswith("right_lung") for key in line)
    assert any(key.startswith("pneumothorax") for key in line)
    objects = {row["kind"]: dcmread(out / row["path"]) for row in row["objects"]}
    assert {"segmentation", "findings_report", "structure_report", "detection_report"} <= set(objects)
    segments = objects["segmentation"].SegmentSequence
    assert [segment.SegmentLabel for segment in segments] == ["Right lung", "Cavity"]
    for each in row["objects"]:
        assert validators.errors(validators.dciodvfy(out / each["path"])) == [], each["kind"]


def test_a_radelement_stands_beside_the_code_of_a_finding(ran):
    out, row = ran
    (path,) = (each["path"] for each in row["objects"] if each["kind"] == "findings_report")
    found = []

    def look(dataset, element):
        if element.keyword == "EquivalentCodeSequence":
            (item,) = element.value
            found.append((dataset.CodeValue, item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning))

    dcmread(out / path).walk(look)
    assert set(found) == {("36118008", "RDES999999", "RADELEMENT", "Pneumothorax")}


def test_an_object_declares_the_scheme_of_a_concept_without_a_code(ran):
    out, row = ran
    for written in row["objects"]:
        dataset = dcmread(out / written["path"])
        declared = {item.CodingSchemeDesignator for item in dataset.CodingSchemeIdentificationSequence}
        used = set()
        dataset.walk(lambda _, e, used=used: used.add(e.value) if e.keyword == "CodingSchemeDesignator" else None)
        assert {scheme for scheme in used if scheme.startswith("99")} <= declared, written["kind"]
    assert (
        "99CXRSITE" in dcmread(out / next(o for o in row["objects"] if o["kind"] == "segmentation")["path"]).to_json()
    )


def test_the_report_says_what_it_is_and_under_which_licence(ran):
    out, _ = ran
    page = (out / "report.html").read_text()
    assert "2 masks of masks.onnx" in page
    assert "Boxes with 1 labels of boxes.onnx" in page
    assert "<b>Boxes</b>" in page
    assert "CC-BY-4.0" in page
    assert str(out.parent) not in (out / "run.json").read_text().replace(json.dumps(str(out)), "")


def test_list_and_card_show_it(folder, ran, invoke):
    listed = invoke("models", "list", "--config", folder / "site.toml", "--json", "scores")
    row = json.loads(listed.output)
    assert (row["is_present"], row["licence"], row["input_size"]) == (True, "MIT", 64)
    card = invoke("models", "card", "scores", "--config", folder / "site.toml").output
    assert "pneumothorax: 0.1" in card
    assert row["weights_sha256"] in card
    others = map(json.loads, invoke("models", "list", "--json").output.splitlines())
    assert "scores" not in {other["name"] for other in others}, "it is of these settings alone"


def test_workers_write_the_same_bytes(folder, ran, invoke):
    out, _ = ran
    run = ("run", folder / "images", "-o", folder / "workers", "--config", folder / "site.toml", "-q")
    assert invoke(*run, "--engine", "local", "--workers", "1").exit_code == 0
    objects = [{path.name: path.read_bytes() for path in place.rglob("*.dcm")} for place in (folder / "workers", out)]
    assert objects[0] == objects[1]
    here, there = (read_results(place).embeddings for place in (out, folder / "workers"))
    (uid,) = here
    assert here[uid]["vectors"].shape == (3,)
    assert np.array_equal(here[uid]["vectors"], there[uid]["vectors"])
    assert not [each for each in objects[0].values() if here[uid]["vectors"].tobytes() in each]


def test_results_are_used_again_until_the_table_or_the_file_changes(folder, ran, invoke):
    out, _ = ran
    run = ("run", folder / "images", "-o", out, "--config", folder / "site.toml", "--engine", "here", "-q")

    def written():
        assert invoke(*run).exit_code == 0
        return {path: path.stat().st_mtime_ns for path in out.rglob("*.dcm")}

    first = written()
    assert written() == first
    text = (folder / "site.toml").read_text()
    (folder / "site.toml").write_text(text.replace("operating_point = 0.9", "operating_point = 0.8"))
    assert written() != first
    (folder / "site.toml").write_text(text)


def test_the_table_of_the_page_is_one(tmp_path):
    content = tomllib.loads(FILES["cxr-dicom.toml"])
    path = tmp_path / "cxr-dicom.toml"
    path.write_text(FILES["cxr-dicom.toml"])
    (own,) = load(path).models.own
    assert own.name == content["models"]["names"][1]
