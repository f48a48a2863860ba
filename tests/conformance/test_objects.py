"""Every kind of object, for every kind of source: valid, consistent with its source, and readable by others."""

import json

import numpy as np
import pydicom
import pytest
from highdicom import sr
from pydicom.sr.codedict import codes

from cxr_dicom import synthetic
from cxr_dicom.records import ObjectKind
from tests import painted, validators

REPORTS = tuple(kind for kind in ObjectKind if kind.endswith("_report"))
NONE = {"PixelSpacing": None, "ImagerPixelSpacing": None}

NAMES = {
    "Japanese": {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎=やまだ^たろう"},
    "Cyrillic": {"SpecificCharacterSet": "ISO_IR 144", "PatientName": "Люкceмбypг^Иван"},
    "UTF-8": {"SpecificCharacterSet": "ISO_IR 192", "PatientName": "Wang^XiaoDong=王^小東"},
}
ONCE_LOSSY = {
    "LossyImageCompression": "01",
    "LossyImageCompressionRatio": "12.5",
    "LossyImageCompressionMethod": "ISO_10918_1",
}

SOURCES = {
    "DX": {},
    "CR": {"modality": "CR"},
    "DX, MONOCHROME1, once lossy": {"photometric": "MONOCHROME1", **ONCE_LOSSY},
    "CR, MONOCHROME1, no manufacturer": {"modality": "CR", "photometric": "MONOCHROME1", "Manufacturer": None},
    "Rows x Columns not a multiple of 8": {"rows": 97, "columns": 81},
    "CR, Rows x Columns not a multiple of 8": {"modality": "CR", "rows": 95, "columns": 83},
    "Imager Pixel Spacing only": {"PixelSpacing": None},
    "no spacing": {"modality": "CR", **NONE},
    "Pixel Spacing 0\\0": {"modality": "CR", **NONE, "PixelSpacing": [0, 0]},
    "calibrated, Cyrillic": {
        "PixelSpacing": [0.8, 0.8],
        "PixelSpacingCalibrationType": "GEOMETRY",
        **NAMES["Cyrillic"],
    },
    "non-square, UTF-8": {"PixelSpacing": [0.5, 0.25], "ImagerPixelSpacing": [0.5, 0.25], **NAMES["UTF-8"]},
    "long decimals, Japanese": {"PixelSpacing": [0.1388888888888, 0.1388888888888], **NAMES["Japanese"]},
    "no Patient Orientation": {"PatientOrientation": None},
    "no laterality": {"ImageLaterality": None},
    "CR, no Patient Orientation, no laterality": {"modality": "CR", "PatientOrientation": None, "Laterality": None},
    "no Study ID, Accession Number and Patient Name": dict.fromkeys(("StudyID", "AccessionNumber", "PatientName")),
    "no dates": dict.fromkeys(("ContentDate", "AcquisitionDate", "SeriesDate", "StudyDate")),
}


def radiograph(**kind):
    return synthetic.radiograph(kind.pop("rows", 96), kind.pop("columns", 80), **kind)


@pytest.fixture(scope="module", params=SOURCES.values(), ids=SOURCES)
def analysis(request, chest_image):
    """What was painted on one source."""
    image = chest_image(radiograph(**request.param))
    return painted.analysis(image, (painted.anatomy(image), painted.scores(image), painted.boxes(image)))


@pytest.fixture(scope="module")
def objects(analysis, encode):
    """All kinds of objects about it, with both types of segmentation, and no other image in its study."""
    return encode(painted.study(analysis), segmentation="both")


def of_kind(objects, *kinds):
    return [each.path for each in objects if each.kind in kinds]


def numbers(vector):
    """The numbers of a NRRD vector such as ``(0,0.5,0)``."""
    return [float(part) for part in vector.strip("()").split(",")]


def test_dciodvfy_finds_no_error(objects, validate):
    assert {each.kind for each in objects} == set(ObjectKind)
    assert validate(each.path for each in objects) == {}


def test_dciodvfy_finds_no_error_in_strict_geometry(analysis, encode, validate):
    objects = encode(painted.study(analysis), "seg", "parametric_map", segmentation="both", geometry="strict")
    assert validate(each.path for each in objects) == {}


def test_dcentvfy_finds_no_error_beside_the_source(analysis, objects):
    paths = [each.path for each in objects]
    assert validators.errors(validators.dcentvfy([*paths, analysis.image.instance.path])) == []


def test_dsrdump_reads_the_documents(objects, tool):
    for path in of_kind(objects, *REPORTS, ObjectKind.KEY_OBJECT_SELECTION):
        output = tool("dsrdump", "+Pl", path, system=True)
        assert "Not for clinical use" in output
        assert "\nE: " not in output


def test_highdicom_and_dcmqi_read_the_boxes_where_they_were_painted(analysis, objects, tool, tmp_path):
    (path,) = of_kind(objects, ObjectKind.DETECTION_REPORT)
    detections = analysis.predictions[2].detections
    groups = sr.EnhancedSR.from_dataset(pydicom.dcmread(path)).content.get_planar_roi_measurement_groups(
        graphic_type=sr.GraphicTypeValues.POLYLINE, reference_type=codes.DCM.ImageRegion
    )
    assert len(groups) == len(detections)
    for group, detection in zip(groups, detections, strict=True):
        assert np.allclose(group.roi.value, detection.corners, atol=1e-3)
        assert (group.finding_type.value, group.finding_type.scheme_designator) == (
            detection.code.value,
            detection.code.scheme,
        )
        (certainty,) = group.get_measurements(codes.DCM.CertaintyOfFinding)
        assert (certainty.value, certainty.unit.value) == (pytest.approx(100 * detection.score), "%")
        assert group.roi.ContentSequence[0].referenced_sop_instance_uid == analysis.image.instance.sop_instance_uid
    tool("tid1500reader", "--inputDICOM", path, "--outputMetadata", tmp_path / "report.json")
    measured = json.loads((tmp_path / "report.json").read_text())["Measurements"]
    assert [group["TrackingIdentifier"] for group in measured] == ["Nodule 1", "Shadow 1", "Nodule 2"]


def test_slicer_reads_the_segmentations_where_they_were_painted(analysis, objects, tool, nrrd, tmp_path):
    painted_masks = {m.structure.name: m.region for m in analysis.predictions[0].masks if m.region.area}
    binary, *label_maps = of_kind(objects, ObjectKind.SEGMENTATION)
    for paths in ([binary], label_maps):
        found = {name: read for path in paths for name, read in slicer_segments(path, tool, nrrd, tmp_path / path.stem)}
        assert found.keys() == painted_masks.keys()
        for name, region in painted_masks.items():
            fields, values = found[name]
            assert np.array_equal(values, region.matrix())
            assert numbers(fields["space origin"]) == [0, 0, 0]
            right, down, _ = (numbers(direction) for direction in fields["space directions"].split())
            assert np.allclose(right, [analysis.image.spacing.columns_mm, 0, 0])
            assert np.allclose(down, [0, analysis.image.spacing.rows_mm, 0])


def slicer_segments(path, tool, nrrd, folder):
    """Yield name, header and mask of each segment that dcmqi reads."""
    folder.mkdir()
    tool("segimage2itkimage", "--inputDICOM", path, "--outputDirectory", folder, "--prefix", "s")
    described = json.loads((folder / "s-meta.json").read_text())["segmentAttributes"]
    for number, file in enumerate(sorted(folder.glob("s-*.nrrd"), key=lambda file: int(file.stem[2:]))):
        fields, values = nrrd(file)
        for item in described[number]:
            yield item["TrackingIdentifier"], (fields, values[0] == item["labelID"])


def test_slicer_reads_the_parametric_map_where_it_was_made(analysis, objects, tool, nrrd, tmp_path):
    (path,) = of_kind(objects, ObjectKind.PARAMETRIC_MAP)
    tool("paramap2itkimage", "--inputDICOM", path, "--outputDirectory", tmp_path, "--prefix", "p")
    fields, values = nrrd(tmp_path / "p-pmap.nrrd")
    shape = analysis.image.shape
    heatmap = analysis.predictions[1].heatmaps[0]
    assert np.abs(values[0] - heatmap.grid.resample(heatmap.values, shape, shape)).max() < 0.00501  # hundredths
    assert numbers(fields["space origin"]) == [0, 0, 0]


def test_two_views_in_one_series(chest_image, encode, validate):
    images = [chest_image(synthetic.radiograph(96, 80, seed=seed)) for seed in (0, 1)]
    assert len({image.instance.series_instance_uid for image in images}) == 1
    objects = encode(painted.study(*map(painted.analysis, images)))
    paths = [each.path for each in objects]
    assert validate(paths) == {}
    beside = validators.dcentvfy([*paths, *(image.instance.path for image in images)])
    assert validators.errors(beside) == []
    segmentations = [each for each in objects if each.kind is ObjectKind.SEGMENTATION]
    assert len({each.series_instance_uid for each in segmentations}) == 2
    assert len(of_kind(objects, ObjectKind.MEASUREMENT_REPORT)) == 2
    assert len(of_kind(objects, ObjectKind.STRUCTURE_REPORT)) == 2
    assert len(of_kind(objects, ObjectKind.FINDINGS_REPORT)) == 1


def test_an_image_that_was_not_analysed(chest_image, encode, validate, tool):
    image = chest_image(synthetic.radiograph(96, 80))
    study = painted.study(painted.analysis(image), skipped=[painted.skip(painted.lateral(image))])
    (report,) = of_kind(encode(study, "sr"), ObjectKind.FINDINGS_REPORT)
    assert validate([report]) == {}
    assert "NOT_FRONTAL: View Position LL" in tool("dsrdump", "+Pl", report, system=True)


def test_reports_that_name_their_predecessors(chest_image, encode, validate, tool):
    analysis = painted.analysis(chest_image(synthetic.radiograph(96, 80)))
    first = encode(painted.study(analysis))
    second = encode(painted.study(analysis, earlier=first), geometry="strict")
    paths = of_kind(second, *REPORTS)
    assert all("PredecessorDocumentsSequence" in pydicom.dcmread(path) for path in paths)
    assert validate(paths) == {}
    everything = [*(each.path for each in (*first, *second)), analysis.image.instance.path]
    assert validators.errors(validators.dcentvfy(everything)) == []
    assert all("Predecessor" in tool("dsrdump", "+Pl", path, system=True) for path in paths)


def test_the_real_radiograph(real, chest_image, encode, validate):
    image = chest_image(pydicom.dcmread(real("RG1_UNCR.dcm")))
    objects = encode(painted.study(painted.analysis(image)), segmentation="both")
    assert validate(each.path for each in objects) == {}


def test_the_validator_can_fail(chest_image, encode, validate):
    analysis = painted.analysis(chest_image(synthetic.radiograph(96, 80)))
    (segmentation,) = encode(painted.study(analysis), "seg")
    dataset = pydicom.dcmread(segmentation.path)
    del dataset.SegmentSequence
    dataset.save_as(segmentation.path)
    assert validate([segmentation.path])
