"""What Slicer's DICOMTID1500Plugin asks of a report, so that it loads with a full table.

Read in Slicer/Slicer, Modules/Scripted/DICOMPlugins, at 583e9b37 of 21 August 2026. The plugin
takes an SR of a class that highdicom reads, with template 1500. Without an Image Region it runs
dcmqi's ``tid1500reader`` and makes a table: the columns are the numbers of the first group, each
further group is a row, and its n-th number stands in the n-th column. Then it gives the tracking UIDs of
the groups to the segments of the segmentation that was loaded last, one after another, whichever it is: more
groups than segments raise. An Image Region sends it to Image Position of the source instead, which a
radiograph lacks; and a Length in the old code of SNOMED makes it ask for a person as observer.
"""

import json
from dataclasses import replace

import highdicom.sr as hd
import pydicom
import pytest

from cxr_dicom import synthetic
from cxr_dicom.dicom import codes
from cxr_dicom.records import Mask, ObjectKind, Prediction
from tests import painted

# not DETECTION_REPORT, which is one of its own because its boxes are Image Regions
KINDS = ObjectKind.MEASUREMENT_REPORT, ObjectKind.STRUCTURE_REPORT, ObjectKind.FINDINGS_REPORT


STUDIES = {
    "DX": {},
    "CR": {"modality": "CR"},
    "LABELMAP": {"rows": 97, "columns": 81},
    # structures that overlap, as those of `chest-det`; then lungs, and a heart that is alone in a LABELMAP
    "LABELMAPs": {"rows": 97, "columns": 81, "apart": False, "beside": 4},
    "small LABELMAPs": {"rows": 97, "columns": 81, "apart": False},
    "a second model that outlines one structure": {"models": 2},
    "images of which some have fewer numbers": {"images": 4},
}


def predictions(image, models, apart, beside, number):
    anatomy = painted.anatomy(image, apart=apart, beside=beside)
    aorta = Mask(structure=painted.structure("aorta"), region=painted.region(image.shape, 0.1, 0.46, 0.3, 0.54))
    width = replace(painted.scores(image).measurements[0], name="aorta_width", unit=codes.MILLIMETRE)
    own = Prediction(model=painted.model("own"), masks=(aorta,), measurements=(width,))
    scores = painted.scores(image, () if number else ("right_lung_opacity", "opacity"))
    return (painted.boxes(image), *(anatomy, scores, own)[: models + 1])


@pytest.fixture(scope="module", params=STUDIES.values(), ids=STUDIES)
def study(request, chest_image, encode):
    """All objects of a study."""
    given = {"rows": 96, "columns": 80, "modality": "DX", "models": 1, "apart": True, "beside": 0, "images": 1}
    about = {**given, **request.param}
    analyses = []
    for number in range(about["images"]):
        source = synthetic.radiograph(about["rows"] + 8 * number, about["columns"], modality=about["modality"])
        image = chest_image(source)
        made = predictions(image, about["models"], about["apart"], about["beside"], number)
        analyses.append(painted.analysis(image, made))
    return encode(painted.study(*analyses))


@pytest.fixture(scope="module", params=KINDS)
def reports(request, study):
    return [each.path for each in study if each.kind is request.param]


@pytest.fixture(scope="module")
def tables(reports, tool, tmp_path_factory):
    """The groups that dcmqi, and so Slicer, reads of each report."""
    return [measured(path, tool, tmp_path_factory.mktemp("read")) for path in reports]


def measured(path, tool, folder):
    tool("tid1500reader", "--inputDICOM", path, "--outputMetadata", folder / "report.json")
    return json.loads((folder / "report.json").read_text())["Measurements"]


def test_the_plugin_takes_it(reports):
    for dataset in map(pydicom.dcmread, reports):
        assert dataset.Modality == "SR"
        assert dataset.SOPClassUID == pydicom.uid.EnhancedSRStorage
        assert dataset.ContentTemplateSequence[0].TemplateIdentifier == "1500"
        assert hd.EnhancedSR.from_dataset(dataset).content


def test_no_group_has_an_image_region(reports):
    for dataset in map(pydicom.dcmread, reports):
        assert hd.EnhancedSR.from_dataset(dataset).content.get_planar_roi_measurement_groups() == []


def test_no_length_needs_a_person_as_observer(tables):
    items = [item for table in tables for group in table for item in group["measurementItems"]]
    assert items
    assert all(item["quantity"]["CodingSchemeDesignator"] != "SRT" for item in items)


def test_every_number_stands_under_its_own_head(tables):
    for table in tables:
        heads = [(item["quantity"], item["units"]) for item in table[0]["measurementItems"]]
        assert heads
        for group in table:
            found = [(item["quantity"], item["units"]) for item in group["measurementItems"]]
            assert found == heads[: len(found)]
            assert found


def test_every_row_has_a_name_of_its_own(tables):
    for table in tables:
        names = [group["TrackingIdentifier"] for group in table]
        assert len(set(names)) == len(names)


def test_no_report_has_more_groups_than_any_segmentation_of_the_study_has_segments(study, tables):
    segmentations = [pydicom.dcmread(each.path) for each in study if each.kind is ObjectKind.SEGMENTATION]
    fewest = min(len(dataset.SegmentSequence) for dataset in segmentations)
    assert all(len(table) <= fewest for table in tables)


def test_the_tables_of_structures_have_a_row_for_each_segment(study, tool, tmp_path):
    paths = [each.path for each in study if each.kind is ObjectKind.STRUCTURE_REPORT]
    segmentations = [pydicom.dcmread(each.path) for each in study if each.kind is ObjectKind.SEGMENTATION]
    segments = {
        item.TrackingUID: item.SegmentNumber if dataset.SegmentationType == "BINARY" else None
        for dataset in segmentations
        for item in dataset.SegmentSequence
        if "rib" not in item.TrackingID
    }
    groups = [group for path in paths for group in measured(path, tool, tmp_path)]
    cited = {group["TrackingUniqueIdentifier"]: group.get("ReferencedSegment") for group in groups}
    assert cited == segments
    assert len(groups) == len(segments)


def test_the_findings_have_a_row_for_each_image_and_the_first_report_cites_the_others(study, tool, tmp_path):
    first, *further = [each for each in study if each.kind is ObjectKind.FINDINGS_REPORT]
    groups = [group for each in (first, *further) for group in measured(each.path, tool, tmp_path)]
    assert len(groups) == len(first.source_sop_instance_uids)
    said = pydicom.dcmread(first.path)
    (evidence,) = said.CurrentRequestedProcedureEvidenceSequence
    cited = {
        item.ReferencedSOPInstanceUID
        for series in evidence.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert {each.sop_instance_uid for each in study if each.kind is not ObjectKind.KEY_OBJECT_SELECTION} - cited == {
        first.sop_instance_uid
    }
