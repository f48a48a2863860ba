"""The same bytes from either engine, with any number of workers, whatever is killed on the way.

`SOAK_STUDIES` sets the number of studies; `scripts/soak` takes 300.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from click.testing import CliRunner
from pydicom import dcmread

from cxr_dicom import synthetic
from cxr_dicom.cli import cli
from cxr_dicom.cohort.journal import Journal

STUDIES = int(os.environ.get("SOAK_STUDIES", "10"))
REAL = ("RG1_J2KR.dcm", "RG3_UNCR.dcm")
MODELS = ("--models", "offline-anatomy,lung-opacity", "--device", "cpu")
ENGINES = {
    "two workers": ("--engine", "local", "--workers", "2"),
    "ray": ("--engine", "ray", "--workers", "2"),
}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory, real):
    """Synthetic studies of many kinds, a few real ones, and files that are none."""
    folder = tmp_path_factory.mktemp("cohort")
    for number in range(STUDIES - len(REAL)):
        image = synthetic.radiograph(
            240 + 8 * (number % 5),
            200 + number % 7,
            seed=number,
            study=str(number),
            modality=("DX", "CR")[number % 2],
            photometric=("MONOCHROME2", "MONOCHROME1")[number % 3 == 0],
        )
        synthetic.write_study(folder / str(number), [image])
    for number, name in enumerate(REAL):
        image = dcmread(real(name))
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            image[keyword].value = f"1.2.3.{number}.{len(keyword)}"
        image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
        image.save_as(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def expected(manifest, tmp_path_factory):
    """What is made without workers, undisturbed."""
    return made_here(manifest, tmp_path_factory.mktemp("expected"))


def made_here(manifest, out):
    """Run in this process, which has PyTorch already, and give the digest of each object."""
    result = CliRunner().invoke(cli, ["run", str(manifest), "-o", str(out), "--engine", "here", *MODELS])
    assert result.exit_code == 0, result.output
    return digests(out)


def start(manifest, out, engine):
    command = [sys.executable, "-m", "cxr_dicom", "run", manifest, "-o", out, *ENGINES[engine]]
    process = subprocess.Popen(
        [*map(str, command), *MODELS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    process.out = out
    return process


def finished(process):
    """Wait for the end, and give the digest of each object."""
    _, errors = process.communicate(timeout=1800)
    assert process.returncode == 0, errors
    return digests(process.out)


def digests(out):
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in out.rglob("*.dcm")}


def rows(out):
    """Rows without what may differ: the seconds."""
    lines = (out / "results.jsonl").read_text().splitlines()
    return [{**json.loads(line), "seconds": None} for line in lines]


def wait_for_states(process, count):
    while process.poll() is None and len(Journal(process.out)) < count:
        time.sleep(0.02)
    assert process.poll() is None, "it ended before it could be killed"


def workers(process):
    """The processes that have the models."""
    family = psutil.Process(process.pid).children(recursive=True)
    return [each for each in family if any(word in " ".join(each.cmdline()) for word in ("spawn_main", "ray::Worker"))]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_worker_that_is_killed_half_way_changes_nothing(engine, manifest, expected, tmp_path):
    process = start(manifest, tmp_path, engine)
    wait_for_states(process, STUDIES // 2)
    workers(process)[0].kill()
    assert finished(process) == expected
    assert {row["outcome"] for row in rows(tmp_path)} == {"processed", "skipped"}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_that_is_killed_goes_on_where_it_was(engine, manifest, expected, tmp_path):
    process = start(manifest, tmp_path, engine)
    wait_for_states(process, STUDIES // 3)
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for each in family:  # as when the machine loses its power
        each.send_signal(signal.SIGSTOP)
    for each in family:
        each.kill()
    process.wait()
    done = len(Journal(tmp_path))
    assert made_here(manifest, tmp_path) == expected
    killed, session = json.loads((tmp_path / "run.json").read_text())["sessions"]
    assert (killed["ended"], killed["stopped_by"]) == (None, None)
    assert session["studies"] == STUDIES - done
    assert session["ended"]
    assert not list(tmp_path.glob(".cxr-dicom/*.attempts"))
