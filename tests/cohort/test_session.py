"""An output folder has one owner, or one for each part, whatever is killed, asleep or on another machine."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cxr_dicom.cohort import session
from cxr_dicom.cohort.session import Part, hold
from cxr_dicom.errors import CxrDicomError, SettingsError
from cxr_dicom.ingest.manifest import Entry, Manifest
from cxr_dicom.records import Reason, Skipped


def in_a_child(do, *arguments):
    """Run ``do`` in a process of its own; return its number. It ends with 1 where it was refused, 2 for an error."""
    if pid := os.fork():
        return pid
    code = 2
    try:
        do(*arguments)
        code = 0
    except CxrDicomError:
        code = 1
    finally:
        os._exit(code)


def files(out):
    return sorted((out / ".cxr-dicom").glob("session-*"))


def held_and_killed(out, part=None):
    """A session whose process was killed; return its file."""
    read, write = os.pipe()

    def do():
        with hold(out, part):
            os.write(write, b"x")
            time.sleep(60)

    pid = in_a_child(do)
    os.read(read, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # it is dead, and stays a zombie
    return pid, files(out)[-1]


def on_another_machine(out, silent_for=0.0, **says):
    """Leave the file of a session that another machine has; the lock is not seen here."""
    pid, file = held_and_killed(out)
    os.waitpid(pid, 0)
    file.write_text(json.dumps({**json.loads(file.read_text()), "machine": "another", "host": "node7", **says}))
    then = time.time() - silent_for
    os.utime(file, (then, then))
    return file


def test_a_folder_that_is_held_is_refused_and_free_afterwards(tmp_path):
    refused = pytest.raises(CxrDicomError, match=rf"process {os.getpid()} on .* holds its lock")
    with hold(tmp_path) as first, refused, hold(tmp_path):
        pass
    assert not files(tmp_path)
    with hold(tmp_path, Part(number=1, of=1)) as second:
        assert (first.number, second.number) == (1, 1), "nothing was written under the first"


def test_a_number_is_not_given_again_once_something_was_written_under_it(tmp_path):
    (tmp_path / ".cxr-dicom").mkdir()
    (tmp_path / ".cxr-dicom" / "journal-000007").touch()
    with hold(tmp_path) as own:
        assert own.number == 8


def test_the_session_of_a_killed_process_is_taken_over_at_once_even_before_its_parent_asked_for_it(tmp_path):
    pid, file = held_and_killed(tmp_path)
    with hold(tmp_path) as own:
        assert own.number == 2
        assert not file.exists()
    os.waitpid(pid, 0)


def test_where_there_are_no_locks_the_process_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "_lock", lambda descriptor, how: True)
    with hold(tmp_path), pytest.raises(CxrDicomError, match="it is at work on this machine"), hold(tmp_path):
        pass
    pid, file = held_and_killed(tmp_path)
    os.waitpid(pid, 0)
    file.write_text(json.dumps({**json.loads(file.read_text()), "process": os.getpid()}))  # given again, to us
    with hold(tmp_path):
        assert not file.exists()


def test_another_machine_is_believed_to_be_alive_until_it_was_silent_for_long(tmp_path):
    file = on_another_machine(tmp_path, silent_for=session.QUIET_SECONDS - 20)
    refused = pytest.raises(CxrDicomError, match=r"on node7, .* sign of life was 10\d s ago.* give --take-over")
    with refused, hold(tmp_path):
        pass
    assert files(tmp_path) == [file]
    with hold(tmp_path, take_over=True):
        assert file not in files(tmp_path)
    on_another_machine(tmp_path, silent_for=session.QUIET_SECONDS + 1)
    with hold(tmp_path) as own:
        assert own.others() == []


def test_who_holds_its_lock_is_alive_whatever_else_is_said(tmp_path):
    with hold(tmp_path):
        (file,) = files(tmp_path)
        file.write_text("{}")
        os.utime(file, (1, 1))
        with pytest.raises(CxrDicomError, match=r"on unknown, .* holds its lock"), hold(tmp_path, take_over=True):
            pass


def test_a_session_that_was_taken_over_while_it_slept_stops(tmp_path, monkeypatch):
    with hold(tmp_path) as own:
        own.expect_ours()
        files(tmp_path)[0].unlink()
        own.expect_ours()  # it gave a sign of life just now
        awake = session._now()
        monkeypatch.setattr(session, "_now", lambda: awake + 3 * session.BEAT_SECONDS)
        with pytest.raises(CxrDicomError, match="was taken over by another run"):
            own.expect_ours()


def test_a_session_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "BEAT_SECONDS", 0.01)
    with hold(tmp_path):
        (file,) = files(tmp_path)
        os.utime(file, (1, 1))
        until = time.monotonic() + 10
        while file.stat().st_mtime < 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert file.stat().st_mtime > 2


@pytest.mark.parametrize(
    ("held", "asked", "is_refused"),
    [("1/2", "2/2", False), ("1/2", "1/2", True), ("1/2", "2/3", True), (None, "1/2", True), ("1/2", None, True)],
)
def test_parts_of_one_division_go_together_and_nothing_else(tmp_path, held, asked, is_refused):
    held, asked = (Part.parse(text) if text else None for text in (held, asked))
    with hold(tmp_path, held) as first:
        if is_refused:
            what = rf"^{'part 1/2 of ' if held else ''}{tmp_path} is in use"
            with pytest.raises(CxrDicomError, match=what), hold(tmp_path, asked):
                pass
        else:
            with hold(tmp_path, asked) as second:
                assert (first.others(), second.others()) == ([second.number], [first.number])


def test_of_many_that_begin_at_once_never_two_have_the_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "_lock", lambda descriptor, how: True)  # as where no other machine sees it

    def compete(out):
        with hold(out):
            os.close(os.open(out / "held", os.O_CREAT | os.O_EXCL))  # an error where somebody else holds it
            (out / f"by-{os.getpid()}").touch()
            time.sleep(0.02)
            (out / "held").unlink()

    winners = 0
    for number in range(12):
        out = tmp_path / str(number)
        if number % 2:
            os.waitpid(held_and_killed(out)[0], 0)
        else:
            out.mkdir()
        ended = [
            os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in [in_a_child(compete, out) for _ in "12345"]
        ]
        assert set(ended) <= {0, 1}, "two at once"
        winners += len(list(out.glob("by-*")))
    assert winners


def test_of_the_parts_one_at_a_time_writes_the_results_and_not_beside_a_whole_run(tmp_path):
    with hold(tmp_path, Part(number=1, of=2)), hold(tmp_path, session.RESULTS):
        for part in (session.RESULTS, None):
            with pytest.raises(session.HeldError), hold(tmp_path, part):
                pass


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "-1/2", "1/2/3", "a/b", "1 /2", "1/9999999"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(SettingsError, match="expected one part"):
        Part.parse(text)


def test_every_study_is_in_one_part_and_stays_there_when_others_come():
    entries = [Entry(key=f"1.2.{number}") for number in range(2000)]
    skipped = tuple(
        Skipped(path=Path(f"notes-{number}.txt"), reason=Reason.NOT_DICOM, detail="") for number in range(300)
    )
    whole = Manifest(kind="folder", digest="d", entries=entries, skipped=skipped)
    shares = [part.share(whole) for part in Part(number=2, of=7).all()]
    assert sorted(entry.key for share in shares for entry in share.entries) == sorted(entry.key for entry in entries)
    assert {skip.path for share in shares for skip in share.skipped} == {skip.path for skip in skipped}
    assert min(len(share.entries) for share in shares) > 200
    before = Part(number=3, of=7).share(replace(whole, entries=entries[::2])).entries
    assert list(before) == [entry for entry in shares[2].entries if entry in entries[::2]]
