"""Identity, provenance, and how bytes reach the disk."""

import re
from dataclasses import replace
from io import BytesIO

import pydicom
import pytest
from pydicom import DataElement
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from cxr_dicom import __version__, synthetic
from cxr_dicom.dicom.files import inflated, transfer_syntax
from cxr_dicom.encode import common
from cxr_dicom.encode.objects import seg
from cxr_dicom.records import MANUFACTURER, Mask, ObjectKind, Prediction
from cxr_dicom.records.plane import Region
from tests import painted

KINDS = ("seg", "sr", "parametric_map", "secondary_capture", "presentation_state", "key_objects")


def everything(encoded, image, folder, settings=None):
    predictions = (*painted.analysis(image).predictions, painted.boxes(image))
    study = painted.study(painted.analysis(image, predictions), skipped=[painted.skip(painted.lateral(image))])
    settings = settings or painted.settings(segmentation="both")
    return [common.write(each, folder / "objects") for kind in KINDS for each in encoded(kind, study, settings)]


def test_equal_results_are_equal_bytes(selected, encoded, tmp_path):
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        everything(encoded, selected(synthetic.radiograph(96, 80)), folder)
    first, second = ({path.name: path.read_bytes() for path in (folder / "objects").iterdir()} for folder in folders)
    assert len(first) == 16
    assert first == second


def test_what_repeats_itself_is_deflated_and_is_the_same_inflated(image, encoded, tmp_path):
    for made in everything(encoded, image, tmp_path):
        repeats = made.kind in (ObjectKind.SEGMENTATION, ObjectKind.PARAMETRIC_MAP)
        assert transfer_syntax(made.path) == (DeflatedExplicitVRLittleEndian if repeats else ExplicitVRLittleEndian)
        if repeats:
            plain = b"".join(inflated(made.path))
            read, again = pydicom.dcmread(made.path), pydicom.dcmread(BytesIO(plain))
            assert again.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
            assert read == again
            by_pydicom = BytesIO()
            again.save_as(by_pydicom, enforce_file_format=True)
            assert by_pydicom.getvalue() == plain
            assert made.path.stat().st_size % 2 == len(plain) % 2 == 0


def test_nothing_is_deflated_that_is_not_to_be(image, encoded, tmp_path):
    for made in everything(encoded, image, tmp_path, painted.settings(deflate=False)):
        assert transfer_syntax(made.path) == ExplicitVRLittleEndian


def test_nothing_is_deflated_that_could_not_be_inflated_again(image, encoded, tmp_path, monkeypatch):
    monkeypatch.setattr(common, "MOST_INFLATED", 1000)
    for made in everything(encoded, image, tmp_path):
        assert pydicom.dcmread(made.path).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian


def test_a_changed_pixel_is_a_new_instance_of_the_same_series(image, encoded):
    def segmentation(hole):
        matrix = painted.region(image.shape, 0.1, 0.1, 0.6, 0.4).matrix()
        matrix[30, 20] = not hole
        mask = Mask(structure=painted.structure("right_lung"), region=Region.from_matrix(matrix))
        analysis = painted.analysis(image, (Prediction(model=painted.model("m"), masks=(mask,)),))
        (only,) = encoded("seg", painted.study(analysis), painted.settings())
        return only.dataset

    one, same, other = segmentation(hole=False), segmentation(hole=False), segmentation(hole=True)
    assert one.SOPInstanceUID == same.SOPInstanceUID != other.SOPInstanceUID
    assert one.SeriesInstanceUID == other.SeriesInstanceUID


@pytest.mark.parametrize(
    "change",
    [
        lambda image, model, settings: (image, replace(model, weights_sha256="ff" * 32), settings),
        lambda image, model, settings: (image, model, painted.settings(geometry="strict")),
        lambda image, model, settings: (renamed(image), model, settings),
        lambda image, model, settings: (with_another_id(image), model, settings),
        lambda image, model, settings: (replace(image, spacing=replace(image.spacing, rows_mm=0.5)), model, settings),
    ],
    ids=["weights", "settings", "patient name", "other patient ID", "spacing"],
)
def test_what_else_makes_a_new_instance(image, encoded, change):
    def uid(image, model, settings):
        prediction = replace(painted.anatomy(image), model=model)
        return encoded("seg", painted.study(painted.analysis(image, (prediction,))), settings)[0].dataset.SOPInstanceUID

    image.header.OtherPatientIDsSequence = [pydicom.Dataset()]
    image.header.OtherPatientIDsSequence[0].PatientID = "FIRST"
    start = image, painted.model("m"), painted.settings()
    assert uid(*start) != uid(*change(*start))


def renamed(image):
    header = pydicom.Dataset(image.header)
    header.PatientName = "Other^Name"
    return replace(image, header=header)


