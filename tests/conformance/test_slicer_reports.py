"""What Slicer's DICOMTID1500Plugin asks of a report, so that it loads with a full table.

Read in Slicer/Slicer, Modules/Scripted/DICOMPlugins, at 583e9b37 of 21 August 2026. The plugin
takes an SR of a class that highdicom reads, with template 1500. Without an Image Region it runs
dcmqi's ``tid1500reader`` and makes a table: the columns are the numbers of the first group, each
further group is a row, and its n-th number stands in the n-th column. Then it gives the tracking UIDs of
the groups to the segments of the segmentation that was loaded last, one after another: more groups
than segments raise. An Image Region sends it to Image Position of the source instead, which a
radiograph lacks; and a Length in the old code of SNOMED makes it ask for a person as observer.
"""

import json

import highdicom.sr as hd
import pydicom
import pytest

from cxr_dicom import synthetic
from cxr_dicom.records import ObjectKind
from tests import painted

KINDS = ObjectKind.MEASUREMENT_REPORT, ObjectKind.STRUCTURE_REPORT, ObjectKind.FINDINGS_REPORT


@pytest.fixture(scope="module", params=["DX", "CR", "BINARY", "LABELMAP", "LABELMAPs"])
def study(request, chest_image, encode):
    """Objects about one image; structures that overlap, as those of `chest-det`, have several LABELMAPs."""
    sides = (97, 81) if request.param.startswith("LABELMAP") else (96, 80)
    modality = "CR" if request.param == "CR" else "DX"
    image = chest_image(synthetic.radiograph(*sides, modality=modality))
    is_apart = request.param != "LABELMAPs"
    predictions = (
        painted.anatomy(image, apart=is_apart, beside=0 if is_apart else 4),
        painted.scores(image, ("right_lung_opacity", "opacity")),
    )
    return encode(painted.study(painted.analysis(image, predictions)))


@pytest.fixture(params=KINDS)
def report(request, study):
    (path,) = [each.path for each in study if each.kind is request.param]
    return path


@pytest.fixture
def measured(report, tool, tmp_path):
    """The groups that dcmqi, and so Slicer, reads."""
    tool("tid1500reader", "--inputDICOM", report, "--outputMetadata", tmp_path / "report.json")
    return json.loads((tmp_path / "report.json").read_text())["Measurements"]


def test_the_plugin_takes_it(report):
    dataset = pydicom.dcmread(report)
    assert dataset.Modality == "SR"
    assert dataset.SOPClassUID == pydicom.uid.EnhancedSRStorage
    assert dataset.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    assert hd.EnhancedSR.from_dataset(dataset).content


def test_no_group_has_an_image_region(report):
    groups = hd.EnhancedSR.from_dataset(pydicom.dcmread(report)).content.get_planar_roi_measurement_groups()
    assert groups == []


def test_no_length_needs_a_person_as_observer(measured):
    assert all(
        item["quantity"]["CodingSchemeDesignator"] != "SRT" for group in measured for item in group["measurementItems"]
    )


def test_every_number_stands_under_its_own_head(measured):
    heads = [(item["quantity"], item["units"]) for item in measured[0]["measurementItems"]]
    assert heads
    for group in measured:
        found = [(item["quantity"], item["units"]) for item in group["measurementItems"]]
        assert found == heads[: len(found)]
        assert found


def test_every_row_has_a_name_of_its_own(measured):
    names = [group["TrackingIdentifier"] for group in measured]
    assert len(set(names)) == len(names)


def test_no_report_has_more_groups_than_a_segmentation_has_segments(study, measured):
    segmentations = [pydicom.dcmread(each.path) for each in study if each.kind is ObjectKind.SEGMENTATION]
    assert len(segmentations) == (2 if len(segmentations[0].SegmentSequence) > 3 else 1)
    assert all(len(measured) <= len(dataset.SegmentSequence) for dataset in segmentations)


def test_the_table_of_structures_has_a_row_for_each_segment(study, tool, tmp_path):
    (path,) = [each.path for each in study if each.kind is ObjectKind.STRUCTURE_REPORT]
    segmentations = [pydicom.dcmread(each.path) for each in study if each.kind is ObjectKind.SEGMENTATION]
    segments = [item for dataset in segmentations for item in dataset.SegmentSequence if "rib" not in item.TrackingID]
    tool("tid1500reader", "--inputDICOM", path, "--outputMetadata", tmp_path / "report.json")
    groups = json.loads((tmp_path / "report.json").read_text())["Measurements"]
    assert [group["TrackingUniqueIdentifier"] for group in groups] == [item.TrackingUID for item in segments]
    cited = [group.get("ReferencedSegment") for group in groups]
    is_binary = segmentations[0].SegmentationType == "BINARY"
    assert cited == ([item.SegmentNumber for item in segments] if is_binary else [None] * len(groups))
