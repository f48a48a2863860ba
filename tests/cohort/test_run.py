"""A cohort: nothing is done twice, nothing is lost, and the result files say what became of all."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread

from cxr_dicom import synthetic
from cxr_dicom.cohort import run as cohort_run
from cxr_dicom.cohort import session, states
from cxr_dicom.cohort.engines.here import Here
from cxr_dicom.cohort.options import Options
from cxr_dicom.cohort.task import MAX_CRASHES
from cxr_dicom.config import ModelSettings, Settings
from cxr_dicom.errors import CxrDicomError, SettingsError
from cxr_dicom.infer.device import choose
from cxr_dicom.ingest import manifest
from cxr_dicom.ingest.manifest import Entry, Manifest
from tests import ROOT
from tests.kept import all_kept, keep, kept

OFFLINE = {"models": {"names": ["offline-anatomy", "lung-opacity"], "device": "cpu"}}


def settings_with(**tables):
    return Settings.model_validate(OFFLINE | tables)


def run(inputs, out, settings=None, **options):
    found = inputs if isinstance(inputs, Manifest) else manifest.read(str(inputs))
    return cohort_run.run(found, out, settings or settings_with(), Here(), options=Options(**options))


def rows(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def record(out):
    return json.loads((out / "run.json").read_text())


def written(out):
    return {path: path.stat().st_mtime_ns for path in out.rglob("*.dcm")}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    synthetic.write_study(folder / "first")  # with a lateral image
    synthetic.write_study(folder / "second", [synthetic.radiograph(study="2", seed=2)])
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
    synthetic.write_study(source, [synthetic.radiograph(seed=1)])
    run(source, tmp_path / "out")
    synthetic.write_study(source, [synthetic.radiograph(seed=1), synthetic.radiograph(seed=7)])
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
    cut_short = [states.attempt(tmp_path, keys[0]) for _ in range(MAX_CRASHES)]  # kept: what is collected ends
    for attempt in cut_short:
        attempt.__enter__()
    run(inputs, tmp_path, retry_failed=False)
    reasons = {row["reason"] for row in rows(tmp_path) if row["study_instance_uid"] == keys[0]}
    assert reasons == {"WORKER_DIED"}
    assert run(inputs, tmp_path, retry_failed=False).computed == 0
    retried = run(inputs, tmp_path, retry_failed=True)
    assert retried.images == {"processed": 2, "skipped": 2}


def test_an_interrupted_attempt_is_forgiven(inputs, keys, tmp_path):
    for _ in range(2 * MAX_CRASHES):
        task = cohort_run.EntryTask(settings=settings_with(), out=tmp_path, options=Options())
        cut_short = states.attempt(tmp_path, keys[0])
        cut_short.__enter__()
        task.interrupt(manifest.read(str(inputs)).entries[0])
    assert run(inputs, tmp_path).images["failed"] == 0


def test_what_cannot_be_fetched_fails_with_its_reason_and_the_run_goes_on(inputs, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")  # nobody listens
    monkeypatch.setattr("cxr_dicom.system.retry.FIRST_PAUSE", 0.001)
    found = manifest.read(str(inputs))
    nowhere = Entry(key="1.2.3", sources=("s3://nowhere/*",))
    cohort_of_three = Manifest(kind="s5cmd", digest="d", entries=[*found.entries, nowhere], skipped=found.skipped)
    tally = run(cohort_of_three, tmp_path)
    assert tally.images == {"processed": 2, "skipped": 2, "failed": 1}
    (failed,) = [row for row in rows(tmp_path) if row["outcome"] == "failed"]
    assert (failed["reason"], failed["path"]) == ("FETCH_FAILED", "s3://nowhere/*")
    assert failed["study_instance_uid"] == "1.2.3"


def test_what_failed_is_not_tried_again_because_of_a_format_or_a_destination(inputs, keys, tmp_path):
    for key in keys:
        (tmp_path / ".cxr-dicom").mkdir(exist_ok=True)
        (tmp_path / ".cxr-dicom" / f"{key}.attempts").write_text(str(MAX_CRASHES))
    assert run(inputs, tmp_path, retry_failed=False).reasons["failed", "WORKER_DIED"] == 3
    settings = to_folder(tmp_path / "archive")
    again = run(inputs, tmp_path, settings, retry_failed=False, also=("npz",), destination="archive")
    assert (again.computed, again.reasons["failed", "WORKER_DIED"]) == (0, 3)


def test_files_that_went_since_they_were_listed_are_said_to_be_unreadable(tmp_path):
    paths = synthetic.write_study(tmp_path / "in")
    found = manifest.read(str(tmp_path / "in"))
    paths[-1].unlink()
    tally = run(found, tmp_path / "out")
    assert tally.images == {"processed": 1, "skipped": 1}
    assert tally.reasons == {("skipped", "UNREADABLE"): 1}


def test_an_output_folder_that_cannot_be_written_any_more_ends_the_run(inputs, keys, tmp_path):
    (tmp_path / ".cxr-dicom" / f"{keys[0]}.attempts").mkdir(parents=True)
    task = cohort_run.EntryTask(settings=settings_with(), out=tmp_path, options=Options())
    with pytest.raises(CxrDicomError, match=f"{tmp_path}: Is a directory"):
        task(manifest.read(str(inputs)).entries[0])


def test_rows_of_every_failure_keep_to_the_schema(inputs, keys, tmp_path, monkeypatch):
    monkeypatch.setattr("cxr_dicom.system.retry.FIRST_PAUSE", 0.001)
    (tmp_path / "archive").write_text("a file where a folder should be")
    (tmp_path / "out" / ".cxr-dicom").mkdir(parents=True)
    (tmp_path / "out" / ".cxr-dicom" / f"{keys[0]}.attempts").write_text(str(MAX_CRASHES))
    run(inputs, tmp_path / "out", to_folder(tmp_path / "archive"), destination="archive", retry_failed=False)
    schema = ROOT / "docs" / "results.schema.json"
    validator = jsonschema.Draft202012Validator(json.loads(schema.read_text()))
    for row in rows(tmp_path / "out"):
        validator.validate(row)
    assert {"WORKER_DIED", "DELIVERY_FAILED"} <= {row["reason"] for row in rows(tmp_path / "out")}


def test_what_a_killed_process_began_to_write_is_removed(inputs, keys, tmp_path):
    with states.attempt(tmp_path, keys[0], [keys[0], "1.2"]):  # it tells what it writes
        pass
    begun = [tmp_path / place / f".file.dcm.{'0a' * 16}.part" for place in ("", keys[0], "also/png/1.2/model")]
    begun.append(tmp_path / ".cxr-dicom" / "twins-x" / "segmentation-1.2.dcm")
    not_ours = tmp_path / keys[0] / ".download.part"
    for path in (*begun, not_ours):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    run(inputs, tmp_path)
    assert [path.exists() for path in (*begun, not_ours)] == [False, False, False, False, True]


# --- one run at a time ---------------------------------------------------------------------------


def test_another_run_in_the_same_folder_is_refused_until_the_first_ends(inputs, tmp_path):
    with session.hold(tmp_path), pytest.raises(CxrDicomError, match=r"is in use by another run, process \d+"):
        run(inputs, tmp_path)
    assert not (tmp_path / "results.jsonl").exists()
    assert run(inputs, tmp_path).done == 2


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
    run(inputs, tmp_path / "out", settings, force=True)  # sends nothing, and forgets nothing
    run(inputs, tmp_path / "out", settings, destination="archive")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "archive").rglob("*.dcm")} == sent


def test_what_one_destination_took_does_not_count_for_another_that_took_a_part(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("cxr_dicom.system.retry.FIRST_PAUSE", 0.001)
    (tmp_path / "a").write_text("a file where a folder should be")
    places = [{"name": name, "kind": "folder", "path": str(tmp_path / name)} for name in "ab"]
    settings = settings_with(destinations=places)
    assert run(inputs, tmp_path / "out", settings, destination="a", retry_failed=False).images["failed"] == 2
    assert run(inputs, tmp_path / "out", settings, destination="b", retry_failed=False).images["failed"] == 0
    (tmp_path / "a").unlink()
    run(inputs, tmp_path / "out", settings, destination="a", retry_failed=False)
    assert len(list((tmp_path / "a").rglob("*.dcm"))) == 10


def test_a_destination_that_does_not_take_them_fails_the_study_and_keeps_its_objects(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("cxr_dicom.system.retry.FIRST_PAUSE", 0.001)
    (tmp_path / "archive").write_text("a file where a folder should be")
    settings = to_folder(tmp_path / "archive")
    tally = run(inputs, tmp_path / "out", settings, destination="archive", retry_failed=False)
    assert tally.reasons["failed", "DELIVERY_FAILED"] == 2
    assert len(written(tmp_path / "out")) == 10
    (tmp_path / "archive").unlink()
    again = run(inputs, tmp_path / "out", settings, destination="archive", retry_failed=True)
    assert again.images["failed"] == 0
    assert len(list((tmp_path / "archive").rglob("*.dcm"))) == 10


@pytest.mark.parametrize("asked", [{"destination": "pacs"}, {"also": ("pacs",)}])
def test_what_there_is_not_is_refused_before_anything_is_written(inputs, tmp_path, asked):
    with pytest.raises(SettingsError, match="'pacs' is not one of"):
        run(inputs, tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


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


def test_a_picture_is_not_decoded_beyond_the_settings_limit(tmp_path):
    Image.new("L", (40, 30)).save(tmp_path / "chest.png")
    few = settings_with(select={"max_pixels": 1199})
    run(manifest.read(str(tmp_path), wrap=True), tmp_path / "out", few)
    (row,) = rows(tmp_path / "out")
    assert (row["reason"], row["sop_instance_uid"]) == ("MATRIX_TOO_LARGE", None), "there is no instance of it"


def test_what_a_run_exported_is_no_picture_to_wrap_and_equal_pictures_count_once(real, tmp_path):
    pixels = dcmread(real("RG1_UNCR.dcm")).pixel_array
    for name in ("chest.png", "same.png"):
        Image.fromarray((pixels / pixels.max() * 255).astype(np.uint8)).save(tmp_path / name)
    for _ in range(2):
        found = manifest.read(str(tmp_path), wrap=True)
        tally = run(found, tmp_path / "out", also=("png", "coco"))
        assert tally.images == {"processed": 1, "skipped": 1}
        assert tally.reasons == {("skipped", "DUPLICATE_INSTANCE"): 1}
    assert len(rows(tmp_path / "out")) == 2


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
    assert content["totals"] == {"processed": 2, "skipped": 2, "failed": 0, "objects": 10, "studies": 2}
    assert content["reasons"] == {"NOT_DICOM": 1, "NOT_FRONTAL": 1}
    assert [model["name"] for model in content["models"]] == ["offline-anatomy", "lung-opacity"]
    assert content["manifest"] == {"kind": "folder", "digest": manifest.read(str(inputs)).digest, "entries": 2}
    assert content["settings_digest"] == settings_with().digest
    assert (tmp_path / content["started_in"]).samefile(".")
    assert set(content["seconds_per_stage"]) >= {"select", "read", "offline-anatomy", "measure", "encode"}
    assert tally.objects == len(written(tmp_path))


def test_run_json_names_the_device_that_the_workers_used(inputs, tmp_path):
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    run(nothing, tmp_path / "empty", settings_with(models=OFFLINE["models"] | {"device": "auto"}))
    assert record(tmp_path / "empty")["device"] is None
    run(inputs, tmp_path / "out", settings_with(models=OFFLINE["models"] | {"device": "auto"}))
    (device,) = {each.device for each in all_kept(tmp_path / "out")}
    assert device.partition(" ")[0] == choose(ModelSettings())
    assert record(tmp_path / "out")["device"] == device
    run(inputs, tmp_path / "out")  # nothing is computed, the results are those of before
    assert record(tmp_path / "out")["device"] == device


def test_run_json_names_all_devices_that_gave_results(inputs, keys, tmp_path):
    run(inputs, tmp_path)
    keep(tmp_path, replace(kept(tmp_path, keys[0]), device="cuda:0 (NVIDIA L4)"))
    run(inputs, tmp_path)
    assert record(tmp_path)["device"] == "cpu, cuda:0 (NVIDIA L4)"


# --- sessions ------------------------------------------------------------------------------------


def test_a_session_is_recorded_from_its_start_on(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr("cxr_dicom.cohort.run_record._KEEP_SECONDS", 0)
    seen = []

    def look(progress):
        if progress.latest:
            seen.append(record(tmp_path)["sessions"])

    found, settings = manifest.read(str(inputs)), settings_with()
    cohort_run.run(found, tmp_path, settings, Here(), options=Options(), report_progress=look)
    assert [[(each["ended"], each["studies"]) for each in sessions] for sessions in seen] == [[(None, 1)], [(None, 2)]]
    (session,) = record(tmp_path)["sessions"]
    assert session["started"] <= session["ended"]
    assert (session["stopped_by"], session["images"]) == (None, 3)


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt, "INTERRUPTED"), (OSError, "ERROR")])
def test_a_session_says_what_stopped_it_and_all_else_speaks_of_the_run_before(inputs, tmp_path, error, code):
    def stop(progress):
        if progress.latest:
            raise error

    run(inputs, tmp_path)
    before = record(tmp_path)
    with pytest.raises((KeyboardInterrupt, CxrDicomError)):
        cohort_run.run(
            manifest.read(str(inputs)),
            tmp_path,
            settings_with(),
            Here(),
            options=Options(force=True),
            report_progress=stop,
        )
    after = record(tmp_path)
    first, stopped = after.pop("sessions")
    assert (first, after) == (before.pop("sessions")[0], before)
    assert stopped["ended"]
    assert (stopped["stopped_by"], stopped["studies"]) == (code, 1)


def test_a_large_cohort_keeps_small_pictures_only(inputs, keys, tmp_path, monkeypatch):
    monkeypatch.setattr(cohort_run, "FIGURES_UP_TO", 1)
    run(inputs, tmp_path)
    figures = [each for key in keys for many in kept(tmp_path, key).figures.values() for each in many]
    assert [each["title"] for each in figures] == ["Anatomy"] * 2
    assert max(len(each["source"]) for each in figures) < 20_000


def test_what_a_run_wrote_is_never_an_input(inputs, tmp_path):
    synthetic.write_study(tmp_path, [synthetic.radiograph(seed=1)])
    first = run(tmp_path, tmp_path, also=("png",))
    again = run(tmp_path, tmp_path, also=("png",))
    assert first.images == again.images == {"processed": 1}
    assert {Path(row["path"]).parent for row in rows(tmp_path)} == {tmp_path}
