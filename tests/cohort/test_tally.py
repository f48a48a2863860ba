"""What a finished entry is summarised to, and what a run counts of it."""

from pathlib import Path

import pytest

from cxr_dicom.cohort.finished import summarise
from cxr_dicom.cohort.states import State
from cxr_dicom.cohort.tally import Tally
from cxr_dicom.records import Reason, Skipped
from tests.cohort_rows import processed, skipped


def row(number, study="1.2", **changes):
    seconds = {"read": 0.5, "select": 0.1, "encode": 2.0}
    objects = [{"path": f"{study}/{number}.dcm"}, {"path": f"{study}/report.dcm"}]  # the report is about both images
    return processed(study_instance_uid=study, path=f"{number}.dcm", seconds=seconds, objects=objects, **changes)


@pytest.fixture
def state():
    refused = skipped("NOT_FRONTAL", study_instance_uid="1.2", objects=[], seconds={}, models=[])
    return State(key="1.2", stamp="s", job_key="k", rows=[row(1), row(2), refused], device="cpu")


def test_what_serves_a_study_as_a_whole_counts_once(state):
    done = summarise(state)
    assert (done.studies, done.objects, done.device, done.has_scores) == (1, 3, "cpu", True)
    assert done.seconds == pytest.approx({"read": 1.0, "select": 0.1, "encode": 2.0})
    assert done.outcomes == {("processed", None): 2, ("skipped", "NOT_FRONTAL"): 1}
    assert len(done.models) == len(state.rows[0]["models"])


def test_what_an_earlier_session_did_takes_no_time_and_is_no_work_of_this_one(state):
    again = summarise(state, is_reused=True)
    assert (again.seconds, again.is_reused) == ({}, True)
    tally = Tally(total=4)
    tally.add(again)
    assert (tally.done, tally.reused, tally.computed, tally.rate) == (1, 1, 0, 0)
    assert tally.seconds_left is None
    assert tally.session()["studies"] == 0
    assert tally.session()["timeline"] == []
    tally.add(summarise(state))
    assert (tally.done, tally.computed) == (2, 3)
    assert tally.seconds_left == pytest.approx(2 * tally.seconds, rel=0.2)


def test_outcomes_reasons_and_stages_add_up(state):
    tally = Tally(total=2)
    for _ in range(2):
        tally.add(summarise(state))
    tally.skip(Skipped(path=Path("x"), reason=Reason.NOT_DICOM, detail=""))
    assert tally.images == {"processed": 4, "skipped": 3}
    assert tally.by_reason() == {"NOT_FRONTAL": 2, "NOT_DICOM": 1}
    session = tally.session()
    assert session["seconds_per_stage"] == {"read": 2.0, "select": 0.2, "encode": 4.0}
    assert [images for _, images in session["timeline"]] == [3, 6]


def test_the_timeline_of_many_entries_stays_short_and_ends_with_the_last(state):
    tally, done = Tally(total=1000), summarise(state)
    for _ in range(1000):
        tally.add(done)
    images = [count for _, count in tally.session()["timeline"]]
    assert len(images) <= 400
    assert images == sorted(images)
    assert images[-1] == 3000
