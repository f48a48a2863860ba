"""States: what was finished is known again, what was cut short is counted."""

import dataclasses
from pathlib import Path

import pytest

from cxr_dicom.cohort import states
from cxr_dicom.cohort.states import State
from cxr_dicom.records import StoredInstance
from tests.cohort_rows import processed


def instance(number, path="a.dcm"):
    return StoredInstance(
        path=Path(path),
        study_instance_uid="1.2",
        series_instance_uid="1.2.3",
        sop_instance_uid=f"1.2.3.{number}",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
    )


@pytest.fixture
def row():
    return processed(
        path="a.dcm",
        sop_instance_uid="1.2.3.1",
        objects=[{"path": "1.2/seg.dcm"}],
        exports=[{"path": "also/png/1.2.3.1.png"}],
    )


@pytest.fixture
def state(row, tmp_path):
    for each in (*row["objects"], *row["exports"]):
        (tmp_path / each["path"]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each["path"]).touch()
    state = State(key="1.2", stamp="s", job_key="k", rows=[row], figures={"1.2.3.1": [{"title": "Radiograph"}]})
    states.save(tmp_path, state)
    return state


def test_a_state_is_read_as_it_was_written(state, tmp_path):
    assert states.load(tmp_path, "1.2") == state


@pytest.mark.parametrize("content", ["", "[]", '{"job_key": "k"}', '{"of": "another version"}', "\0"])
def test_a_state_that_is_not_understood_is_none(state, tmp_path, content):
    (tmp_path / ".cxr-dicom" / "1.2.json").write_text(content)
    assert states.load(tmp_path, "1.2") is None


def test_a_state_whose_rows_lack_a_key_of_this_version_is_none(state, tmp_path):
    del state.rows[0]["sender"]
    states.save(tmp_path, state)
    assert states.load(tmp_path, "1.2") is None


def test_a_state_is_about_its_instances_only(state):
    assert state.is_about([instance(1)])
    assert not state.is_about([instance(1), instance(2)])
    assert not state.is_about([instance(2)])


@pytest.mark.parametrize("lost", ["1.2/seg.dcm", "also/png/1.2.3.1.png"])
def test_a_state_without_one_of_its_files_is_not_complete(state, lost, tmp_path):
    assert state.is_complete(tmp_path)
    (tmp_path / lost).unlink()
    assert not state.is_complete(tmp_path)


def test_a_failure_is_known(state, row):
    assert not state.has_failures
    assert dataclasses.replace(state, rows=[row, row | {"outcome": "failed"}]).has_failures


def test_a_state_takes_the_paths_that_the_inputs_have_now(state):
    assert [row["path"] for row in state.at([instance(1, "elsewhere/9.dcm")]).rows] == ["elsewhere/9.dcm"]


def test_a_new_state_removes_the_files_that_it_no_longer_has(state, row, tmp_path):
    kept, foreign = tmp_path / "1.2" / "new.dcm", tmp_path / "1.2" / "of-the-user.dcm"
    kept.touch()
    foreign.touch()
    changed = row | {"objects": [{"path": "1.2/new.dcm"}], "exports": []}
    states.save(tmp_path, dataclasses.replace(state, rows=[changed]), state)
    assert sorted((tmp_path / "1.2").iterdir()) == [kept, foreign]
    assert not list((tmp_path / "also" / "png").iterdir())


def test_saving_the_same_result_again_keeps_its_files(state, tmp_path):
    states.save(tmp_path, state, state)
    assert state.is_complete(tmp_path)


# --- attempts ------------------------------------------------------------------------------------


def test_an_attempt_that_ends_is_not_counted(tmp_path):
    for _ in range(3):
        with states.attempt(tmp_path, "1.2") as earlier:
            assert earlier == 0
    with pytest.raises(KeyError), states.attempt(tmp_path, "1.2"):
        raise KeyError
    assert states.crash_count(tmp_path, "1.2") == 0


def test_attempts_that_never_end_are_counted_and_can_be_forgiven(tmp_path):
    cut_short = [states.attempt(tmp_path, "1.2") for _ in range(3)]  # kept: what is collected comes to its end
    assert [attempt.__enter__() for attempt in cut_short] == [0, 1, 2]
    assert states.crash_count(tmp_path, "1.2") == 3
    states.reset_attempts(tmp_path, "1.2")
    assert states.crash_count(tmp_path, "1.2") == 0
