"""`run` with one process that has the networks: the same findings, whoever dies, and nothing left behind."""

import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from pydicom import dcmread

from cxr_dicom import synthetic
from cxr_dicom.cohort import run as cohort_run
from cxr_dicom.cohort import states
from cxr_dicom.cohort.engines.here import Here
from cxr_dicom.cohort.engines.local import Local
from cxr_dicom.config import Settings
from cxr_dicom.errors import PlaceError, SettingsError
from cxr_dicom.infer.batches import supervisor
from cxr_dicom.ingest import manifest
from cxr_dicom.pipeline import Pipeline
from tests import ROOT
from tests.infer.batches import servers

STUDIES = 10
WORKERS = 3


def settings(batch, **models):
    chosen = {"names": ["offline-anatomy", "lung-opacity"], "device": "cpu", "batch": batch}
    return Settings.model_validate({"models": chosen | models})


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    for number in range(STUDIES):
        synthetic.write_study(folder / str(number), [synthetic.radiograph(study=str(number + 1), seed=number)])
    return folder


@pytest.fixture
def supervisors(monkeypatch):
    """The supervisors that a run starts."""
    made = []

    class Supervisor(supervisor.Supervisor):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    monkeypatch.setattr(supervisor, "Supervisor", Supervisor)
    return made


def run(inputs, out, batch, engine, on_result=lambda count: None):
    count = 0

    def report_progress(progress):
        nonlocal count
        if progress.latest:
            count += 1
            on_result(count)

    tally = cohort_run.run(manifest.read(str(inputs)), out, settings(batch), engine, report_progress=report_progress)
    assert tally.images == {"processed": STUDIES}
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def objects(out):
    return {path.relative_to(out): path.read_bytes() for path in out.rglob("*.dcm")}


@pytest.fixture(scope="module")
def alone(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("alone")
    return run(inputs, out, 1, Here()), out


@pytest.fixture(scope="module")
def together(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("together")
    return run(inputs, out, 4, Local(WORKERS)), out


def test_findings_are_those_of_one_image_after_the_other(alone, together):
    for one, other in zip(alone[0], together[0], strict=True):
        assert one["sop_instance_uid"] == other["sop_instance_uid"]
        for name, value in one["measurements"].items():
            assert other["measurements"][name]["value"] == pytest.approx(value["value"], rel=1e-3)
    masks = [
        [dcmread(path).pixel_array for path in sorted(out.rglob("*seg*.dcm"), key=lambda path: path.parent)]
        for _, out in (alone, together)
    ]
    assert len(masks[0]) == len(masks[1]) == STUDIES
    assert all(np.mean(one != other) < 1e-3 for one, other in zip(*masks, strict=True))


def test_other_workers_and_neighbours_give_the_same_bytes(inputs, together, tmp_path, supervisors):
    run(inputs, tmp_path, 4, Here())
    assert objects(tmp_path) == objects(together[1])
    assert supervisors[0].answered == STUDIES


def test_objects_say_what_batches_may_change(together):
    version = "1; batches of 4, within 0.001 SD"
    said = [str(dcmread(path)) for path in together[1].rglob("*.dcm")]
    of_model = [text for text in said if "offline-anatomy" in text]
    assert len(of_model) >= 2 * STUDIES  # segmentation and report
    assert all(version in text for text in of_model)


def test_batches_are_another_pipeline_and_one_is_what_it_was():
    digests = {batch: settings(batch).digest for batch in (1, 2, 4)}
    assert len(set(digests.values())) == 3
    assert digests[1] == Settings.model_validate({"models": {"names": ["offline-anatomy", "lung-opacity"]}}).digest


def test_the_process_with_the_networks_is_killed_and_no_study_is_lost_or_blamed(
    inputs, tmp_path, supervisors, together
):
    def kill(count):
        if count in (2, 5):
            os.kill(supervisors[0].process_ids[0], signal.SIGKILL)

    run(inputs, tmp_path, 4, Local(WORKERS), kill)
    assert objects(tmp_path) == objects(together[1])


def test_a_worker_is_killed_and_the_others_go_on(inputs, tmp_path, supervisors, together):
    def kill(count):
        if count == 2:
            networks = supervisors[0].process_ids
            workers = [child for child in psutil.Process().children() if child.pid not in networks and is_worker(child)]
            os.kill(workers[-1].pid, signal.SIGKILL)

    run(inputs, tmp_path, 4, Local(WORKERS), kill)
    assert objects(tmp_path) == objects(together[1])


def shared_memory():
    return set(Path("/dev/shm").iterdir())


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


def is_worker(process):
    try:
        return any("spawn_main" in word for word in process.cmdline())
    except psutil.NoSuchProcess:  # it has just ended
        return False


def test_a_run_that_is_killed_leaves_no_process_and_no_memory(inputs, tmp_path):
    before = shared_memory()
    code = """
import sys
from pathlib import Path
from tests.cohort.test_batches import WORKERS, Local, run

if __name__ == "__main__":
    run(Path(sys.argv[1]), Path(sys.argv[2]), 4, Local(WORKERS), lambda count: print(count, flush=True))
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    command = [sys.executable, str(script), str(inputs), str(tmp_path / "out")]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT)})
    with started:
        assert started.stdout.readline()
        children = psutil.Process(started.pid).children(recursive=True)
        assert len(children) >= WORKERS + 1
        started.kill()
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    assert shared_memory() <= before


def test_a_process_that_dies_for_ever_ends_the_run_and_the_same_command_goes_on(
    inputs, tmp_path, supervisors, monkeypatch
):
    def kill(count):
        if count == 1:
            monkeypatch.setattr(supervisor, "main", servers.exiting)
            os.kill(supervisors[0].process_ids[0], signal.SIGKILL)

    with pytest.raises(PlaceError, match="dies again and again"):
        run(inputs, tmp_path, 4, Local(WORKERS), kill)
    monkeypatch.undo()
    assert not any(states.crash_count(tmp_path, entry.key) for entry in manifest.read(str(inputs)).entries)
    run(inputs, tmp_path, 4, Here())


def heed_interrupts():
    """As in a terminal, also where the tests run in the background, whose children ignore the signal."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_ends_all(inputs, tmp_path):
    command = [sys.executable, "-m", "cxr_dicom", "run", str(inputs), "-o", str(tmp_path / "out"), "--workers", "2"]
    environment = {"PYTHONPATH": str(ROOT), "CXR_DICOM_MODELS__BATCH": "4", "CXR_DICOM_MODELS__DEVICE": "cpu"}
    environment["CXR_DICOM_MODELS__NAMES"] = '["offline-anatomy"]'
    started = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        env=os.environ | environment,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    with started:
        assert started.stderr.readline()
        children = psutil.Process(started.pid).children(recursive=True)
        os.killpg(started.pid, signal.SIGINT)
        started.communicate()
    assert started.returncode == 130
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive


def test_nothing_is_left_open_after_a_run(inputs, tmp_path):
    run(inputs, tmp_path / "first", 4, Local(1))
    gc.collect()
    before = descriptors()
    run(inputs, tmp_path / "second", 4, Local(2))
    gc.collect()
    assert descriptors() <= before


def test_where_nobody_starts_the_process_batches_are_refused():
    with pytest.raises(SettingsError, match=r"models.batch: only `run` with the engines here and local"):
        Pipeline(settings(2))
