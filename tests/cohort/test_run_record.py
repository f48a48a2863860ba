"""``run.json`` over several sessions: each has its end, all else adds up, and a damaged file costs only itself."""

import json
import shutil
import time
from contextlib import suppress

import pytest

from cxr_dicom.cohort.delivery import DestinationDownError
from cxr_dicom.cohort.engine import EngineDescription
from cxr_dicom.cohort.finished import summarise
from cxr_dicom.cohort.run_record import RunRecord, machines
from cxr_dicom.cohort.states import State
from cxr_dicom.cohort.tally import Tally
from cxr_dicom.cohort.worker import Worker
from cxr_dicom.config import Settings
from cxr_dicom.errors import WantError
from cxr_dicom.ingest.manifest import Manifest
from tests.cohort_rows import processed

ENGINE = EngineDescription(name="here", workers=1)
MANIFEST = Manifest(kind="folder", digest="ab" * 32, entries=(), skipped=())


@pytest.fixture
def path(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "run.json"


@pytest.fixture
def begun(path):
    """Begin a session that has processed one image."""

    def begin(settings=None):
        tally = Tally(total=1)
        row = processed(study_instance_uid="1.2", seconds={"read": 0.5, "encode": 1.25}, objects=[])
        tally.add(summarise(State(key="1.2", stamp="s", job_key="k", rows=[row])))
        return RunRecord(path.parent, tally, MANIFEST, settings or Settings())

    return begin


def read(path):
    return json.loads(path.read_text())


def stopped(record, error):
    with suppress(type(error)), record.session(lambda: ENGINE):
        raise error


def finished(record):
    with record.session(lambda: ENGINE):
        return record.finish(ENGINE)


def test_the_seconds_of_all_sessions_add_up_also_of_those_that_were_stopped(begun, path):
    finished(begun())
    stopped(begun(), KeyboardInterrupt())
    assert finished(begun()) == read(path)
    assert [each["stopped_by"] for each in read(path)["sessions"]] == [None, "INTERRUPTED", None]
    assert read(path)["seconds_per_stage"] == {"read": 1.5, "encode": 3.75}
    assert read(path)["totals"]["processed"] == 1, "an image that was processed again is one image"


@pytest.mark.parametrize(
    ("error", "told"),
    [(DestinationDownError("down"), "DESTINATION_UNREACHABLE"), (WantError("disk full"), "WANT")],
)
def test_what_is_not_an_error_of_ours_is_told_from_one(begun, path, error, told):
    stopped(begun(), error)
    assert read(path)["sessions"][0]["stopped_by"] == told


@pytest.mark.parametrize(
    "damage",
    ["", '{"sessions": [{"sta', "[]", "7", "{}", '{"sessions": null}', '{"sessions": 3}'],
    ids=["empty", "cut", "a list", "a number", "no sessions", "null", "a count"],
)
def test_a_record_that_is_not_understood_is_begun_anew(begun, path, damage):
    path.write_text(damage)
    finished(begun())
    assert len(read(path)["sessions"]) == 1


def test_what_breaks_after_the_totals_leaves_them_and_one_session(begun, path):
    record = begun()
    with suppress(ValueError), record.session(lambda: ENGINE):
        totals = record.finish(ENGINE)["totals"]
        raise ValueError("no report")
    (session,) = read(path)["sessions"]
    assert (session["stopped_by"], read(path)["totals"]) == ("ERROR", totals)
    assert session["ended"]


def test_where_the_end_cannot_be_written_the_cause_is_told_and_not_that(begun, path):
    def stop():
        with begun().session(lambda: ENGINE):
            shutil.rmtree(path.parent)
            path.parent.touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()


def test_a_session_is_written_now_and_then_and_not_at_each_image(begun, path, monkeypatch):
    record = begun()
    with record.session(lambda: ENGINE):
        path.unlink()
        record.progress()
        assert not path.exists()
        later = time.monotonic() + 31
        monkeypatch.setattr(time, "monotonic", lambda: later)
        record.progress()
        assert read(path)["sessions"][0]["ended"] is None
        path.unlink()
        record.progress()
        assert not path.exists()


def test_settings_are_those_that_change_a_result_and_name_no_peer_and_no_place(begun, path):
    peer = {"kind": "dicom", "name": "archive", "ae_title": "SECRETPACS", "address": "pacs.example", "port": 104}
    settings = Settings.model_validate({"destinations": [peer], "models": {"folder": "/home/doe/models"}})
    finished(begun(settings))
    assert set(read(path)["settings"]) == {"select", "pixels", "models", "encode"}
    assert not [word for word in ("SECRETPACS", "pacs.example", "/home/doe") if word in path.read_text()]
    assert read(path)["settings_digest"] == settings.digest


def test_a_session_says_which_machine_did_what_and_why_one_did_not():
    crew = [
        Worker(host="b", node="2", refused="expected torch 2, as here, found 1"),
        Worker(host="a", node="1", processor="EPYC", instruction_set="AVX2"),
        Worker(host="a", node="1", processor="EPYC", instruction_set="AVX2"),
    ]
    a, b = machines(crew, {"a": 7})
    assert (a["host"], a["workers"], a["studies"], a["instruction_set"], a["refused"]) == ("a", 2, 7, "AVX2", None)
    assert (b["workers"], b["studies"], b["refused"]) == (0, 0, "expected torch 2, as here, found 1")
