"""Cohorts in a real Orthanc: found by QIDO-RS, fetched by WADO-RS, gone after the block."""

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from cxr_dicom import synthetic
from cxr_dicom.errors import FetchError, ManifestError
from cxr_dicom.ingest.manifest import fetched, read
from cxr_dicom.system import retry

DATES = ("20200105", "20200620", "20210301")


@pytest.fixture(scope="module")
def stored(archive, tmp_path_factory):
    """Three studies of one image each; the first also has a CT series. By date: Study Instance UID."""
    folder, uids = tmp_path_factory.mktemp("cohort"), {}
    for number, date in enumerate(DATES):
        uids[date] = generate_uid(entropy_srcs=["manifest", date])
        attributes = {"StudyDate": date, "StudyInstanceUID": uids[date], "PatientID": f"COHORT{number}"}
        images = [synthetic.radiograph(40, 32, seed=number, modality="CR" if number else "DX", **attributes)]
        if not number:
            images.append(synthetic.radiograph(40, 32, seed=7, **attributes, Modality="CT"))
            images[1].SeriesInstanceUID = generate_uid(entropy_srcs=["manifest", "CT"])
        for path in synthetic.write_study(folder / date, images):
            archive.store(path)
    return uids


@pytest.fixture
def origin(archive, stored):
    return f"{archive.url}/dicom-web"


def test_a_query_gives_its_studies(origin, stored, tmp_path):
    manifest = read([], origin=origin, query={"PatientID": "COHORT*", "StudyDate": "20200101-20201231"})
    assert manifest.kind == "dicomweb"
    by_key = {entry.key: entry for entry in manifest.entries}
    assert set(by_key) == {stored[date] for date in DATES[:2]}
    assert by_key[stored[DATES[0]]].modalities == ("CT", "DX")
    assert (by_key[stored[DATES[1]]].modalities, by_key[stored[DATES[1]]].instances) == (("CR",), 1)
    same = read([], origin=origin, query={"StudyDate": "20200101-20201231", "PatientID": "COHORT*"})
    assert same.digest == manifest.digest


def test_a_query_may_ask_for_modalities_itself(origin, stored):
    manifest = read([], origin=origin, query={"ModalitiesInStudy": "CR", "PatientID": "COHORT*"})
    assert {entry.key for entry in manifest.entries} == {stored[date] for date in DATES[1:]}


def test_only_radiographs_of_a_study_are_fetched(origin, stored, tmp_path):
    manifest = read([], origin=origin, query={"StudyInstanceUID": stored[DATES[0]]})
    (entry,) = manifest.entries
    with fetched(entry, tmp_path) as ((study,), skipped):
        (instance,) = study.instances
        assert dcmread(instance.path).Modality == "DX"
        assert (study.study_instance_uid, instance.sender, skipped) == (entry.key, origin, [])
    assert list(tmp_path.iterdir()) == []


def test_a_list_of_uids_is_fetched_from_its_server(origin, stored, tmp_path):
    (tmp_path / "uids.txt").write_text("\n".join([stored[DATES[1]], stored[DATES[2]], "1.2.3.4"]))
    manifest = read(str(tmp_path / "uids.txt"), origin=origin)
    here, _, nowhere = manifest.entries
    with fetched(here, tmp_path / "work") as ((study,), _):
        assert study.study_instance_uid == stored[DATES[1]]
    with pytest.raises(FetchError, match=r"1\.2\.3\.4"), fetched(nowhere, tmp_path / "work"):
        pass


def test_a_series_that_is_listed_is_fetched_alone(origin, stored, tmp_path):
    series = generate_uid(entropy_srcs=["manifest", "CT"])
    (tmp_path / "table.csv").write_text(f"StudyInstanceUID,SeriesInstanceUID\n{stored[DATES[0]]},{series}\n")
    (entry,) = read(str(tmp_path / "table.csv"), origin=origin).entries
    with pytest.raises(FetchError, match="expected images of modality CR or DX"), fetched(entry, tmp_path / "work"):
        pass


def test_a_server_that_is_not_there_is_an_error(monkeypatch, stored):
    monkeypatch.setattr(retry, "FIRST_PAUSE", 0.01)
    with pytest.raises(FetchError, match="UNREACHABLE"):
        read([], origin="http://127.0.0.1:9/dicom-web", query={"PatientID": "COHORT*"})


def test_a_query_and_a_list_do_not_mix(origin, tmp_path):
    (tmp_path / "uids.txt").write_text("1.2.3")
    with pytest.raises(ManifestError, match="no other input"):
        read(str(tmp_path / "uids.txt"), origin=origin, query={"StudyDate": "2020"})