def with_another_id(image):
    (known,) = image.header.OtherPatientIDsSequence
    header, other = pydicom.Dataset(image.header), pydicom.Dataset(known)
    other.PatientID = "SECOND"
    header.OtherPatientIDsSequence = [other]
    return replace(image, header=header)


def test_every_object_has_its_own_series(image, encoded, tmp_path):
    objects = everything(encoded, image, tmp_path)
    assert len({each.series_instance_uid for each in objects}) == len(objects)


def test_file_names_tell_kind_and_uid_and_nothing_is_left_over(image, encoded, tmp_path):
    objects = everything(encoded, image, tmp_path)
    assert {each.path.name for each in objects} == {path.name for path in (tmp_path / "objects").iterdir()}
    assert {each.kind for each in objects} == set(ObjectKind)
    for each in objects:
        assert each.path.name == f"{each.kind}-{each.sop_instance_uid}.dcm"
        assert re.fullmatch(r"2\.25\.\d{1,39}", each.sop_instance_uid)


def test_a_failed_write_leaves_no_file(image, encoded, tmp_path):
    (broken,) = encoded("seg", painted.study(painted.analysis(image)), painted.settings())
    broken.dataset["PixelData"] = DataElement("PixelData", "OB", object(), already_converted=True)
    with pytest.raises(Exception, match=r"PixelData|buffer|bytes"):
        common.write(broken, tmp_path / "objects")
    assert not list((tmp_path / "objects").iterdir())


NAMES = {
    "japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "japanese kanji, ISO_IR 13": (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    "cyrillic": ("ISO_IR 144", "Люкceмбypг^Иван"),
    "utf-8": ("ISO_IR 192", "Wang^XiaoDong=王^小東"),
    "latin": ("ISO_IR 100", "Müller^Jörg"),
}


@pytest.mark.parametrize(("character_set", "name"), NAMES.values(), ids=NAMES)
def test_names_keep_their_characters(selected, encoded, tmp_path, character_set, name):
    image = selected(synthetic.radiograph(96, 80, SpecificCharacterSet=character_set, PatientName=name))
    for each in everything(encoded, image, tmp_path):
        dataset = pydicom.dcmread(each.path)
        assert str(dataset.PatientName) == name
        assert dataset.SpecificCharacterSet == character_set


def test_damaged_attributes_of_the_source_cost_nothing(image, encoded, tmp_path):
    tag = pydicom.tag.Tag("PatientSpeciesCodeSequence")
    image.header[tag] = pydicom.dataelem.RawDataElement(tag, "SQ", 4, b"abcd", 0, False, True)
    image.header["ContentDate"] = DataElement("ContentDate", "DA", "2024.01.02", already_converted=True)
    for each in everything(encoded, image, tmp_path):
        dataset = pydicom.dcmread(each.path)
        assert "PatientSpeciesCodeSequence" not in dataset
        assert dataset.get("ContentDate", "20240102") == "20240102"


def test_provenance(image, encoded, tmp_path):
    settings = painted.settings()
    for each in everything(encoded, image, tmp_path, settings):
        dataset = pydicom.dcmread(each.path)
        assert dataset.Manufacturer == MANUFACTURER
        assert dataset.SoftwareVersions == __version__
        acquisition, *processing = dataset.ContributingEquipmentSequence
        assert acquisition.Manufacturer == image.header.Manufacturer
        for item in processing:
            assert item.ManufacturerModelName.startswith("painted-")
            assert f"{len(item.ManufacturerModelName):02x}" * 32 in item.ContributionDescription
            assert settings.digest in item.ContributionDescription
            assert "Not for clinical use" in item.ContributionDescription
            assert "geometry viewer" in item.ContributionDescription
            assert "Pixel Spacing" in item.ContributionDescription


def test_device_uid_follows_the_weights(image, encoded):
    def device(model):
        analysis = painted.analysis(image, (replace(painted.anatomy(image), model=model),))
        (only,) = encoded("seg", painted.study(analysis), painted.settings())
        return only.dataset.ContributingEquipmentSequence[-1].DeviceUID

    model = painted.model("m")
    assert device(model) == device(replace(model, title="other title"))
    assert device(model) != device(replace(model, weights_sha256="ff" * 32))


def test_the_source_header_is_never_changed(image, encoded, tmp_path):
    before = str(image.header)
    everything(encoded, image, tmp_path)
    assert str(image.header) == before


def test_the_file_meta_is_complete(image, written):
    (dataset,) = written("seg", painted.study(painted.analysis(image)), painted.settings())
    meta = dataset.file_meta
    assert meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    assert meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
    assert meta.ImplementationVersionName == f"CXR_DICOM_{__version__}"
    assert dataset.preamble == b"\0" * 128
    assert dataset.SeriesNumber == seg.SERIES_NUMBER
