"""A worker's way through one entry: what is read, how often, and what it comes to."""

import errno
import gc
import os
import shutil
import socket
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import pytest

from cxr_dicom import synthetic
from cxr_dicom.cohort import states
from cxr_dicom.cohort import task as cohort_task
from cxr_dicom.cohort.journal import Journal
from cxr_dicom.cohort.options import Options
from cxr_dicom.cohort.task import EntryTask
from cxr_dicom.config import Settings
from cxr_dicom.errors import CxrDicomError, PlaceError, WantError
from cxr_dicom.ingest import manifest
from cxr_dicom.system.digest import sha256
from tests.kept import keep, kept

SETTINGS = Settings.model_validate({"models": {"names": ["offline-anatomy"], "device": "cpu"}})

_watched: list[Counter] = []


def _note(event, arguments):
    if event == "open" and _watched and isinstance(arguments[0], str | bytes):
        _watched[-1][os.fsdecode(arguments[0])] += 1


sys.addaudithook(_note)


@contextmanager
def opened():
    """Count how often each file is opened in the block, by whomever: the interpreter itself tells."""
    counted = Counter()
    _watched.append(counted)
    try:
        yield counted
    finally:
        _watched.pop()


@pytest.fixture(autouse=True)
def built_once(pipeline, monkeypatch):
    monkeypatch.setattr("cxr_dicom.pipeline.Pipeline", lambda settings, names: pipeline)


@pytest.fixture
def source(tmp_path):
    (path,) = synthetic.write_study(tmp_path / "in", [synthetic.radiograph(96, 80, seed=1)])
    return path


@pytest.fixture
def entry(source):
    (entry,) = manifest.read(str(source.parent)).entries
    return entry


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def task(out, **options):
    return EntryTask(settings=SETTINGS, out=out, options=Options(**options))


def work(out, entry, **options):
    """Do an entry, and keep its state as a run does; return what became of it, and how often each file was opened."""
    entry = replace(entry, place=Journal(out).place(entry.key))
    with opened() as files:
        answer = task(out, **options)(entry)
    if answer.state:
        keep(out, answer.state)
    for path in answer.obsolete:
        (out / path).unlink()
    return answer.done, files


def looked_up(out, files):
    """How often states were opened."""
    return sum(files[str(path)] for path in (out / ".cxr-dicom").glob("journal-*"))


def test_no_garbage_is_collected_while_the_models_are_loaded(entry, out, pipeline, monkeypatch):
    seen = []
    monkeypatch.setattr("cxr_dicom.pipeline.Pipeline", lambda *_: seen.append(gc.isenabled()) or pipeline)
    work(out, entry)
    assert [*seen, gc.isenabled()] == [False, True]


def test_a_new_entry_is_opened_for_its_header_its_pixels_and_its_digest_and_no_state_is_looked_for(source, entry, out):
    _, files = work(out, entry)
    assert files[str(source)] == 3
    assert looked_up(out, files) == 0


def test_what_was_digested_as_it_came_is_not_digested_again(source, entry, out):
    instances = tuple(replace(each, sha256=sha256(each.path)) for each in entry.study.instances)
    _, files = work(out, replace(entry, study=replace(entry.study, instances=instances)))
    assert files[str(source)] == 2
    work(out / "anew", entry)
    assert kept(out, entry.key).job_key == kept(out / "anew", entry.key).job_key


def test_an_entry_that_holds_costs_one_look_at_its_state_and_none_at_its_source(source, entry, out):
    work(out, entry)
    done, files = work(out, entry)
    assert done.is_reused
    assert (files[str(source)], looked_up(out, files)) == (0, 1)


def test_an_entry_that_was_touched_is_digested_once_and_holds_from_then_on_without(source, entry, out):
    work(out, entry)
    os.utime(source, (1, 1))
    for times in (1, 0):
        done, files = work(out, entry)
        assert done.is_reused
        assert (files[str(source)], looked_up(out, files)) == (times, 1)


def test_a_file_whose_content_changed_is_digested_once_to_know_it_and_for_its_result(source, entry, out):
    work(out, entry)
    before = kept(out, entry.key).job_key
    other = synthetic.radiograph(96, 80, seed=1)
    other.SeriesDescription = "changed"
    other.save_as(source, enforce_file_format=True)
    done, files = work(out, entry)
    assert not done.is_reused
    assert (files[str(source)], looked_up(out, files)) == (3, 1)
    assert kept(out, entry.key).job_key != before


def test_files_of_an_earlier_result_go_when_it_is_replaced(entry, out):
    work(out, entry)
    old = kept(out, entry.key)
    path = out / "1.2" / "old.dcm"
    path.parent.mkdir()
    path.touch()
    row = {**old.rows[0], "objects": [*old.rows[0]["objects"], {**old.rows[0]["objects"][0], "path": "1.2/old.dcm"}]}
    keep(out, replace(old, rows=[row]))
    work(out, entry, force=True)
    assert not path.exists()
    assert kept(out, entry.key).is_complete(out)


def test_a_file_that_is_gone_when_its_turn_comes_is_a_reason_and_ends_nothing(source, entry, out):
    work(out, entry)
    source.unlink()
    done, _ = work(out, entry)
    assert dict(done.outcomes) == {("skipped", "UNREADABLE"): 1}


def test_an_output_folder_that_is_gone_ends_the_run_for_no_entry_can_be_done(entry, out):
    shutil.rmtree(out, ignore_errors=True)
    out.write_text("a file where a folder should be")
    with pytest.raises(Exception, match=rf"^{out}: "):
        task(out)(entry)


def test_a_worker_whose_session_lost_the_folder_saves_nothing_also_of_what_it_had_begun(
    source, entry, out, monkeypatch
):
    """Its files vanish below it when the next session sweeps, so it would fail the study."""
    owner = out / ".cxr-dicom" / "owner"
    owner.parent.mkdir(parents=True)
    owner.touch()
    left_behind = EntryTask(settings=SETTINGS, out=out, options=Options(), owner=owner)
    process = cohort_task.process

    def at_work(*arguments):
        owner.unlink()
        source.unlink()
        return process(*arguments)

    monkeypatch.setattr(cohort_task, "process", at_work)
    for _ in range(2):
        with pytest.raises(CxrDicomError, match="taken over by another run"):
            left_behind(entry)
    assert not [path for path in out.rglob("*") if path.suffix == ".attempts" and path.read_text()[0] != "0"]


def test_a_state_says_which_machine_made_it(entry, out):
    done, _ = work(out, entry)
    assert done.host == socket.gethostname()
    assert kept(out, entry.key).row(0, None)["host"] == socket.gethostname()


def test_trouble_that_may_be_of_this_machine_is_kept_only_where_no_other_can_be_asked(source, entry, out):
    source.unlink()
    with pytest.raises(PlaceError, match=r"^UNREADABLE: expected the file that was listed"):
        task(out)(entry, is_last=False)
    assert states.crash_count(out, entry.key) == 0
    assert task(out)(entry).done.outcomes == {("skipped", "UNREADABLE"): 1}


def test_a_full_disk_of_a_worker_ends_the_run_where_it_is_the_disk_of_all(out, monkeypatch):
    (out / ".cxr-dicom").mkdir(parents=True)
    task(out).raise_if_here_too(WantError("this machine lacks room on its disk"))

    def full(**_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(cohort_task, "TemporaryFile", full)
    with pytest.raises(WantError, match="room on its disk"):
        task(out).raise_if_here_too(WantError("this machine lacks room on its disk"))
    task(out).raise_if_here_too(PlaceError("UNREADABLE"))
