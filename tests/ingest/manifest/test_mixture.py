"""Inputs of several kinds together: each study once, and nothing lost."""

import shutil

import pytest
from PIL import Image

from cxr_dicom.errors import ManifestError
from cxr_dicom.ingest.manifest import read
from cxr_dicom.records import Reason
from tests.ingest.manifest.manifests import UIDS, reasons, sources

SERVER = "https://pacs.example/dicom-web"


def keys(manifest):
    return [entry.key for entry in manifest.entries]


@pytest.fixture
def picture(tmp_path):
    Image.new("L", (40, 32), 7).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_inputs_of_every_kind_are_taken_together(images, written, picture):
    table = written("path,view_position\npicture.png,AP\nimages/1.dcm\n", "table.csv")
    uids = written(f"{UIDS[0]}\n", "uids")
    bucket = written("cp s3://bucket/a/* .\n", "manifest.s5cmd")
    lone = f"{SERVER}/studies/{UIDS[1]}"
    manifest = read([images, table, uids, lone, bucket], origin=SERVER, wrap=True)
    assert (manifest.kind, manifest.skipped) == ("mixed", ())
    first, second, wrapped, *elsewhere = manifest.entries
    assert ([each.path.name for each in first.study.instances], len(second.study.instances)) == (["1.dcm"], 2)
    assert (wrapped.picture, wrapped.attributes) == (picture, (("view_position", "AP"),))
    assert [entry.sources for entry in elsewhere] == [(f"{SERVER}/studies/{UIDS[0]}",), (lone,), ("s3://bucket/a/*",)]


def test_a_study_whose_files_are_in_two_inputs_is_one(images, tmp_path):
    (tmp_path / "other").mkdir()
    shutil.move(images / "2.dcm", tmp_path / "other" / "2.dcm")
    split = read([images, tmp_path / "other"])
    assert sorted(len(entry.study.instances) for entry in split.entries) == [1, 2]
    assert keys(read([images, images / "0.dcm", tmp_path])) == keys(split)


def test_lists_that_name_the_same_study_make_one_entry(written):
    row = "StudyInstanceUID,url\n{uid},s3://bucket/{series}/*\n"
    a, b = (written(row.format(uid=UIDS[0], series=each), each) for each in ("a", "b"))
    assert sources(read([a, b, a])) == [["s3://bucket/a/*", "s3://bucket/b/*"]]


def test_a_study_that_lies_here_is_not_fetched_too(images, written):
    here = read(images).entries[0].key
    listed = written(f"# a comment\n{here}\n{UIDS[0]}\n")
    manifest = read([images, listed], origin=SERVER)
    assert keys(manifest).count(here) == 1
    assert sources(manifest)[-1] == [f"{SERVER}/studies/{UIDS[0]}"]
    assert reasons(manifest) == [(Reason.DUPLICATE_INSTANCE, "cohort")]
    assert manifest.skipped[0].detail.startswith("line 2: ")


def test_a_list_among_others_that_leads_nowhere_is_an_error(images, written):
    with pytest.raises(ManifestError, match="no line is one"):
        read([images, written("hello\n")])


@pytest.mark.parametrize(
    ("inputs", "asked", "text"),
    [
        ([], {}, "expected an input, or a DICOMweb server"),
        ([], {"query": {"PatientID": "1"}}, "expected an input, or a DICOMweb server"),
        ([SERVER], {}, "as --from"),
        (["s4://bucket/x"], {}, "there is nothing"),
        ([""], {}, "there is nothing"),
    ],
)
def test_what_leads_nowhere_is_refused(inputs, asked, text):
    with pytest.raises(ManifestError, match=text):
        read(inputs, **asked)
