"""``cxr-dicom cohort``: what it says before it begins, and what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image

from cxr_dicom.cohort.task import _whole

OFFLINE = ("--models", "offline-anatomy,lung-opacity", "--device", "cpu")


@pytest.fixture
def cohort(invoke, tmp_path):
    return lambda *arguments: invoke("cohort", *arguments, "-o", tmp_path / "out", *OFFLINE)


def test_a_dry_run_says_what_there_is_and_writes_nothing(cohort, inputs, tmp_path):
    result = cohort(inputs, "--dry-run", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "2 studies, 2 of them on this machine; 3 instances" in result.output
    assert "with 1 worker, " in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_in_json(cohort, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "in" / "chest.png")
    said = json.loads(cohort(tmp_path / "in", "--wrap", "--dry-run", "--json", "--workers", 3).stdout)
    assert (said["survey"]["entries"], said["survey"]["local"], said["workers"]) == (1, 1, 3)
    assert said["seconds"] > 0
    assert said["is_synthetic"]


def test_what_an_earlier_run_exported_is_not_counted(cohort, inputs, tmp_path):
    exported = tmp_path / "out" / "also" / "png"
    exported.mkdir(parents=True)
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(exported / "image.png")
    result = cohort(tmp_path, "--wrap", "--dry-run")
    assert result.stdout.startswith("0 studies")


@pytest.mark.parametrize("is_dry", [False, True])
@pytest.mark.parametrize(
    "asked", [("--also", "dicom"), ("--to", "nowhere"), ("--address", "auto"), ("--query", "PatientID=1")]
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(cohort, inputs, tmp_path, asked, is_dry):
    result = cohort(inputs, *asked, *(["--dry-run"] * is_dry))
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, []), result.output


@pytest.mark.parametrize(
    ("url", "row"),
    [
        ("https://pacs/dicom-web", "https://pacs/dicom-web/studies/1.2"),
        ("s3://bucket/series/a.dcm", "s3://bucket/series/a.dcm"),
    ],
)
def test_a_row_names_the_study_and_not_only_the_server(url, row):
    assert _whole(url, ["s3://bucket/series/*", "https://pacs/dicom-web/studies/1.2"]) == row
