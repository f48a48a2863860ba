"""A DICOMweb server as the place of a cohort: an answer that is not what was asked for is no study of it."""

import pytest

from cxr_dicom.errors import FetchError
from cxr_dicom.ingest.manifest import fetched, read
from cxr_dicom.ingest.manifest.attempts import ATTEMPTS
from tests.ingest.pacs import MULTIPART, Pacs, encoded, multipart, serving, studies


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    made = []
    monkeypatch.setattr("cxr_dicom.ingest.manifest.attempts.time.sleep", made.append)
    return made


@pytest.fixture
def pacs():
    return Pacs(list(studies(3)))


def test_a_key_that_the_server_ignores_makes_the_cohort_no_larger(pacs):
    pacs.keys.remove("PatientID")
    with serving(pacs) as url:
        manifest = read([], origin=url, query={"PatientID": "P1"})
    assert [entry.key for entry in manifest.entries] == [pacs.images[1].StudyInstanceUID]


def test_a_query_whose_answer_cannot_be_proved_makes_no_cohort(pacs):
    pacs.change = lambda items: [*items, {}]
    with serving(pacs) as url, pytest.raises(FetchError, match="INCOMPLETE"):
        read([], origin=url, query={"StudyDate": "20260101-"})


@pytest.mark.parametrize("what", ["another image", "another study", "damaged", "page"])
def test_what_is_not_the_image_is_asked_for_again_and_then_fails(pacs, pauses, tmp_path, what):
    first, second, _ = pacs.images
    second.SOPInstanceUID = second.file_meta.MediaStorageSOPInstanceUID = (
        second.SOPInstanceUID if what == "another image" else first.SOPInstanceUID
    )
    given = {"damaged": encoded(first)[:400], "page": b"<html>"}.get(what, encoded(second))
    pacs.lie = lambda path, *_: (200, {"Content-Type": MULTIPART}, multipart(given)) if path.count("/") == 6 else None
    with serving(pacs) as url:
        (entry,) = read([], origin=url, query={"StudyInstanceUID": first.StudyInstanceUID}).entries
        with pytest.raises(FetchError), fetched(entry, tmp_path / "work"):
            pass
    assert len(pauses) == (0 if what == "page" else ATTEMPTS - 1)
    assert not list(tmp_path.rglob("0*"))
