"""``cxr-dicom run`` on real files: what is written, what is told, and how it ends."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import jsonschema
import pytest
from pyarrow import parquet
from pydicom.data import get_testdata_file

import cxr_dicom
from cxr_dicom import synthetic
from cxr_dicom.errors import SettingsError
from tests import ROOT
from tests.kept import all_kept, keep, kept

UNUSED = {
    *("torchvision", "torchxrayvision", "torch._dynamo", "openvino", "onnxruntime", "scipy", "pandas", "rich"),
    *("pynetdicom", "dicomweb_client", "cxr_dicom.system.network"),
}
OFFLINE = ("--models", "offline-anatomy,lung-opacity", "--device", "cpu")


def real(name):
    return Path(get_testdata_file(name, download=False))


def without_seconds(rows):
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


def test_every_input_has_a_row_and_the_run_succeeds(finished, inputs):
    assert finished.result.exit_code == 0, finished.result.output
    outcomes = {
        Path(row["path"]).relative_to(inputs).as_posix(): (row["outcome"], row["reason"]) for row in finished.rows
    }
    assert outcomes == {
        "empty": ("skipped", "NOT_DICOM"),
        "first/0.dcm": ("processed", None),
        "first/1.dcm": ("skipped", "NOT_FRONTAL"),
        "loop": ("skipped", "UNREADABLE"),
        "not-utf8-\\xff <b>&.txt": ("skipped", "NOT_DICOM"),
        "notes.txt": ("skipped", "NOT_DICOM"),
        "second/0.dcm": ("processed", None),
    }
    assert [row["path"] for row in finished.rows] == sorted(row["path"] for row in finished.rows)


def test_rows_name_exactly_the_objects_that_were_written(finished):
    named = {each["path"] for row in finished.rows for each in row["objects"]}
    assert named == finished.objects.keys()
    assert all(path.split("/")[0] in {row["study_instance_uid"] for row in finished.rows} for path in named)


def test_rows_say_what_made_them(finished):
    for row in finished.rows:
        if row["outcome"] == "processed":
            assert [model["name"] for model in row["models"]] == ["offline-anatomy", "lung-opacity"]
            assert len(row["settings_digest"]) == 64
            assert row["geometry"] == "viewer"


def test_the_table_has_a_row_per_input(finished):
    with (finished.out / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [line["path"] for line in table] == [row["path"] for row in finished.rows]
    for line, row in zip(table, finished.rows, strict=True):
        ratio = row["measurements"].get("cardiothoracic_ratio", {}).get("value")
        assert line["cardiothoracic_ratio"] == ("" if ratio is None else str(ratio))


def test_the_terminal_says_what_was_made_and_why_the_rest_was_not(finished):
    assert "2 processed, 5 skipped, 0 failed" in finished.result.output
    assert "skipped: 3 x NOT_DICOM" in finished.result.output
    assert "models pull xrv-densenet121-all" in finished.result.output
    assert str(finished.out / "report.html") in finished.result.output


def test_a_second_run_takes_over_what_is_finished_and_force_does_not(run, finished, inputs, tmp_path):
    out = shutil.copytree(finished.out, tmp_path / "out")
    state = kept(out, finished.rows[-1]["study_instance_uid"])
    state.rows[0]["warnings"] = ["left by the first run"]
    keep(out, state)

    again = run(inputs, out)
    assert again.rows[-1]["warnings"] == ["left by the first run"]
    assert "kept from an earlier run" in again.result.output
    assert without_seconds(run(inputs, out, "--force").rows) == without_seconds(finished.rows)


def test_a_second_run_makes_again_an_object_that_was_lost(run, finished, inputs, tmp_path):
    out = shutil.copytree(finished.out, tmp_path / "out")
    lost = sorted(out.rglob("*.dcm"))[0]
    lost.unlink()
    assert run(inputs, out).objects == finished.objects


def test_a_second_run_follows_inputs_that_moved(run, finished, inputs, tmp_path):
    out = shutil.copytree(finished.out, tmp_path / "out")
    moved = shutil.copytree(inputs, tmp_path / "moved", symlinks=True)
    again = run(moved, out)
    assert "kept from an earlier run" in again.result.output
    assert all(row["path"].startswith(moved.as_posix()) for row in again.rows)


def test_other_settings_replace_the_objects(run, finished, inputs, tmp_path):
    out = shutil.copytree(finished.out, tmp_path / "out")
    again = run(inputs, out, "--geometry", "strict")
    assert {row["geometry"] for row in again.rows} == {"strict"}
    assert again.objects.keys() == {each["path"] for row in again.rows for each in row["objects"]}
    assert again.objects != finished.objects


def test_worker_processes_give_the_same_results(run, finished, inputs, tmp_path):
    parallel = run(inputs, tmp_path, "--workers", "2")
    assert parallel.result.exit_code == 0, parallel.result.output
    assert without_seconds(parallel.rows) == without_seconds(finished.rows)
    assert parallel.objects == finished.objects


def test_results_inside_the_input_folder_are_no_inputs(run, tmp_path):
    synthetic.write_study(tmp_path, [synthetic.radiograph()])
    first = run(tmp_path, tmp_path / "out")
    second = run(tmp_path, tmp_path / "out")
    assert [Path(row["path"]).name for row in second.rows] == ["0.dcm"]
    assert second.rows == first.rows


def test_json_prints_the_rows(run, inputs, finished, tmp_path):
    printed = run(inputs, shutil.copytree(finished.out, tmp_path / "out"), "--json").result.stdout
    assert [json.loads(line) for line in printed.splitlines()] == finished.rows


def test_quiet_is_silent(run, inputs, finished, tmp_path):
    assert run(inputs, shutil.copytree(finished.out, tmp_path / "out"), "-q").result.output == ""


def text_of(path):
    return str(parquet.read_table(path).to_pylist()) if path.suffix == ".parquet" else path.read_text()


def test_nothing_but_the_objects_holds_patient_data(run, tmp_path):
    secrets = {
        "PatientName": "Secretname^Jane",
        "PatientID": "SECRET-ID",
        "PatientBirthDate": "19010203",
        "AccessionNumber": "SECRET-ACC",
        "StudyDescription": "Secretive study",
        "SeriesDescription": "Secretive series",
        "InstitutionName": "Secret hospital",
    }
    good = synthetic.radiograph(**secrets)
    lateral = synthetic.radiograph(study="2", ViewPosition="LL", **secrets)
    invalid = synthetic.radiograph(study="3", WindowCenter=None, PatientAge="Secret", **secrets)
    synthetic.write_study(tmp_path / "in", [good, lateral, invalid])
    with (tmp_path / "in" / "0.dcm").open("rb") as file, (tmp_path / "in" / "truncated").open("wb") as truncated:
        truncated.write(file.read()[:-999])
    finished = run(tmp_path / "in", tmp_path / "out", "-v", "-v")
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file() and path.suffix != ".dcm"]
    assert len(written) >= 4
    for text in (finished.result.output, *map(text_of, written)):
        assert "secret" not in text.lower()
        assert "19010203" not in text


def test_nothing_eligible_is_exit_code_4(run, tmp_path):
    finished = run(real("RG3_UNCR.dcm"), tmp_path)
    assert finished.result.exit_code == 4
    assert [row["reason"] for row in finished.rows] == ["NOT_CHEST"]
    assert "RG3" not in (tmp_path / "report.html").read_text()


def test_an_empty_folder_is_exit_code_4(run, tmp_path):
    (tmp_path / "in").mkdir()
    finished = run(tmp_path / "in", tmp_path / "out")
    assert (finished.result.exit_code, finished.rows) == (4, [])


def test_a_study_that_breaks_is_exit_code_3_and_stops_no_other(run, tmp_path):
    good, bad = synthetic.radiograph(), synthetic.radiograph(study="2")
    synthetic.write_study(tmp_path / "in", [good, bad])
    in_the_way = tmp_path / "out" / bad.StudyInstanceUID
    in_the_way.parent.mkdir()
    in_the_way.touch()
    first = run(tmp_path / "in", tmp_path / "out")
    assert first.result.exit_code == 3
    assert [(row["outcome"], row["reason"]) for row in first.rows] == [
        ("processed", None),
        ("failed", "ENCODING_FAILED"),
    ]
    assert "failed: 1 x ENCODING_FAILED" in first.result.output

    in_the_way.unlink()
    again = run(tmp_path / "in", tmp_path / "out")
    assert again.result.exit_code == 3
    assert again.result.output.count("kept from an earlier run") == 2
    assert "unless you say --retry-failed" in again.result.output
    again = run(tmp_path / "in", tmp_path / "out", "--retry-failed")
    assert again.result.exit_code == 0
    assert again.result.output.count("kept from an earlier run") == 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--models", "no-such-model"), "models.names: 'no-such-model'"),
        (("--device", "tpu"), "models.device = 'tpu'"),
        (("--config", "no-such-file.toml"), "no-such-file.toml"),
    ],
)
def test_wrong_settings_are_exit_code_2_and_named(invoke, inputs, tmp_path, options, text):
    result = invoke("run", inputs, "-o", tmp_path, *options)
    assert result.exit_code == 2
    assert text in result.output
    assert not (tmp_path / "results.jsonl").exists()


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_missing_weights_are_exit_code_2_and_say_what_to_do(invoke, inputs, tmp_path, monkeypatch, workers):
    monkeypatch.setenv("CXR_DICOM_MODELS__FOLDER", str(tmp_path))
    result = invoke("run", inputs, "-o", tmp_path / "out", "--models", "xrv-densenet121-all", *workers)
    assert result.exit_code == 2
    assert str(tmp_path) in result.output
    assert "cxr-dicom models pull xrv-densenet121-all" in result.output


def test_an_output_folder_that_cannot_be_made_is_exit_code_2(invoke, inputs, tmp_path):
    (tmp_path / "file").touch()
    result = invoke("run", inputs, "-o", tmp_path / "file" / "out", *OFFLINE)
    assert result.exit_code == 2
    assert "file" in result.output


def test_a_missing_path_is_exit_code_2(invoke, tmp_path):
    result = invoke("run", tmp_path / "nothing", "-o", tmp_path / "out")
    assert result.exit_code == 2


@pytest.mark.parametrize("workers", [(), ("--workers", "2")])
def test_ctrl_c_ends_with_one_line_and_keeps_what_is_finished(tmp_path, workers):
    studies = [synthetic.radiograph(study=str(number), seed=number) for number in range(40)]
    synthetic.write_study(tmp_path / "in", studies)
    command = [
        sys.executable,
        "-m",
        "cxr_dicom",
        "run",
        tmp_path / "in",
        "-o",
        tmp_path / "out",
        *OFFLINE,
        *workers,
    ]
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # ignored where the tests run in background
    )
    while process.poll() is None and not all_kept(tmp_path / "out"):
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors.splitlines()[-1].startswith("Interrupted.")
    assert "Traceback" not in errors
    states = all_kept(tmp_path / "out")
    assert 0 < len(states) < 40
    assert all(state.rows for state in states)


def test_offline_models_load_no_library_that_they_do_not_use(tmp_path):
    synthetic.write_study(tmp_path / "in", [synthetic.radiograph(96, 80, seed=1)])
    code = (
        "import atexit, sys\n"
        "from cxr_dicom.cli import main\n"
        "atexit.register(lambda: print(*sys.modules))\n"
        f"sys.argv = ['cxr-dicom', 'run', {str(tmp_path / 'in')!r}, '-o', {str(tmp_path / 'out')!r}, *{OFFLINE!r}]\n"
        "main()\n"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "torch" in loaded
    assert not UNUSED & set(loaded)


def test_rows_follow_the_documented_schema(finished):
    schema = json.loads((ROOT / "docs" / "results.schema.json").read_text())
    for row in finished.rows:
        jsonschema.validate(row, schema)


def test_routes_that_choose_models_are_not_ignored_in_silence(invoke, tmp_path):
    text = '[[routes]]\nname = "bedside"\nviews = ["AP"]\n'
    (tmp_path / "a.toml").write_text(text + "models = []\n")
    run = ("run", tmp_path, "-o", tmp_path / "OUT", "--config")
    refused = invoke(*run, tmp_path / "a.toml")
    assert refused.exit_code == 2
    assert "routes: bedside decide in the service which models run" in refused.output
    with pytest.raises(SettingsError, match="routes: bedside decide"):
        cxr_dicom.Pipeline(settings=tmp_path / "a.toml")
    assert invoke(*run, tmp_path / "a.toml", "--models", "lung-opacity", "--dry-run").exit_code == 0
    (tmp_path / "a.toml").write_text(text + "destinations = []\n")
    assert invoke(*run, tmp_path / "a.toml", "--dry-run").exit_code == 0
