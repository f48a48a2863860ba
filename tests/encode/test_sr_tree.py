"""Trees that are put together item by item are those of highdicom's template classes."""

import highdicom.sr as hd
import pytest
from pydicom.sr.codedict import codes as dicom

from cxr_dicom.dicom import codes
from cxr_dicom.encode import sr_tree as tree
from cxr_dicom.records import Code
from tests import painted

MODEL = painted.model("network")
TITLE = Code(value="126000", scheme="DCM", meaning="Imaging Measurement Report")
FAILURE = Code(value="114006", scheme="DCM", meaning="Measurement failure")
UID = "2.25.1"
LINE = [(1.5, 2), (3, 4)]
TRACKING = hd.TrackingIdentifier(UID, "name")
WHAT_AND_WHERE = {
    "finding_type": tree.concept(codes.HEART),
    "finding_sites": tree.sites(codes.LUNG, codes.LEFT),
    "algorithm_id": tree.algorithm(MODEL),
}


@pytest.fixture
def start():
    """Return the items that a group of either template begins with."""
    return [tree.finding(codes.HEART), *tree.sites(codes.LUNG, codes.LEFT), *tree.algorithm(MODEL)]


@pytest.fixture
def measured(image, start):
    numbers = [
        tree.number(codes.AREA, 1.25, codes.RATIO),
        tree.number(codes.AREA, 2, codes.MILLIMETRE, [tree.line(image, LINE)]),
    ]
    return tree.group(
        UID, "name", [*start, *numbers, tree.evaluation(codes.AREA, FAILURE), tree.source(image.instance)]
    )


@pytest.fixture
def measured_by_highdicom(image):
    area = tree.concept(codes.AREA)
    return hd.MeasurementsAndQualitativeEvaluations(
        TRACKING,
        **WHAT_AND_WHERE,
        measurements=[
            hd.Measurement(area, 1.25, tree.concept(codes.RATIO)),
            hd.Measurement(area, 2.0, tree.concept(codes.MILLIMETRE), referenced_coordinates=[tree.line(image, LINE)]),
        ],
        qualitative_evaluations=[hd.QualitativeEvaluation(area, dicom.DCM.MeasurementFailure)],
        source_images=[tree.source(image.instance)],
    )


def test_a_group_is_that_of_tid_1501(measured, measured_by_highdicom):
    assert measured == measured_by_highdicom[0]


def test_a_report_is_that_of_tid_1500_with_notes_and_a_library(image, measured, measured_by_highdicom):
    ours = tree.report(TITLE, [image], [MODEL], [measured], [tree.summary("a note")])
    (theirs,) = hd.MeasurementReport(
        hd.ObservationContext(observer_device_context=tree.observer((MODEL,))),
        tree.concept(Code(value="399208008", scheme="SCT", meaning="Plain chest X-ray")),
        [measured_by_highdicom],
        tree.concept(TITLE),
    )
    *start, note, library, measurements = ours.ContentSequence
    assert [*start, measurements] == list(theirs.ContentSequence)
    assert [library.name.meaning, note.value] == ["Image Library", "a note"]
    del ours.ContentSequence, theirs.ContentSequence
    assert ours == theirs
