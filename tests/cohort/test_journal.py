"""States in a few files: none that was kept is lost, whatever is killed, full, damaged, or wakes up too late."""

import json
import os
from dataclasses import asdict, replace

import pytest

from cxr_dicom.cohort import journal as journals
from cxr_dicom.cohort.journal import Journal, writing
from cxr_dicom.cohort.states import State
from tests.cohort_rows import processed
from tests.kept import keep, kept
from tests.killed import kill_at_each_call


def state(key="1.2", stamp="s", **more):
    return State(key=key, stamp=stamp, job_key="k", rows=[processed(sop_instance_uid=f"{key}.1", **more)])


def files(out):
    return sorted((out / ".cxr-dicom").glob("journal-*"))


def single_file(out, content, key="1.2"):
    """As versions before 0.2 kept a state."""
    (out / ".cxr-dicom").mkdir(exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(asdict(content))
    (out / ".cxr-dicom" / f"{key}.json").write_text(text)


def session(out, number, *states, others=(), is_alone=True):
    with writing(out, number, others) as own:
        own.gather(is_alone=is_alone)
        for each in states:
            own.save(each)


def test_a_state_is_read_as_it_was_written_and_the_latest_counts(tmp_path):
    made = replace(state(), figures={"1.2.1": [{"title": "Rünt\ngenbild"}]}, taken={"pacs": {"1": "2"}})
    keep(tmp_path, state(stamp="old"), state("1.3"), made)
    assert kept(tmp_path, "1.2") == made
    keep(tmp_path, state(stamp="newer"))
    assert len(files(tmp_path)) == 2
    assert [each.stamp for each in map(Journal(tmp_path).load, ["1.2", "1.3"])] == ["newer", "s"]
    assert kept(tmp_path, "1.9") is None


def test_neighbours_are_read_at_once(tmp_path, monkeypatch):
    keys = [f"1.{number}" for number in range(500)]
    keep(tmp_path, *map(state, keys))
    found, read, sizes = Journal(tmp_path), os.read, []
    monkeypatch.setattr(os, "read", lambda *about: sizes.append(about[1]) or read(*about))
    assert [found.load(key).key for key in keys] == keys
    assert len(sizes) < 50


def test_what_takes_the_place_of_a_line_that_was_cut_off_is_read_as_it_is_now(tmp_path):
    with writing(tmp_path, 1, ()) as own:
        own.save(state("1.1"))
        (path,), found = files(tmp_path), Journal(tmp_path)
        size = path.stat().st_size
        with path.open("ab") as file:
            file.write(b"0" * 50_000)  # of a line that does not fit
        assert found.load("1.1").key == "1.1"
        os.truncate(path, size)
        own.save(state("1.2"))
    assert path.stat().st_size < size + 50_000
    found.refresh()
    assert found.load("1.2").key == "1.2"


def test_a_session_that_keeps_nothing_leaves_no_file(tmp_path):
    keep(tmp_path)
    assert files(tmp_path) == []


@pytest.mark.parametrize("content", ["", "[]", '{"job_key": "k"}', '{"of": "another version"}', "\0"])
def test_a_state_that_is_not_understood_is_none(tmp_path, content):
    single_file(tmp_path, content)
    assert kept(tmp_path, "1.2") is None
    session(tmp_path, 1)
    assert kept(tmp_path, "1.2") is None


@pytest.mark.parametrize("path", ["../x.dcm", "1.2/../../x.dcm", "/etc/hosts", "..\\x.dcm", "C:x.dcm"])
@pytest.mark.parametrize("kind", ["objects", "exports"])
def test_a_state_that_names_a_file_outside_of_the_folder_is_none(tmp_path, kind, path):
    keep(tmp_path, state(**{kind: [{"path": path, "kind": "", "sop_instance_uid": "1"}]}))
    assert kept(tmp_path, "1.2") is None


def test_a_state_whose_rows_lack_a_key_of_this_version_is_none(tmp_path):
    made = state()
    del made.rows[0]["sender"]
    keep(tmp_path, made)
    assert kept(tmp_path, "1.2") is None


@pytest.mark.parametrize("damage", [lambda text: text[:-3], lambda text: text.replace(b"newer", b"never"), bytes.upper])
def test_a_line_that_is_cut_off_or_damaged_is_as_if_it_were_not_there(tmp_path, damage):
    session(tmp_path, 1, state(stamp="old"))
    session(tmp_path, 2, state("1.3"), state(stamp="newer"))
    *before, last = files(tmp_path)[-1].read_bytes().splitlines(keepends=True)
    files(tmp_path)[-1].write_bytes(b"".join(before) + damage(last))
    assert kept(tmp_path, "1.2").stamp == "old"
    assert kept(tmp_path, "1.3") is not None
    session(tmp_path, 3, state("1.4"))
    assert [kept(tmp_path, key).key for key in ("1.2", "1.3", "1.4")] == ["1.2", "1.3", "1.4"]


def test_what_does_not_fit_on_the_disk_leaves_nothing_of_itself(tmp_path, monkeypatch):
    write = os.write
    with writing(tmp_path, 1, ()) as own:
        own.save(state())
        monkeypatch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:10]))
        with pytest.raises(OSError, match="No space left"):
            own.save(state("1.3"))
        monkeypatch.undo()
        own.save(state("1.4"))
    assert sorted(Journal(tmp_path)) == ["1.2", "1.4"]


