"""The page on your own model, run from an empty folder as it stands there."""

import json
import os
import subprocess
import sys

import pytest
from pyarrow import parquet
from pydicom import dcmread

from cxr_dicom import __version__
from tests import ROOT
from tests.plugins.tutorial import COMMANDS, FILES


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    """Do what the page says; pip takes the place to install to from its own environment variable."""
    folder = tmp_path_factory.mktemp("empty")
    tools, installed = tmp_path_factory.mktemp("tools"), tmp_path_factory.mktemp("installed")
    for name, module in (("pip", "pip"), ("cxr-dicom", "cxr_dicom"), ("python", "")):
        run = f'"{sys.executable}" ' + (f"-m {module} " if module else "")
        (tools / name).write_text(f'#!/bin/sh\nexec {run}"$@"\n')
        (tools / name).chmod(0o755)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    environment = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PIP_TARGET": str(installed),
        "PIP_NO_INDEX": "1",
        "PYTHONPATH": f"{installed}:{ROOT}",
        "CXR_DICOM_MODELS__DEVICE": "cpu",
    }
    said = [
        subprocess.run(["bash", "-e", "-c", block], cwd=folder, env=environment, capture_output=True, text=True)
        for block in COMMANDS
    ]
    return folder, said


def test_the_commands_of_the_page_succeed(followed):
    _, said = followed
    assert [(each.returncode, each.stderr[-300:]) for each in said if each.returncode] == []
    assert "models        brightest" in said[0].stdout
    assert "[my-model 0.1.0]" in said[0].stdout


def test_the_results_say_which_package_made_them(followed):
    folder, _ = followed
    (row,) = [
        row
        for row in map(json.loads, (folder / "out/results.jsonl").read_text().splitlines())
        if row["outcome"] == "processed"
    ]
    assert [(each["name"], each["version"]) for each in row["models"]] == [("brightest", "1 (my-model 0.1.0)")]
    assert row["scores"]["brightest"]["call"] == "present"
    assert set(row["boxes"]) == {"brightest"}
    table = parquet.read_table(folder / "out/results.parquet").to_pylist()
    assert any("brightest" in column for column in table[0]), table[0].keys()
    assert "brightest" in (folder / "out/report.html").read_text()
    assert {each["kind"] for each in row["objects"]} == {"segmentation", "findings_report"}
    for each in row["objects"]:
        written = dcmread(folder / "out" / each["path"])
        (equipment,) = [e for e in written.ContributingEquipmentSequence if e.ManufacturerModelName == "brightest"]
        assert equipment.SoftwareVersions == "1 (my-model 0.1.0)"
        assert written.SoftwareVersions == __version__


def test_the_codes_of_the_label_are_in_segmentation_and_report(followed):
    folder, _ = followed
    (segmentation,) = map(dcmread, (folder / "out").rglob("segmentation-*.dcm"))
    (segment,) = segmentation.SegmentSequence
    assert segment.SegmentedPropertyTypeCodeSequence[0].CodeValue == "BRIGHTEST"
    (report,) = map(dcmread, (folder / "out").rglob("findings_report-*.dcm"))
    assert "99MYLAB" in report.to_json()
