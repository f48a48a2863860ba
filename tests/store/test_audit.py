"""The audit trail: a line for each thing done, for its owner only; a trail that is broken stops nothing."""

import json
import logging
import os
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from cxr_dicom.records import EncodedObject
from cxr_dicom.store.audit import FILE_NAME, AuditTrail
from cxr_dicom.system import atomic


@pytest.fixture
def trail(tmp_path):
    return AuditTrail(tmp_path)


@pytest.fixture
def logged(caplog):
    """Return level, action and fields of what was logged."""
    caplog.set_level(logging.INFO, logger="cxr_dicom")
    return lambda: [(record.levelname, record.action, record.fields) for record in caplog.records]


@pytest.fixture
def usual_umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def lines(folder):
    return [json.loads(line) for line in (folder / FILE_NAME).read_text().splitlines()]


def test_what_was_done_is_in_the_trail_and_in_the_log(trail, tmp_path, logged):
    begun = datetime.now(UTC) - timedelta(milliseconds=1)
    trail.write("study_done", study_instance_uid="1.2", objects=0, model=None)
    trail.warn("study_held", study_instance_uid="1.3")
    done, held = lines(tmp_path)
    assert begun <= datetime.fromisoformat(done.pop("time")) <= datetime.now(UTC)
    assert datetime.fromisoformat(held.pop("time")).utcoffset() == timedelta(0)
    assert done == {"action": "study_done", "study_instance_uid": "1.2", "objects": 0}
    assert held == {"action": "study_held", "study_instance_uid": "1.3"}
    assert logged() == [
        ("INFO", "study_done", {"study_instance_uid": "1.2", "objects": 0}),
        ("WARNING", "study_held", {"study_instance_uid": "1.3"}),
    ]


def test_what_comes_with_every_image_is_in_the_trail_and_logged_only_when_all_is_asked_for(trail, tmp_path, logged):
    trail.note("instance_received", sop_instance_uid="1.2.3", sender="ROOM")
    (line,) = lines(tmp_path)
    assert (line["action"], line["sop_instance_uid"], line["sender"]) == ("instance_received", "1.2.3", "ROOM")
    assert logged() == []


def test_the_same_warning_of_many_images_is_one_line_of_the_log_and_each_is_in_the_trail(trail, tmp_path, logged):
    for number in range(5):
        trail.warn("instance_refused", sop_instance_uid=f"1.2.{number}", sender="ROOM", reason="WRONG_SOP_CLASS")
    trail.warn("instance_refused", sop_instance_uid="1.2.9", sender="WARD", reason="WRONG_SOP_CLASS")
    assert [line["sop_instance_uid"] for line in lines(tmp_path)] == [f"1.2.{number}" for number in (0, 1, 2, 3, 4, 9)]
    assert [(level, fields["sender"]) for level, _, fields in logged()] == [("WARNING", "ROOM"), ("WARNING", "WARD")]


def test_a_warning_that_is_not_logged_is_held_to_the_same_fields(trail, tmp_path):
    trail.warn("instance_refused", sender="ROOM")
    with pytest.raises(ValueError, match="no field patient_name"):
        trail.warn("instance_refused", sender="ROOM", patient_name="Doe^Jane")
    assert len(lines(tmp_path)) == 1


def test_a_field_that_could_name_a_patient_is_in_neither(trail, tmp_path, logged):
    with pytest.raises(ValueError, match="no field patient_name"):
        trail.write("study_done", patient_name="Doe^Jane")
    assert not (tmp_path / FILE_NAME).exists()
    assert logged() == []


def test_an_object_is_told_by_its_uids_and_its_model(trail, tmp_path):
    made = EncodedObject(
        path=tmp_path / "segmentation.dcm",
        kind="segmentation",
        sop_class_uid="1.1",
        sop_instance_uid="1.2.3.4",
        series_instance_uid="1.2.3",
        source_sop_instance_uids=("1.2.8.9",),
        model="painted",
    )
    trail.object_made("1.2", made)
    (line,) = lines(tmp_path)
    del line["time"]
    assert line == {
        "action": "object_made",
        "study_instance_uid": "1.2",
        "series_instance_uid": "1.2.3",
        "sop_instance_uid": "1.2.3.4",
        "sop_class_uid": "1.1",
        "model": "painted",
    }


