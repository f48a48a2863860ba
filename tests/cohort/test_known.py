"""Each entry comes with what is known of its state when its turn comes, and not before."""

import pytest

from cxr_dicom.cohort import known
from cxr_dicom.cohort.journal import writing
from cxr_dicom.cohort.known import Known
from cxr_dicom.cohort.states import State, changed_at
from cxr_dicom.ingest.manifest import Entry


@pytest.fixture
def journal(tmp_path):
    with writing(tmp_path, 1, ()) as journal:
        yield journal


def finish(journal, out, key):
    (out / key).mkdir()
    journal.save(State(key=key, stamp="", job_key="", rows=[]))


def test_what_is_finished_comes_with_its_place_and_the_time_of_its_folder(journal, tmp_path, monkeypatch):
    monkeypatch.setattr(known, "_AT_ONCE", 2)
    entries = [Entry(key=f"1.2.{number}") for number in range(5)]
    finish(journal, tmp_path, "1.2.1")
    found = Known(entries, tmp_path, journal)
    assert [entry.key for entry in found] == [entry.key for entry in entries]
    assert [entry.place for entry in found] == [None, journal.place("1.2.1"), None, None, None]
    assert [entry.changed_at for entry in found] == [None, changed_at(tmp_path / "1.2.1"), None, None, None]
    assert (len(found), found[:], [found[number] for number in range(5)]) == (5, [*found], [*found])


def test_what_is_finished_meanwhile_is_known(journal, tmp_path, monkeypatch):
    monkeypatch.setattr(known, "_AT_ONCE", 2)
    found = iter(Known([Entry(key=f"1.2.{number}") for number in range(5)], tmp_path, journal))
    assert next(found).place is None
    finish(journal, tmp_path, "1.2.3")
    assert [entry.place is None for entry in found] == [True, True, False, True]
