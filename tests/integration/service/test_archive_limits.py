"""Orthanc with 130 studies: neither its limits hide any, nor its pages, which end early with ModalitiesInStudy."""

import io
import zipfile

import pytest

from cxr_dicom.config.service import DicomwebArchive, ListenerSettings, QueryRetrieveArchive
from cxr_dicom.ingest.archive import StudyQuery
from cxr_dicom.ingest.archives import dicomweb, query_retrieve
from tests.ingest.pacs import encoded, studies

MANY = 130
ALL = StudyQuery(since="20260101")


@pytest.fixture(scope="module")
def packed():
    """All images in one ZIP file, which Orthanc takes since 1.8.2."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number, image in enumerate(studies(MANY)):
            archive.writestr(f"{number}.dcm", encoded(image))
    return file.getvalue()


@pytest.mark.parametrize("limit", [0, 50])
def test_all_studies_are_found(orthanc, packed, limit):
    pacs = orthanc(LimitFindResults=limit, LimitFindInstances=limit, StorageCompression=False)
    pacs.post("/instances", packed)
    listener = ListenerSettings(port=11112)
    web = DicomwebArchive(kind="dicomweb", name="web", url=f"{pacs.url}/dicom-web")
    dimse = QueryRetrieveArchive(
        kind="query-retrieve", name="qr", address="127.0.0.1", port=pacs.dicom_port, ae_title="ORTHANC"
    )
    for archive in (dicomweb.build(web, listener), query_retrieve.build(dimse, listener)):
        found = [study.study_instance_uid for study in archive.studies(ALL, ("CR", "DX"))]
        assert len(found) == len(set(found)) == MANY
        (one,) = archive.studies(StudyQuery(accession_number="A7"), ("CR", "DX"))
        assert one.instances == 1
