"""A cohort: nothing is done twice, nothing is lost, and the result files say what became of all."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from cxr_dicom import cohort, states, testing
from cxr_dicom.cohort_task import DEATHS, Options
from cxr_dicom.config import Settings
from cxr_dicom.engine._here import Here
from cxr_dicom.errors import SettingsError
from cxr_dicom.ingest import manifest
from cxr_dicom.ingest.manifest import Entry, Manifest

OFFLINE = {"models": {"names": ["offline-anatomy", "lung-opacity"], "device": "cpu"}}


def settings_with(**tables):
    return Settings.model_validate(OFFLINE | tables)


def run(inputs, out, settings=None, **options):
    found = inputs if isinstance(inputs, Manifest) else manifest.read(str(inputs))
    return cohort.run(found, out, settings or settings_with(), Here(), options=Options(**options))


def rows(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def written(out):
    return {path: path.stat().st_mtime_ns for path in out.rglob("*.dcm")}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    testing.write_study(folder / "first")  # with a lateral image
    testing.write_study(folder / "second", [testing.radiograph(study="2", seed=2)])
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def keys(inputs):
    return [entry.key for entry in manifest.read(str(inputs)).entries]


# --- once ----------------------------------------------------------------------------------------


def test_a_second_run_does_nothing_and_says_the_same(inputs, tmp_path):
    first = run(inputs, tmp_path)
    before, said = written(tmp_path), rows(tmp_path)
    second = run(inputs, tmp_path)
    assert written(tmp_path) == before
    assert rows(tmp_path) == said
    assert (first.reused, second.reused, second.computed) == (0, 2, 0)
    assert second.images == first.images == {"processed": 2, "skipped": 2}
    sessions = json.loads((tmp_path / "run.json").read_text())["sessions"]
    assert [session["images"] for session in sessions] == [3, 0]


def test_a_study_that_grew_is_processed_again(inputs, tmp_path):
    source = tmp_path / "in"
    testing.write_study(source, [testing.radiograph(seed=1)])
    run(source, tmp_path / "out")
    testing.write_study(source, [testing.radiograph(seed=1), testing.radiograph(seed=7)])
    assert run(source, tmp_path / "out").computed == 2


def test_force_processes_again_with_the_same_bytes(inputs, tmp_path):
    run(inputs, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.dcm")}
    assert run(inputs, tmp_path, force=True).computed == 3
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.dcm")} == before


def test_another_format_of_export_is_added_without_asking(inputs, tmp_path):
    run(inputs, tmp_path)
    assert run(inputs, tmp_path, also=("npz", "coco")).computed == 3
    kinds = {each["kind"] for row in rows(tmp_path) for each in row["exports"]}
    assert {"npz", "coco"} == kinds
    assert all((tmp_path / each["path"]).is_file() for row in rows(tmp_path) for each in row["exports"])
    assert json.loads((tmp_path / "also" / "coco" / "annotations.json").read_text())["annotations"]
    assert run(inputs, tmp_path, also=("npz",)).computed == 0


# --- failures ------------------------------------------------------------------------------------


def test_a_study_that_killed_its_workers_is_set_aside_until_it_is_asked_for(inputs, keys, tmp_path):
    cut_short = [states.attempt(tmp_path, keys[0]) for _ in range(DEATHS)]  # kept: what is collected ends
    for attempt in cut_short:
        attempt.__enter__()
    run(inputs, tmp_path, retry_failed=False)
    reasons = {row["reason"] for row in rows(tmp_path) if row["study_instance_uid"] == keys[0]}
    assert reasons == {"WORKER_DIED"}
    assert run(inputs, tmp_path, retry_failed=False).computed == 0
    retried = run(inputs, tmp_path, retry_failed=True)
    assert retried.images == {"processed": 2, "skipped": 2}


def test_an_interrupted_attempt_is_forgiven(inputs, keys, tmp_path):
    for _ in range(2 * DEATHS):
        task = cohort.EntryTask(settings=settings_with(), out=tmp_path, options=Options())
        attempt = states.attempt(tmp_path, keys[0])
        attempt.__enter__()
        task.interrupt(manifest.read(str(inputs)).entries[0])
        with pytest.raises(StopIteration):
            next(attempt.gen)
    assert run(inputs, tmp_path).images["failed"] == 0


def test_what_cannot_be_fetched_fails_with_its_reason_and_the_run_goes_on(inputs, tmp_path):
    found = manifest.read(str(inputs))
    nowhere = Entry(key="xnowhere", sources=(f"s3://{'nowhere'}/*",))
    cohort_of_three = Manifest(kind="s5cmd", digest="d", entries=[*found.entries, nowhere], skipped=found.skipped)
    tally = run(cohort_of_three, tmp_path)
    assert tally.images == {"processed": 2, "skipped": 2, "failed": 1}
    (failed,) = [row for row in rows(tmp_path) if row["outcome"] == "failed"]
    assert (failed["reason"], failed["path"]) == ("FETCH_FAILED", "s3://nowhere/*")


# --- straight to a destination -------------------------------------------------------------------


def to_folder(path):
    return settings_with(destinations=[{"name": "archive", "kind": "folder", "path": str(path)}])


def test_objects_go_to_the_destination_once(inputs, tmp_path):
    settings = to_folder(tmp_path / "archive")
    run(inputs, tmp_path / "out", settings)
    assert not (tmp_path / "archive").exists()
    run(inputs, tmp_path / "out", settings, destination="archive")
    sent = {path: path.stat().st_mtime_ns for path in (tmp_path / "archive").rglob("*.dcm")}
    assert {path.read_bytes() for path in sent} == {path.read_bytes() for path in written(tmp_path / "out")}
    run(inputs, tmp_path / "out", settings, destination="archive", force=True)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "archive").rglob("*.dcm")} == sent


def test_a_destination_that_does_not_take_them_fails_the_study_and_keeps_its_objects(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("cxr_dicom.retry.FIRST_PAUSE", 0.001)
    (tmp_path / "archive").write_text("a file where a folder should be")
    settings = to_folder(tmp_path / "archive")
    tally = run(inputs, tmp_path / "out", settings, destination="archive", retry_failed=False)
    assert tally.reasons["failed", "DELIVERY_FAILED"] == 2
    assert len(written(tmp_path / "out")) == 8
    (tmp_path / "archive").unlink()
    again = run(inputs, tmp_path / "out", settings, destination="archive", retry_failed=True)
    assert again.images["failed"] == 0
    assert len(list((tmp_path / "archive").rglob("*.dcm"))) == 8


def test_a_destination_that_is_not_in_the_settings_ends_the_run(inputs, tmp_path):
    with pytest.raises(SettingsError, match="'pacs' is not one of"):
        run(inputs, tmp_path, destination="pacs")


# --- pictures ------------------------------------------------------------------------------------


def test_the_instance_that_was_made_of_a_picture_stays_for_the_objects_refer_to_it(real, tmp_path):
    pixels = dcmread(real("RG1_UNCR.dcm")).pixel_array
    Image.fromarray((pixels / pixels.max() * 255).astype(np.uint8)).save(tmp_path / "chest.png")
    for _ in range(2):
        tally = run(manifest.read(str(tmp_path), wrap=True), tmp_path, also=("npz",))
        assert tally.images == {"processed": 1}
    (row,) = rows(tmp_path)
    assert row["path"].endswith("/chest.png")
    (kept,) = [tmp_path / each["path"] for each in row["exports"] if each["kind"] == "wrapped"]
    (seg,) = (tmp_path / row["study_instance_uid"]).glob("segmentation*.dcm")
    (cited,) = {
        each.ReferencedSOPInstanceUID for each in dcmread(seg).ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert cited == dcmread(kept).SOPInstanceUID == row["sop_instance_uid"]


# --- result files --------------------------------------------------------------------------------


def test_every_input_is_in_every_result_file(inputs, tmp_path):
    run(inputs, tmp_path)
    paths = sorted(str(path) for path in inputs.rglob("*") if path.is_file())
    assert [row["path"] for row in rows(tmp_path)] == paths
    with (tmp_path / "results.csv").open(newline="") as file:
        assert [row["path"] for row in csv.DictReader(file)] == paths


def test_run_json_says_with_what_it_was_made(inputs, tmp_path):
    tally = run(inputs, tmp_path)
    content = json.loads((tmp_path / "run.json").read_text())
    assert content["totals"] == {"processed": 2, "skipped": 2, "failed": 0, "objects": 8, "studies": 2}
    assert content["reasons"] == {"NOT_DICOM": 1, "NOT_FRONTAL": 1}
    assert [model["name"] for model in content["models"]] == ["offline-anatomy", "lung-opacity"]
    assert content["manifest"] == {"kind": "folder", "digest": manifest.read(str(inputs)).digest, "entries": 2}
    assert content["settings_digest"] == settings_with().digest
    assert set(content["seconds_per_stage"]) >= {"select", "read", "offline-anatomy", "measure", "encode"}
    assert tally.objects == len(written(tmp_path))


def test_a_large_cohort_keeps_small_pictures_only(inputs, keys, tmp_path, monkeypatch):
    monkeypatch.setattr(cohort, "FIGURES_UP_TO", 1)
    run(inputs, tmp_path)
    figures = [each for key in keys for many in states.load(tmp_path, key).figures.values() for each in many]
    assert [each["title"] for each in figures] == ["Anatomy"] * 2
    assert max(len(each["source"]) for each in figures) < 20_000


def test_what_a_run_wrote_is_never_an_input(inputs, tmp_path):
    testing.write_study(tmp_path, [testing.radiograph(seed=1)])
    first = run(tmp_path, tmp_path, also=("png",))
    again = run(tmp_path, tmp_path, also=("png",))
    assert first.images == again.images == {"processed": 1}
    assert {Path(row["path"]).parent for row in rows(tmp_path)} == {tmp_path}
