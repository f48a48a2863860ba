"""What writers that were killed left goes with the next session, and nothing else."""

import shutil

import pytest
from pydicom import dcmread

from cxr_dicom import synthetic
from cxr_dicom.cohort import run as cohort_run
from cxr_dicom.cohort import states
from cxr_dicom.cohort.engines.here import Here
from cxr_dicom.cohort.journal import Journal
from cxr_dicom.cohort.session import Part
from cxr_dicom.cohort.sweep import sweep
from cxr_dicom.config import Settings
from cxr_dicom.ingest import manifest
from tests.cohort_rows import processed
from tests.kept import all_kept, keep

SETTINGS = Settings.model_validate({"models": {"names": ["offline-anatomy"], "device": "cpu"}})


@pytest.fixture(scope="module")
def finished(tmp_path_factory, pipeline):
    """The output of a run of one study, and the study's key."""
    folder = tmp_path_factory.mktemp("finished")
    synthetic.write_study(folder / "in", [synthetic.radiograph(96, 80, seed=1)])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("cxr_dicom.pipeline.Pipeline", lambda settings, names: pipeline)
        patched.setattr(pipeline, "close", lambda: None)
        cohort_run.run(manifest.read(str(folder / "in")), folder / "out", SETTINGS, Here())
    (state,) = all_kept(folder / "out")
    return folder / "out", state.key


@pytest.fixture
def out(finished, tmp_path):
    return shutil.copytree(finished[0], tmp_path / "out")


def leave(out, key):
    """Leave an object that another processor would have made, one that is not whole, and files of somebody else."""
    (made,) = (out / key).glob("segmentation-*.dcm")
    shutil.copy(made, out / key / "segmentation-1.2.3.dcm")
    foreign = dcmread(made)
    foreign.Manufacturer = "Somebody"
    foreign.save_as(out / key / "segmentation-1.2.4.dcm")
    (out / key / "segmentation-1.2.7.dcm").write_bytes(made.read_bytes()[:500] + b"\xff" * 99)
    for name in ("notes.dcm", "segmentation-1.2.5.dcm", "segmentation-1.2.6.txt"):
        (out / key / name).write_text("of somebody else")
    (out / key / f".sr-1.2.3.dcm.{'0a' * 16}.part").touch()
    return {out / key / f".sr-1.2.3.dcm.{'0a' * 16}.part", out / key / "segmentation-1.2.3.dcm"}


def begin(out, key, uids):
    with states.attempt(out, key, uids):  # and never say that its state is kept
        pass


def files(out):
    return {path for path in out.rglob("*") if path.is_file()}


def test_what_no_state_names_goes_where_an_attempt_never_ended(finished, out):
    key, before = finished[1], files(out)
    left = leave(out, key)
    begin(out, key, [key])
    sweep(out, Journal(out), None)
    assert before <= files(out)
    assert not left & files(out)
    assert len(files(out) - before) == 6, "the attempt itself, and what is somebody else's"


@pytest.mark.parametrize("forgiven", [False, True])
def test_where_nothing_was_cut_short_nobody_looks(finished, out, forgiven):
    left = leave(out, finished[1])
    begin(out, "9.9", [])
    if forgiven:
        states.forgive(out, finished[1])
    sweep(out, Journal(out), None)
    assert left <= files(out)


def test_an_interrupted_attempt_is_swept_too(finished, out):
    left = leave(out, finished[1])
    begin(out, finished[1], [finished[1]])
    states.forgive(out, finished[1])
    sweep(out, Journal(out), None)
    assert not left & files(out)


def test_a_study_of_another_name_is_known_from_what_the_attempt_noted_but_not_swept_beside_other_parts(finished, out):
    key = finished[1]
    left = leave(out, key)
    begin(out, "x" + "0" * 32, [key])
    part = next(part for part in Part(number=1, of=2).all() if part.has("x" + "0" * 32))
    sweep(out, Journal(out), part)
    assert left <= files(out)
    sweep(out, Journal(out), None)
    assert not left & files(out)


def test_a_part_sweeps_what_is_its_own(finished, out):
    key = finished[1]
    left = leave(out, key)
    begin(out, key, [key])
    own, other = sorted(Part(number=1, of=2).all(), key=lambda part: not part.has(key))
    sweep(out, Journal(out), other)
    assert left <= files(out)
    sweep(out, Journal(out), own)
    assert not left & files(out)


def test_a_repeated_attempt_in_one_run_sweeps_what_the_one_before_left(finished, tmp_path, pipeline, monkeypatch):
    """As when a worker dies on one machine, and the study goes to another one."""
    monkeypatch.setattr("cxr_dicom.pipeline.Pipeline", lambda settings, names: pipeline)
    monkeypatch.setattr(pipeline, "close", lambda: None)
    whole, key = finished
    (tmp_path / key).mkdir()

    def begun(progress):
        if not progress.latest:  # after the sweep at the start
            begin(tmp_path, key, [key])
            shutil.copy(next((whole / key).glob("segmentation-*.dcm")), tmp_path / key / "segmentation-1.2.3.dcm")

    cohort_run.run(manifest.read(str(whole.parent / "in")), tmp_path, SETTINGS, Here(), report_progress=begun)
    assert {path.name for path in (tmp_path / key).iterdir()} == {path.name for path in (whole / key).iterdir()}
    assert states.begun(tmp_path) == {}


def test_what_lies_behind_a_link_in_a_folder_of_somebody_else_stays(tmp_path):
    image = synthetic.radiograph(64, 48)
    synthetic.write_study(tmp_path / "in", [image])
    theirs, out = tmp_path / "elsewhere", tmp_path / "out"
    for folder in (theirs, out / "1.2"):
        folder.mkdir(parents=True)
        (folder / "x.dcm").write_bytes(b"x")
    (out / "link").symlink_to(theirs)
    made = [{"path": path, "kind": "x", "sop_instance_uid": "1"} for path in ("link/x.dcm", "1.2/x.dcm")]
    rows = [processed(sop_instance_uid=image.SOPInstanceUID, objects=made)]
    keep(out, states.State(key=image.StudyInstanceUID, stamp="", job_key="", rows=rows))
    cohort_run.run(manifest.read(str(tmp_path / "in")), out, SETTINGS, Here())
    assert not (out / "1.2" / "x.dcm").exists()
    assert (theirs / "x.dcm").exists()
