"""What of an earlier run holds: by the stamp where nothing changed, by the content where it did."""

import os
from dataclasses import replace

import pytest

from cxr_dicom import synthetic
from cxr_dicom.cohort.journal import Reader
from cxr_dicom.cohort.options import Options, Tools
from cxr_dicom.cohort.reuse import job_key, reconsidered, stamp
from cxr_dicom.cohort.states import State
from cxr_dicom.config import Settings
from cxr_dicom.ingest import manifest
from cxr_dicom.ingest.manifest import Entry
from cxr_dicom.pipeline import Pipeline
from tests.cohort_rows import processed

SETTINGS = Settings.model_validate({"models": {"names": ["offline-anatomy"], "device": "cpu"}})
ELSEWHERE = Entry(key="1.2", sources=("s3://one/1", "s3://one/2"))


@pytest.fixture(scope="module")
def pipelines():
    """Two pipelines whose results differ."""
    other = Settings.model_validate({"models": SETTINGS.models.model_dump(), "encode": {"geometry": "strict"}})
    built = Pipeline(SETTINGS), Pipeline(other)
    yield built
    for each in built:
        each.close()


@pytest.fixture
def tools(pipelines, tmp_path):
    def make(number=0, **options):
        return Tools(
            out=tmp_path / "out",
            states=Reader(tmp_path / "out"),
            settings=SETTINGS,
            options=Options(**options),
            pipeline=pipelines[number],
            exporters=(),
            delivery=None,
        )

    return make


@pytest.fixture
def folder(tmp_path):
    """Two images of one study."""
    images = [synthetic.radiograph(64, 48, seed=seed) for seed in (1, 2)]
    synthetic.write_study(tmp_path / "in", images)
    return tmp_path / "in"


def listed(folder):
    (entry,) = manifest.read(str(folder)).entries
    return entry


def finished(entry, tools, **changes):
    """Return the state of an entry as a run leaves it, without objects."""
    rows = [
        processed(sop_instance_uid=each.sop_instance_uid, path=str(each.path), objects=[], exports=[])
        for each in entry.study.instances
    ]
    key = job_key([tools.pipeline.job_key(entry.study)])
    return replace(State(key=entry.key, stamp=stamp(entry, tools), job_key=key, rows=rows), **changes)


def test_where_nothing_changed_the_same_state_holds(folder, tools):
    entry = listed(folder)
    state = finished(entry, tools())
    assert reconsidered(entry, state, tools()) == (entry, state)
    assert reconsidered(entry, None, tools()) == (entry, None)
    assert reconsidered(entry, state, tools(force=True)) == (entry, None)


def test_a_study_that_was_moved_holds_with_its_new_paths_and_stamp(folder, tools):
    entry = listed(folder)
    state = finished(entry, tools())
    moved = listed(folder.rename(folder.parent / "elsewhere"))
    same, holds = reconsidered(moved, state, tools())
    assert [row["path"] for row in holds.rows] == [str(each.path) for each in moved.study.instances]
    assert all("elsewhere" in row["path"] for row in holds.rows)
    assert holds.stamp == stamp(moved, tools()) != state.stamp
    assert holds.job_key == state.job_key
    assert all(each.sha256 for each in same.study.instances), "nobody need read them again to know them"


def test_a_study_that_lost_an_image_does_not_hold_and_is_not_read_to_know_it(folder, tools):
    entry = listed(folder)
    state = finished(entry, tools())
    entry.study.instances[0].path.unlink()
    smaller, holds = reconsidered(listed(folder), state, tools())
    assert holds is None
    assert smaller.study.instances[0].sha256 is None


def test_what_failed_is_tried_again_where_its_files_were_touched(folder, tools):
    entry = listed(folder)
    failed = [row | {"outcome": "failed", "reason": "MODEL_FAILED"} for row in finished(entry, tools()).rows]
    state = finished(entry, tools(), rows=failed)
    assert reconsidered(entry, state, tools())[1] == state
    assert reconsidered(entry, state, tools(retry_failed=True))[1] is None
    os.utime(entry.study.instances[0].path, (1, 1))
    assert reconsidered(entry, state, tools())[1] is None


def test_a_file_that_went_is_for_processing_to_report(folder, tools):
    entry = listed(folder)
    state = finished(entry, tools())
    entry.study.instances[0].path.unlink()
    assert reconsidered(entry, state, tools()) == (entry, None)


def test_other_settings_are_another_result_of_the_same_bytes(folder, tools):
    entry = listed(folder)
    assert reconsidered(entry, finished(entry, tools(0)), tools(1))[1] is None
    assert stamp(entry, tools(0)) != stamp(entry, tools(1))
    assert stamp(ELSEWHERE, tools(0)) != stamp(ELSEWHERE, tools(1))


def test_a_result_whose_file_is_gone_does_not_hold(folder, tools):
    entry = listed(folder)
    rows = [row | {"exports": [{"path": "also/png/1.png"}]} for row in finished(entry, tools()).rows]
    assert reconsidered(entry, finished(entry, tools(), rows=rows), tools())[1] is None


# --- stamps --------------------------------------------------------------------------------------


def test_the_order_of_the_sources_changes_no_stamp(folder, tools):
    entry = listed(folder)
    turned = replace(entry, study=replace(entry.study, instances=entry.study.instances[::-1]))
    assert stamp(turned, tools()) == stamp(entry, tools())
    assert stamp(replace(ELSEWHERE, sources=ELSEWHERE.sources[::-1]), tools()) == stamp(ELSEWHERE, tools())
    assert stamp(replace(ELSEWHERE, sources=ELSEWHERE.sources[1:]), tools()) != stamp(ELSEWHERE, tools())
    assert job_key(["a", "b"]) == job_key(iter(["b", "a"])) != job_key(["a"])


@pytest.mark.parametrize("change", [lambda path: os.utime(path, (1, 1)), lambda path: path.write_bytes(b"")])
def test_a_time_or_a_size_changes_the_stamp(folder, tools, change):
    entry = listed(folder)
    before = stamp(entry, tools())
    path = entry.study.instances[1].path
    kept = path.stat()
    change(path)
    if path.stat().st_size != kept.st_size:
        os.utime(path, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert stamp(entry, tools()) != before


def test_a_picture_holds_until_it_changes_by_whatever_path_it_is_given(tmp_path, tools, monkeypatch):
    picture = tmp_path / "chest.png"
    picture.write_bytes(b"a picture")
    entry = Entry(key="x1", picture=picture)
    state = State(key="x1", stamp=stamp(entry, tools()), job_key="k", rows=[processed(path=str(picture), objects=[])])
    state = replace(state, rows=[row | {"exports": []} for row in state.rows])
    assert reconsidered(entry, state, tools())[1] is state
    monkeypatch.chdir(tmp_path)
    relative = replace(entry, picture=picture.relative_to(tmp_path))
    (row,) = reconsidered(relative, state, tools())[1].rows
    assert row == state.rows[0] | {"path": "chest.png"}
    picture.write_bytes(b"another picture")
    assert reconsidered(entry, state, tools())[1] is None
