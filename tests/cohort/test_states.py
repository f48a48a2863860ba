"""States: what was finished is known again, what was cut short is counted."""

import dataclasses
import os
import threading
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
    return State(key="1.2", stamp="s", job_key="k", rows=[row], figures={"1.2.3.1": [{"title": "Radiograph"}]})


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


# --- attempts ------------------------------------------------------------------------------------


def test_an_attempt_counts_until_its_state_is_kept_and_one_that_ends_in_an_error_does_not(tmp_path):
    with states.attempt(tmp_path, "1.2") as first:
        assert first.earlier == 0
    assert states.crash_count(tmp_path, "1.2") == 1, "whoever keeps its state may die before"
    states.reset_attempts(tmp_path, "1.2")
    assert states.begun(tmp_path) == {}
    with pytest.raises(KeyError), states.attempt(tmp_path, "1.2"):
        raise KeyError
    assert states.crash_count(tmp_path, "1.2") == 0


def test_attempts_that_never_end_are_counted_and_can_be_forgiven_but_not_what_they_wrote(tmp_path):
    cut_short = [states.attempt(tmp_path, "1.2", uids) for uids in (["1.2"], [], ["1.2.3"])]
    assert [attempt.__enter__().earlier for attempt in cut_short] == [0, 1, 2]
    assert states.crash_count(tmp_path, "1.2") == 3
    states.forgive(tmp_path, "1.2")
    assert states.crash_count(tmp_path, "1.2") == 0
    assert states.begun(tmp_path) == {"1.2": ["1.2", "1.2.3"]}
    states.forgive(tmp_path, "9.9")
    assert states.begun(tmp_path).keys() == {"1.2"}


def test_what_is_known_only_when_it_was_fetched_is_noted_then_and_nothing_but_uids_is_believed(tmp_path):
    with states.attempt(tmp_path, "x1") as attempt:
        attempt.note(["1.2.9", "1.2.3"])
        assert states.names(tmp_path, "x1") == ["1.2.3", "1.2.9"]
    (tmp_path / ".cxr-dicom" / "x1.attempts").write_text("2\n../../home\n1.2\n")
    assert states.begun(tmp_path) == {"x1": ["1.2"]}


# --- files ---------------------------------------------------------------------------------------


def test_a_folder_in_which_no_name_changed_is_asked_about_once_and_any_other_is_looked_through(
    state, tmp_path, monkeypatch
):
    asked, stat = [], Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **options: asked.append(path.name) or stat(path, **options))
    os.utime(tmp_path / "1.2", (1, 1))  # else it may change again within the same tick of the clock
    known = dataclasses.replace(state, folders={"1.2": states.changed_at(tmp_path / "1.2")})
    asked.clear()
    assert known.is_complete(tmp_path)
    assert asked == ["1.2", "1.2.3.1.png"]
    asked.clear()
    assert known.is_complete(tmp_path, known=known.folders["1.2"])
    assert asked == ["1.2.3.1.png"]
    assert not known.is_complete(tmp_path.parent, known=states.changed_at(tmp_path.parent / "1.2"))
    (tmp_path / "1.2" / "of-the-user.dcm").touch()
    assert known.is_complete(tmp_path)
    (tmp_path / "1.2" / "seg.dcm").unlink()
    assert not known.is_complete(tmp_path)
    (tmp_path / "1.2" / "of-the-user.dcm").unlink()
    (tmp_path / "1.2").rmdir()
    assert not known.is_complete(tmp_path)


def test_many_folders_are_asked_at_once_and_each_answers_for_itself(tmp_path, monkeypatch):
    paths = [tmp_path / f"{number}" for number in range(200)]
    for number, path in enumerate(paths[:-1]):
        path.mkdir()
        os.utime(path, ns=(number, number))
    together, stat = threading.Barrier(4), Path.stat

    def waits(path, **options):
        if path in paths[::64]:
            together.wait(timeout=30)  # for the others
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", waits)
    assert [*states.changed_at_each(paths)] == [*range(199), -1]
