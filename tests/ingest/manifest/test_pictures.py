"""Pictures in a manifest: they become instances where that is asked for."""

import random

import pytest
from PIL import Image
from pydicom import dcmread

from cxr_dicom.ingest.manifest import fetched, read
from cxr_dicom.records import Reason
from tests.ingest.manifest.manifests import reasons


@pytest.fixture
def picture(tmp_path):
    Image.frombytes("L", (40, 32), random.Random(1).randbytes(40 * 32)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_a_picture_is_no_image_unless_asked_for(picture):
    manifest = read(str(picture))
    assert not manifest.entries
    assert reasons(manifest) == [(Reason.NOT_WRAPPED, "picture.png")]
    assert "--wrap" in manifest.skipped[0].detail


def test_a_picture_becomes_an_instance_when_it_is_fetched(tmp_path, picture, written):
    path = written("path,patient_sex,view_position,PatientAge\npicture.png,F,AP,45\n")
    (entry,) = read(path, wrap=True).entries
    with fetched(entry, tmp_path / "work") as ((study,), skipped):
        (instance,) = study.instances
        dataset = dcmread(instance.path)
        assert skipped == []
    assert (dataset.Modality, dataset.PatientSex, dataset.ViewPosition, dataset.PatientAge) == ("DX", "F", "AP", "045Y")
    assert (entry.picture, entry.sources) == (picture, ())
    assert list((tmp_path / "work").iterdir()) == []
    assert read(path).digest != read(path, wrap=True).digest


def test_what_was_skipped_stays_in_order(tmp_path, picture):
    for name in ("a.txt", "z.txt"):
        (tmp_path / name).write_text("text")
    assert [each.path.name for each in read([tmp_path]).skipped] == ["a.txt", "picture.png", "z.txt"]


def test_a_picture_that_cannot_be_wrapped_is_skipped(tmp_path, picture):
    picture.write_bytes(picture.read_bytes()[:300])
    (entry,) = read([tmp_path], wrap=True).entries
    with fetched(entry, tmp_path / "work") as (studies, (skipped,)):
        assert studies == []
        assert (skipped.path, skipped.reason) == (picture, Reason.CORRUPT_PIXEL_DATA)
