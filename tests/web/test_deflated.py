"""Deflated instances over DICOMweb: inflated, unless they are wanted as they are (PS3.18 8.7.3.5)."""

from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from cxr_dicom.synthetic import radiograph
from tests.web import helpers

PLAIN, DEFLATED = ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian
SERIES = "multipart/related; type=application/dicom"


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """One series: a plain and a deflated instance."""
    folder = tmp_path_factory.mktemp("out")
    for number, syntax in enumerate((PLAIN, DEFLATED), 1):
        made = radiograph(32, 32)
        made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = f"1.2.{number}"
        made.file_meta.TransferSyntaxUID = syntax
        made.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    return folder / "1.dcm", folder / "2.dcm"


@pytest.fixture(scope="module")
def get(paths):
    head = dcmread(paths[0])
    objects = [helpers.object_row(path) for path in paths]
    row = helpers.row(study=head.StudyInstanceUID, sop_instance_uid="9.1", objects=objects)
    series = f"/dicom-web/studies/{head.StudyInstanceUID}/series/{head.SeriesInstanceUID}"
    with helpers.shown(helpers.write_out(paths[0].parent, [row])) as shown:
        client = shown.enter()
        yield lambda accept, resource="": client.get(series + resource, accept=accept)


@pytest.mark.parametrize(
    ("accept", "syntax"),
    [
        ("application/dicom", PLAIN),
        (f"application/dicom; transfer-syntax={PLAIN}", PLAIN),
        (f"application/dicom; transfer-syntax={DEFLATED}", DEFLATED),
        ("application/dicom; transfer-syntax=*", DEFLATED),
    ],
)
def test_an_instance_comes_as_it_is_wanted(get, paths, accept, syntax):
    answer = get(accept, "/instances/1.2.2")
    assert answer.headers["content-type"] == f"application/dicom; transfer-syntax={syntax}"
    made = dcmread(BytesIO(answer.content))
    assert made.file_meta.TransferSyntaxUID == syntax
    assert made == dcmread(paths[1])
    assert (answer.content == paths[1].read_bytes()) == (syntax == DEFLATED)


@pytest.mark.parametrize(("wanted", "found"), [("", [PLAIN, PLAIN]), ("; transfer-syntax=*", [PLAIN, DEFLATED])])
def test_each_part_says_in_which_transfer_syntax_it_is(get, paths, wanted, found):
    parts = get(SERIES + wanted).content.split(b"Content-Type: application/dicom; transfer-syntax=")[1:]
    assert [part.partition(b"\r\n")[0].decode() for part in parts] == found
    files = [dcmread(BytesIO(part.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0])) for part in parts]
    assert [file.file_meta.TransferSyntaxUID for file in files] == found
    assert files == [dcmread(path) for path in paths]


def test_a_plain_instance_is_not_deflated(get):
    assert get(f"application/dicom; transfer-syntax={DEFLATED}", "/instances/1.2.1").status == 406