def test_a_trail_may_be_rotated_between_two_lines(trail, tmp_path):
    trail.write("first")
    (tmp_path / FILE_NAME).rename(tmp_path / "old")
    trail.write("second")
    assert [line["action"] for line in lines(tmp_path)] == ["second"]


def test_where_the_trail_cannot_be_written_the_log_has_the_line(trail, tmp_path, logged):
    (tmp_path / FILE_NAME).mkdir()
    trail.write("study_done", study_instance_uid="1.2")
    (first, (level, action, _), last) = logged()
    assert first == ("INFO", "study_done", {"study_instance_uid": "1.2"})
    assert (level, action) == ("ERROR", "audit_failed")
    assert last == ("ERROR", "study_done", {"study_instance_uid": "1.2"})
    assert trail.problem() == f"{tmp_path / FILE_NAME} cannot be written: Is a directory; the log has the lines instead"
    trail.note("object_made", sop_instance_uid="1.2.3")
    assert logged()[3:] == [("ERROR", "object_made", {"sop_instance_uid": "1.2.3"})]  # and why only once


def test_lines_of_many_threads_are_appended_together_and_none_is_lost(trail, tmp_path, monkeypatch):
    count, appended, gate = 40, [], threading.Barrier(40)
    append_line = atomic.append_line

    def slowly(path, line, mode):
        appended.append(line)
        time.sleep(0.01)
        append_line(path, line, mode)

    monkeypatch.setattr(atomic, "append_line", slowly)

    def note(number):
        gate.wait()
        trail.note("instance_received", sop_instance_uid=f"1.2.{number}")
        with pytest.raises(ValueError, match="no field"):
            trail.note("instance_received", patient="1")
        assert f'"1.2.{number}"' in (tmp_path / FILE_NAME).read_text()

    with ThreadPoolExecutor(count) as threads:
        list(threads.map(note, range(count)))
    assert sorted(line["sop_instance_uid"] for line in lines(tmp_path)) == sorted(f"1.2.{n}" for n in range(count))
    assert len(appended) < count


def test_a_trail_that_can_be_written_has_no_problem_and_loses_no_line_by_the_question(trail, tmp_path):
    trail.write("first")
    assert trail.problem() is None
    assert [line["action"] for line in lines(tmp_path)] == ["first"]


@pytest.mark.usefixtures("usual_umask")
@pytest.mark.parametrize("begin", [AuditTrail.problem, lambda trail: trail.write("first")], ids=["asked", "written"])
def test_a_trail_is_for_its_owner_only_whoever_begins_it(trail, tmp_path, begin):
    begin(trail)
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


# --- ways ----------------------------------------------------------------------------------------


def test_a_way_is_the_last_on_which_other_content_came_among_those_asked_for(trail):
    for uid, sender, outcome in (("1.1", "FIRST", "new"), ("1.2", "OTHER", "new"), ("1.1", "LAST", "new")):
        fields = {"sender": sender, "called_ae_title": "CXR_RESEARCH", "outcome": outcome}
        trail.write("instance_received", sop_instance_uid=uid, **fields)
    trail.write("instance_received", sop_instance_uid="1.1", sender="AGAIN", outcome="known")
    trail.write("object_refused", sop_instance_uid="1.1", sender="PACS")
    assert trail.ways({"1.1", "1.3"}) == {"1.1": ("LAST", "CXR_RESEARCH")}
    assert trail.ways(()) == {}


def test_there_is_no_sender_without_a_trail(trail):
    assert trail.ways({"1.1"}) == {}


@pytest.mark.parametrize(
    "damage",
    [
        b'{"action": "instance_received", "sop_instance_uid": "1.1", "sen',
        b'{"action": "instance_received", "sender": "ROOM"}',
        b'{"action": "instance_received", "sop_instance_uid": "1.1"}',
        b'{"action": "instance_received", "sop_instance_uid": ["1.1"], "sender": "ROOM"}',
        b'["instance_received"]',
        b'"instance_received" \xff\xfe\x00',
    ],
    ids=["cut", "no uid", "no sender", "a list", "no object", "no text"],
)
def test_a_damaged_line_tells_nothing_and_hides_no_other(trail, tmp_path, damage):
    trail.write("instance_received", sop_instance_uid="1.1", sender="BEFORE")
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(damage + b"\n")
    trail.write("instance_received", sop_instance_uid="1.2", sender="AFTER")
    assert trail.ways({"1.1", "1.2"}) == {"1.1": ("BEFORE", None), "1.2": ("AFTER", None)}
