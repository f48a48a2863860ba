"""What a detector found, in reports, presentation states and pictures."""

from dataclasses import replace

import numpy as np
import pytest

from cxr_dicom.encode.identity import tracking_uid
from tests import painted


@pytest.fixture
def study(image):
    return painted.study(painted.analysis(image, (painted.boxes(image),)))


def texts(dataset):
    found = []
    dataset.walk(lambda _, element: found.append(element.value) if element.keyword == "TextValue" else None)
    return found


def test_the_report_of_boxes_says_each_and_the_findings_report_cites_it(study, written):
    boxes, findings = written("sr", study, painted.settings())
    assert boxes.ConceptNameCodeSequence[0].CodeValue == "126000"
    assert "Nodule 2: 0.38" in texts(boxes)
    assert "Nodule, found 2 times by painted-boxes: 0.88, 0.38." in texts(findings)
    cited = [
        each.ReferencedSOPInstanceUID
        for series in findings.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for each in series.ReferencedSOPSequence
    ]
    assert boxes.SOPInstanceUID in cited


def test_another_box_is_another_report(image, study, written):
    prediction = painted.boxes(image)
    first, *rest = prediction.detections
    moved = replace(prediction, detections=(replace(first, box=(1.0, 2.0, 3.0, 4.0)), *rest))
    other = painted.study(painted.analysis(image, (moved,)))
    one, two = (written("sr", each, painted.settings(), name)[0] for name, each in (("a", study), ("b", other)))
    assert one.SeriesInstanceUID == two.SeriesInstanceUID
    assert one.SOPInstanceUID != two.SOPInstanceUID


def test_without_a_box_there_is_no_report_of_boxes(image, written):
    nothing = replace(painted.boxes(image), detections=())
    (findings,) = written("sr", painted.study(painted.analysis(image, (nothing,))), painted.settings())
    assert "Findings" in findings.SeriesDescription


def test_a_presentation_state_draws_each_box_with_its_score(image, study, written):
    (state,) = written("presentation_state", study, painted.settings())
    (drawn,) = state.GraphicAnnotationSequence
    prediction = painted.boxes(image)
    for graphic, detection in zip(drawn.GraphicObjectSequence, prediction.detections, strict=True):
        points = np.reshape(graphic.GraphicData, (-1, 2))
        assert np.allclose(points, detection.corners, atol=1e-3)
        assert graphic.TrackingUID == tracking_uid(image, prediction.model, detection.key)
    anchored = [(text.UnformattedTextValue, *text.AnchorPoint) for text in drawn.TextObjectSequence[1:]]
    assert anchored[0] == ("Nodule 0.88", 8, pytest.approx(19.2))


def test_a_picture_frames_each_box(study, written):
    (dataset,) = written("secondary_capture", study, painted.settings())
    assert dataset.SeriesDescription == "Picture boxes painted-boxes"
    yellow = (dataset.pixel_array[:80] == (255, 214, 10)).all(axis=2)
    assert yellow[:, 0].mean() > 0.8, "the box of the whole image, but for its label"
    assert yellow[-1].mean() > 0.9
