"""The page on your own model, run from an empty folder as it stands there, with the package from a wheel."""

import json
import os
import shutil
import subprocess
import sys
from zipfile import ZipFile

import pytest
from pyarrow import parquet
from pydicom import dcmread

from cxr_dicom import __version__
from tests import ROOT
from tests.plugins.tutorial import COMMANDS, FILES


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build a wheel from a copy of this tree, for building leaves files behind."""
    folder = tmp_path_factory.mktemp("tree")
    shutil.copytree(ROOT / "cxr_dicom", folder / "cxr_dicom", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    pip("wheel", "--no-build-isolation", "-w", folder / "dist", folder)
    (built,) = (folder / "dist").glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Install the wheel into an empty folder; what it depends on comes from this environment."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--target", folder, wheel)
    return folder


@pytest.fixture(scope="module")
def environment(installed, tmp_path_factory):
    """The commands of the page; pip takes the place to install to from its own environment variable."""
    tools = tmp_path_factory.mktemp("tools")
    for name, module in (("pip", "pip"), ("cxr-dicom", "cxr_dicom"), ("python", "")):
        run = f'"{sys.executable}" ' + (f"-m {module} " if module else "")
        (tools / name).write_text(f'#!/bin/sh\nexec {run}"$@"\n')
        (tools / name).chmod(0o755)
    return os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PIP_TARGET": str(installed),
        "PIP_NO_INDEX": "1",
        "PYTHONPATH": str(installed),
        "CXR_DICOM_MODELS__DEVICE": "cpu",
    }


def pip(command, *arguments):
    options = ("--quiet", "--no-deps", "--no-index", *map(str, arguments))
    subprocess.run([sys.executable, "-m", "pip", command, *options], check=True)


@pytest.fixture(scope="module")
def followed(environment, tmp_path_factory):
    """Do what the page says in an empty folder."""
    folder = tmp_path_factory.mktemp("empty")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    said = [
        subprocess.run(["bash", "-e", "-c", block], cwd=folder, env=environment, capture_output=True, text=True)
        for block in COMMANDS
    ]
    return folder, said


def test_the_wheel_has_every_file_of_the_package(wheel):
    there = {name for name in ZipFile(wheel).namelist() if name.startswith("cxr_dicom/")}
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cxr_dicom").rglob("*") if path.is_file()}
    assert there == {name for name in ours if "__pycache__" not in name}


def test_the_demo_runs_from_the_wheel(environment, installed, tmp_path):
    code = "import cxr_dicom, runpy, sys; print(cxr_dicom.__file__); runpy.run_module('cxr_dicom', run_name='__main__')"
    finished = subprocess.run(
        [sys.executable, "-c", code, "demo", "out"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr[-500:]
    assert finished.stdout.startswith(str(installed))
    assert {path.name.partition("-")[0] for path in tmp_path.rglob("*.dcm")} >= {"segmentation", "findings_report"}
    assert list(tmp_path.rglob("report.html"))


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
    assert {each["kind"] for each in row["objects"]} >= {"segmentation", "findings_report"}
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
