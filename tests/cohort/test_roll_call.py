"""A worker proves that it sees what the parent sees and has what it has; what is wrong is said in one line."""

import re
from dataclasses import replace

import pytest

from cxr_dicom import synthetic
from cxr_dicom.cohort import credentials
from cxr_dicom.cohort.roll_call import LOOKED_AT, Roll
from cxr_dicom.infer import model_infos
from cxr_dicom.ingest import manifest
from cxr_dicom.ingest.manifest import Entry

INFO = model_infos()["chestx-det"]
MODELS = (("chestx-det", INFO.version, "ab" * 32),)


@pytest.fixture
def source(tmp_path):
    for number in range(3):
        synthetic.write_study(
            tmp_path / "in" / str(number), [synthetic.radiograph(32, 32, study=str(number), seed=number)]
        )
    return tmp_path / "in"


@pytest.fixture
def roll(source, tmp_path):
    (tmp_path / "token").write_text("secret")
    files = {"archive, token_file": tmp_path / "token", "archive, ca": tmp_path / "never"}
    return Roll.call(tmp_path / "out", manifest.read(str(source)).entries, [(INFO, "ab" * 32)], files)


def test_a_worker_that_sees_and_has_the_same_takes_part_and_nothing_is_left(roll, tmp_path):
    worker = roll.answer(MODELS)
    assert roll.refusal(worker) == ""
    assert worker.processor
    assert worker.instruction_set
    roll.end()
    assert not (tmp_path / "out").exists(), "a dry run writes nothing"


@pytest.mark.parametrize(
    ("version", "is_same"),
    [("1; OpenVINO 2026.4 float32", True), ("1 (my-model 1.0)", True), ("10", False), ("2; OpenVINO 2026.4", False)],
)
def test_a_runtime_or_a_package_may_stand_behind_the_version_of_a_model(roll, version, is_same):
    said = roll.refusal(roll.answer((("chestx-det", version, "ab" * 32),)))
    assert (said == "") == is_same


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"versions": {}}, "expected cxr-dicom .*, as here, found none"),
        ({"token": ""}, "does not see the .*out that is here"),
        ({"proof": ""}, "what it writes to .*out does not arrive here"),
        ({"proof": "../../in/0"}, "does not arrive here"),
        ({"unseen": (0, 2)}, "of 3 files of the input it does not find 2"),
        ({"missing": ("AWS_CONFIG_FILE",)}, "lacks the file that AWS_CONFIG_FILE names"),
        ({"models": ()}, "expected the models chestx-det 1, found none"),
        ({"models": (("chestx-det", "1", "cd" * 32),)}, "expected weights abab.* of chestx-det, as here, found cdcd"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_differs_is_said(roll, other, why):
    worker = replace(roll.answer(MODELS), **other)
    said = roll.refusal(worker)
    assert re.search(why, said), said


def test_another_folder_of_the_same_name_is_seen(roll, tmp_path):
    """As on a machine where it is not mounted."""
    elsewhere = replace(roll, out=tmp_path / "other")
    assert "does not see" in roll.refusal(elsewhere.answer(MODELS))
    assert roll.refusal(roll.answer(MODELS)) == ""


def test_a_file_that_is_another_or_gone_is_seen_but_not_one_that_is_gone_here_too(roll, source):
    one = next(source.glob("0/*"))
    content = one.read_bytes()
    one.write_bytes(content[:-1])
    worker = roll.answer(MODELS)
    assert worker.unseen == (0,)
    assert roll.refusal(worker) == "", "it was changed here"
    one.write_bytes(content)
    assert "does not find 1" in roll.refusal(replace(roll.answer(MODELS), unseen=(0,)))


def test_of_a_large_cohort_some_are_looked_at(source, tmp_path):
    entries = [*manifest.read(str(source)).entries] * 1000
    assert LOOKED_AT / 2 < len(Roll.call(tmp_path / "out", entries, [], {}).looked_at) <= LOOKED_AT


def test_credentials_go_to_workers_of_buckets_only_and_are_in_no_text(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheim")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "identity"))
    (tmp_path / "identity").write_text("token")
    web = Roll.call(tmp_path / "out", [Entry(key="1", sources=("https://a/studies/1",))], [], {})
    assert not web.environment
    roll = Roll.call(tmp_path / "out", [Entry(key="1", sources=("s3://bucket/1/*",))], [], {})
    assert roll.environment["AWS_SECRET_ACCESS_KEY"] == "geheim"
    assert "geheim" not in repr(roll)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    roll.take_credentials()
    assert credentials.environment()["AWS_SECRET_ACCESS_KEY"] == "geheim"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "own")
    roll.take_credentials()
    assert credentials.environment()["AWS_SECRET_ACCESS_KEY"] == "own", "a machine that has its own keeps them"
    (tmp_path / "identity").unlink()
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in roll.refusal(roll.answer(()))
