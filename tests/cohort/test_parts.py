"""A cohort in parts, each a command of its own: together they are one run, and the last one writes its results."""

import json

import pytest

from cxr_dicom import synthetic
from cxr_dicom.cohort import run as cohort_run
from cxr_dicom.cohort import session
from cxr_dicom.cohort.engines.here import Here
from cxr_dicom.cohort.session import Part
from cxr_dicom.config import Settings
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.ingest import manifest

SETTINGS = Settings.model_validate({"models": {"names": ["offline-anatomy"], "device": "cpu"}})
NAMES = ("results.jsonl", "results.csv", "results.parquet", "failures.csv", "run.json", "report.html")
FIRST, SECOND = Part(number=1, of=2).all()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    for number in range(3):
        synthetic.write_study(folder / str(number), [synthetic.radiograph(96, 80, study=str(number), seed=number)])
    (folder / "notes.txt").write_text("no image")
    found = manifest.read(str(folder))
    assert all(part.share(found).entries for part in (FIRST, SECOND)), "expected a part of each to look at"
    return folder


@pytest.fixture(autouse=True)
def built_once(pipeline, monkeypatch):
    monkeypatch.setattr("cxr_dicom.pipeline.Pipeline", lambda settings, names: pipeline)
    monkeypatch.setattr(pipeline, "close", lambda: None)


def run(inputs, out, part=None):
    return cohort_run.run(manifest.read(str(inputs)), out, SETTINGS, Here(), part=part)


def rows(out):
    return [{**json.loads(line), "seconds": None} for line in (out / "results.jsonl").read_text().splitlines()]


def objects(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.dcm")}


def record(out):
    return json.loads((out / "run.json").read_text())


def test_parts_give_what_one_run_gives_and_the_last_writes_it(inputs, tmp_path):
    whole = run(inputs, tmp_path / "whole")
    out = tmp_path / "out"
    first = run(inputs, out, FIRST)
    assert first.unfinished_parts == [2]
    assert not [name for name in NAMES if (out / name).exists()]
    second = run(inputs, out, SECOND)
    assert second.unfinished_parts == []
    assert rows(out) == rows(tmp_path / "whole")
    assert objects(out) == objects(tmp_path / "whole")
    assert first.images + second.images == whole.images == {"processed": 3, "skipped": 1}
    assert all((out / name).exists() for name in NAMES)
    assert record(out)["totals"] == record(tmp_path / "whole")["totals"]
    assert [(each["part"], each["images"]) for each in record(out)["sessions"]] == [
        ("1/2", first.computed),
        ("2/2", second.computed),
    ]
    again = run(inputs, out)  # as somebody does who lost the last part
    assert (again.reused, again.computed) == (3, 0)
    assert rows(out) == rows(tmp_path / "whole")
    assert [each.get("part") for each in record(out)["sessions"]] == ["1/2", "2/2", None]


def test_a_part_that_is_at_work_again_or_has_another_list_is_waited_for(inputs, tmp_path):
    run(inputs, tmp_path, FIRST)
    run(inputs, tmp_path, SECOND)
    (tmp_path / "results.jsonl").unlink()
    stopped = tmp_path / ".cxr-dicom" / "part-1-of-2.json"
    content = json.loads(stopped.read_text())
    for damage in ({"ended": None}, {"stopped_by": "ERROR"}):
        sessions = [*content["sessions"][:-1], content["sessions"][-1] | damage]
        stopped.write_text(json.dumps(content | {"sessions": sessions}))
        assert run(inputs, tmp_path, SECOND).unfinished_parts == [1]
    stopped.write_text(json.dumps(content | {"manifest": content["manifest"] | {"digest": "another"}}))
    assert run(inputs, tmp_path, SECOND).unfinished_parts == [1]
    assert not (tmp_path / "results.jsonl").exists()
    assert run(inputs, tmp_path, FIRST).unfinished_parts == []
    assert len(rows(tmp_path)) == 4


def test_a_part_leaves_alone_what_another_one_is_writing_and_the_same_part_is_refused(inputs, tmp_path):
    begun = tmp_path / "1.2" / f".file.dcm.{'0a' * 16}.part"
    begun.parent.mkdir()
    begun.touch()
    with session.hold(tmp_path, FIRST):
        run(inputs, tmp_path, SECOND)
        with pytest.raises(CxrDicomError, match=r"^part 1/2 of .* in use"):
            run(inputs, tmp_path, FIRST)
    assert begun.exists()


def test_of_two_that_end_together_one_writes(inputs, tmp_path):
    run(inputs, tmp_path, FIRST)
    with session.hold(tmp_path, session.RESULTS):
        run(inputs, tmp_path, SECOND)
    assert not (tmp_path / "results.jsonl").exists()