def test_a_session_that_wakes_up_after_its_folder_was_taken_over_adds_nothing_that_counts(tmp_path):
    with writing(tmp_path, 1, ()) as asleep:
        asleep.save(state(stamp="before"))
        with writing(tmp_path, 2, ()) as new:
            new.save(state("1.3"))
            asleep.save(state(stamp="after"))
            asleep.save(state("1.4"))
        assert {key: kept(tmp_path, key) and kept(tmp_path, key).stamp for key in ("1.2", "1.3", "1.4")} == {
            "1.2": "before",
            "1.3": "s",
            "1.4": None,
        }
    session(tmp_path, 3)
    assert sorted(Journal(tmp_path)) == ["1.2", "1.3"]


def test_parts_at_work_together_see_what_the_others_keep(tmp_path):
    with writing(tmp_path, 1, ()) as first, writing(tmp_path, 2, (1,)) as second:
        second.save(state("1.3"))
        first.save(state("1.2"))
        assert first.load("1.3") is None
        for own in (first, second):
            own.refresh()
            assert sorted(own) == ["1.2", "1.3"]


# --- killed --------------------------------------------------------------------------------------


def test_a_session_that_is_killed_at_any_call_has_kept_what_it_said_and_what_was_there(tmp_path):
    out = tmp_path / "0"

    def prepare():
        session(out, 1, state(stamp="old"), state("1.3"))

    def work():
        with writing(out, 2, ()) as own:
            own.gather(is_alone=True)
            for key in ("1.2", "1.4"):
                own.save(state(key, stamp="new"))
                os.close(os.open(out / f"said-{key}", os.O_CREAT))

    prepare()
    found = set()
    for number in kill_at_each_call(work):
        states = {key: kept(out, key) for key in ("1.2", "1.3", "1.4")}
        assert states["1.3"].stamp == "s"
        assert states["1.2"].stamp == "new" or not (out / "said-1.2").exists()
        assert states["1.4"] or not (out / "said-1.4").exists()
        found.add((states["1.2"].stamp, states["1.4"] is not None))
        out = tmp_path / f"{number + 1}"
        prepare()
    assert found == {("old", False), ("new", False), ("new", True)}


@pytest.mark.parametrize("is_old", [True, False], ids=["files of older versions", "many journals"])
def test_one_file_of_many_is_made_without_a_loss_whenever_it_is_killed(tmp_path, monkeypatch, is_old):
    monkeypatch.setattr(journals, "MOST_FILES", 1)
    expected = {f"1.2.{number}": f"s{number}" for number in range(3)}
    out = tmp_path / "0"

    def prepare():
        out.mkdir()
        for number, (key, stamp) in enumerate(expected.items(), start=1):
            if is_old:
                single_file(out, state(key, stamp), key)
            else:
                session(out, number, state(key, "out of date"), state(key, stamp), is_alone=False)

    def work():
        session(out, 9)

    prepare()
    for number in kill_at_each_call(work):
        assert {key: kept(out, key).stamp for key in expected} == expected
        session(out, 10)  # which goes on
        assert {key: kept(out, key).stamp for key in expected} == expected
        assert len(files(out)) == 1
        out = tmp_path / f"{number + 1}"
        prepare()
    assert [path.name for path in files(out)] == ["journal-000009"]
    assert not list((out / ".cxr-dicom").glob("*.json"))


def test_who_looks_at_a_folder_while_one_file_is_made_of_many_finds_all(tmp_path, monkeypatch):
    monkeypatch.setattr(journals, "MOST_FILES", 1)
    session(tmp_path, 1, state("1.2"), is_alone=False)
    session(tmp_path, 2, state("1.3"), is_alone=False)
    looking = Journal(tmp_path)
    session(tmp_path, 3, state("1.4"))
    assert [looking.load(key).key for key in ("1.2", "1.3", "1.4")] == ["1.2", "1.3", "1.4"]
