"""What ``cxr-dicom run`` takes, what it says before it begins, and what it refuses."""

import json

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.data import get_testdata_file

OFFLINE = ("--models", "offline-anatomy,lung-opacity", "--device", "cpu")


@pytest.fixture
def ask(invoke, tmp_path):
    """Call ``run`` with these arguments, and OUT in an empty folder."""
    return lambda *arguments: invoke("run", *arguments, "-o", tmp_path / "out", *OFFLINE)


def test_a_dry_run_says_what_there_is_and_writes_nothing(ask, inputs, tmp_path):
    result = ask(inputs, "--dry-run", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert "2 studies, 2 of them on this machine; 3 instances" in result.output
    assert "with 1 worker, " in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_in_json(ask, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(tmp_path / "in" / "chest.png")
    said = json.loads(ask(tmp_path / "in", "--wrap", "--dry-run", "--json", "--workers", 3).stdout)
    assert (said["survey"]["entries"], said["survey"]["local"], said["workers"]) == (1, 1, 3)
    assert said["seconds"] > 0
    assert said["is_synthetic"]


def test_what_an_earlier_run_exported_is_not_counted(ask, inputs, tmp_path):
    exported = tmp_path / "out" / "also" / "png"
    exported.mkdir(parents=True)
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(exported / "image.png")
    result = ask(tmp_path, "--wrap", "--dry-run")
    assert result.stdout.startswith("0 studies")


@pytest.mark.parametrize("is_dry", [False, True])
@pytest.mark.parametrize(
    "asked",
    [
        ("--also", "dicom"),
        ("--to", "nowhere"),
        ("--wrap", "--to", "archive"),
        ("--address", "auto"),
        ("--engine", "slurm"),
        ("--engine", "here", "--workers", "2"),
        ("--from", "nowhere"),
        ("--from", "https://a:b@c"),
        ("--query", "PatientID=1"),
        ("--query", "PatientID"),
        ("nothing.csv",),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(ask, inputs, tmp_path, asked, is_dry):
    result = ask(inputs, *asked, *(["--dry-run"] * is_dry))
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, []), result.output


@pytest.mark.parametrize("dry", [(), ("--dry-run",)], ids=["run", "dry run"])
@pytest.mark.parametrize("url", ["s3://key:secret@bucket/out", "gs://bucket", "https://a.example/out", "file:///out"])
def test_an_output_folder_on_the_web_is_refused_in_one_line_that_says_why(invoke, tmp_path, monkeypatch, url, dry):
    monkeypatch.chdir(tmp_path)
    result = invoke("run", tmp_path, "-o", url, *OFFLINE, *dry)
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])
    line = result.stderr.splitlines()[-1]
    assert f"found a URL ({url.partition('//')[0]}//): locks" in line
    assert "secret" not in result.output


def test_a_local_folder_with_a_colon_is_no_url(invoke, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "missing.csv: expected a file" in invoke("run", "missing.csv", "-o", "a:b/out", *OFFLINE).stderr


def rows(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


@pytest.fixture
def chest(tmp_path):
    """A real radiograph as a picture, whose name a URL would not keep."""
    pixels = dcmread(get_testdata_file("RG1_UNCR.dcm", download=False)).pixel_array[::8, ::8]
    (tmp_path / "in").mkdir()
    Image.fromarray((pixels / pixels.max() * 255).astype(np.uint8)).save(tmp_path / "in" / "chest 1 ä%.png")
    return tmp_path / "in" / "chest 1 ä%.png"


def test_where_pictures_were_skipped_the_terminal_names_the_option(ask, chest, tmp_path):
    result = ask(chest)
    assert result.exit_code == 4
    assert "skipped: 1 x NOT_WRAPPED" in result.output
    assert "--wrap takes them" in result.output
    assert [row["path"] for row in rows(tmp_path / "out")] == [str(chest)]


def test_a_dry_run_names_the_option_too(ask, chest):
    assert "--wrap takes them" in ask(chest, "--dry-run").stdout


def test_a_row_names_a_picture_as_the_user_did(ask, chest, tmp_path, monkeypatch):
    assert ask(chest.parent, "--wrap").exit_code == 0
    assert [row["path"] for row in rows(tmp_path / "out")] == [str(chest)]
    monkeypatch.chdir(tmp_path)
    again = ask("in", "--wrap")
    assert "kept from an earlier run" in again.output
    assert [row["path"] for row in rows(tmp_path / "out")] == [f"in/{chest.name}"]
    assert "--wrap takes" not in again.output


def test_a_picture_that_changed_is_processed_again(ask, chest, tmp_path):
    ask(chest, "--wrap")
    (before,) = rows(tmp_path / "out")
    Image.fromarray(255 - np.asarray(Image.open(chest))).save(chest)
    assert "kept from" not in ask(chest, "--wrap").output
    (after,) = rows(tmp_path / "out")
    assert after["sop_instance_uid"] != before["sop_instance_uid"]


def test_files_pictures_and_tables_are_taken_in_one_run(ask, inputs, chest, tmp_path):
    real = get_testdata_file("RG3_UNCR.dcm", download=False)
    (tmp_path / "table.csv").write_text(f"path\n{inputs / 'second' / '0.dcm'}\n")
    result = ask(inputs / "first", real, tmp_path / "table.csv", chest.parent, "--wrap")
    assert result.exit_code == 0, result.output
    outcomes = {row["path"]: row["reason"] or row["outcome"] for row in rows(tmp_path / "out")}
    assert outcomes == {
        str(inputs / "first" / "0.dcm"): "processed",
        str(inputs / "first" / "1.dcm"): "NOT_FRONTAL",
        real: "NOT_CHEST",
        str(inputs / "second" / "0.dcm"): "processed",
        str(chest): "processed",
    }
