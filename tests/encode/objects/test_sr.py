"""What the reports say, read with highdicom."""

from itertools import count

import highdicom.sr as hd
import pydicom
import pytest
from pydicom.sr.codedict import codes

from cxr_dicom import synthetic
from cxr_dicom.encode.common import write
from cxr_dicom.records import Reason
from tests import painted


def items(dataset, kind=None):
    """All content items below one, depth first."""
    for item in dataset.get("ContentSequence", []):
        if kind is None or item.ValueType == kind:
            yield item
        yield from items(item, kind)


def name(item):
    return item.ConceptNameCodeSequence[0].CodeMeaning


def groups(report):
    return [item for item in items(report, "CONTAINER") if name(item) == "Measurement Group"]


def text(group, concept):
    return next((item.TextValue for item in group.ContentSequence if name(item) == concept), None)


def group(report, tracking):
    (found,) = [each for each in groups(report) if text(each, "Tracking Identifier") == tracking]
    return found


def comments(container):
    return [item.TextValue for item in container.ContentSequence if name(item) == "Comment"]


@pytest.fixture
def reports(written):
    def of(image, analysis=None, skipped=(), **settings):
        study = painted.study(analysis or painted.analysis(image), skipped=skipped)
        *measurements, findings = written("sr", study, painted.settings(**settings))
        return measurements, findings

    return of


def test_every_measurement_group_has_coordinates_on_the_source(image, reports):
    (measurements,), _ = reports(image)
    assert groups(measurements)
    for each in groups(measurements):
        coordinates = list(items(each, "SCOORD"))
        assert coordinates
        for item in coordinates:
            (source,) = items(item, "IMAGE")
            reference = source.ReferencedSOPSequence[0]
            assert reference.ReferencedSOPInstanceUID == image.instance.sop_instance_uid


def test_lines_are_lengths_that_ohif_draws(image, reports):
    (measurements,), _ = reports(image)
    analysis = painted.analysis(image)
    for line in (m for m in analysis.predictions[0].measurements if len(m.points) == 2):
        drawn = group(measurements, f"Cornerstone3DTools@^0.1.0:Length:{line.name}")
        number = next(items(drawn, "NUM"))
        (coordinates,) = items(number, "SCOORD")
        assert coordinates.GraphicType == "POLYLINE"
        assert coordinates.GraphicData == [value for point in line.points for value in point]
        assert number.MeasuredValueSequence[0].NumericValue == pytest.approx(line.value)
        assert number.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "mm"
        (comment,) = comments(drawn)
        assert comment.startswith(line.code.meaning)


def test_the_ratio_stands_with_the_line_of_its_numerator_and_is_read_in_its_label(image, reports):
    (measurements,), _ = reports(image)
    ratio = next(m for m in painted.analysis(image).predictions[0].measurements if m.name == "cardiothoracic_ratio")
    drawn = group(measurements, f"Cornerstone3DTools@^0.1.0:Length:{ratio.derived_from[0]}")
    _, number = items(drawn, "NUM")
    assert number.MeasuredValueSequence[0].NumericValue == pytest.approx(ratio.value)
    assert number.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "{ratio}"
    assert not list(items(number, "SCOORD")), "OHIF 3.12 drops the report when a second number has coordinates"
    assert f"cardiothoracic ratio {ratio.value:.2f}" in comments(drawn)[0]


def test_boxes_are_closed_rectangles_without_a_number(image, reports):
    (measurements,), _ = reports(image)
    for structure in ("right_lung", "left_lung", "heart"):
        box = group(measurements, f"Cornerstone3DTools@^0.1.0:RectangleROI:{structure}")
        (coordinates,) = items(box, "SCOORD")
        assert len(coordinates.GraphicData) == 10
        assert coordinates.GraphicData[:2] == coordinates.GraphicData[-2:]
        assert not list(items(box, "NUM"))


def test_lengths_are_in_pixels_without_spacing(selected, reports):
    image = selected(synthetic.radiograph(96, 80, PixelSpacing=None, ImagerPixelSpacing=None))
    (measurements,), findings = reports(image)
    units = {
        number.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue
        for each in groups(measurements)
        for number in items(each, "NUM")
    }
    assert units == {"{pixels}", "{ratio}"}
    assert any("lengths are in pixels" in comment for comment in comments(measurements))
    assert any("lengths are in pixels" in comment for comment in comments(group(findings, "analysis")))


def test_tracking_uids_are_those_of_the_segments(image, reports, written):
    (measurements,), findings = reports(image)
    (segmentation,) = written("seg", painted.study(painted.analysis(image)), painted.settings())
    tracked = {item.TrackingID: item.TrackingUID for item in segmentation.SegmentSequence}
    box = group(measurements, "Cornerstone3DTools@^0.1.0:RectangleROI:heart")
    area = group(findings, "heart")
    for each in (box, area):
        (uid,) = [item.UID for item in each.ContentSequence if name(item) == "Tracking Unique Identifier"]
        assert uid == tracked["heart"]


def test_a_score_has_probability_operating_point_call_and_source(image, reports):
    _, findings = reports(image)
    found = group(findings, "pleural_effusion")
    numbers = {name(item): float(item.MeasuredValueSequence[0].NumericValue) for item in items(found, "NUM")}
    assert numbers == {
        "Probability": 0.5625,
        "Network output before calibration": 0.25,
        "CAD Operating Point": 0.2,
    }
    codes_of = {name(item): item.ConceptCodeSequence[0].CodeMeaning for item in items(found, "CODE")}
    assert codes_of["Finding"] == "Pleural effusion"
    assert codes_of["Finding Site"] == "Lung"
    assert codes_of["Presence of property"] == "Present"
    assert text(found, "Algorithm Name") == "painted-scores"
    (source,) = items(found, "IMAGE")
    assert source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == image.instance.sop_instance_uid


@pytest.mark.parametrize(("finding", "call"), [("pneumothorax", "Absent"), ("mass", "Undetermined")])
def test_negative_and_open_results_are_stated(image, reports, finding, call):
    _, findings = reports(image)
    calls = {name(i): i.ConceptCodeSequence[0].CodeMeaning for i in items(group(findings, finding), "CODE")}
    assert calls["Presence of property"] == call


def test_how_numbers_were_made_is_said_once(image, reports):
    _, findings = reports(image)
    assert comments(group(findings, "analysis")).count("Relative opacity: Mean.") == 1


def test_what_could_not_be_measured_says_why(image, reports):
    _, findings = reports(image)
    failed = group(findings, "failed")
    assert not list(items(failed, "NUM"))
    evaluations = {name(item): item.ConceptCodeSequence[0].CodeMeaning for item in items(failed, "CODE")}
    assert evaluations["Relative opacity"] == "Measurement failure"
    assert comments(failed) == ["Not measurable: no lungs outlined"]


def test_a_rule_is_stated_with_its_text(image, reports):
    _, findings = reports(image)
    (comment,) = comments(group(findings, "cardiothoracic_ratio_above_limit"))
    assert "0.5" in comment
    assert "Danzer" in comment


def test_an_image_that_was_not_analysed_is_stated(image, reports):
    _, findings = reports(image, skipped=[painted.skip(painted.lateral(image))])
    states = [
        (item.ConceptCodeSequence[0].CodeMeaning, comments(each)[-1])
        for each in groups(findings)
        for item in items(each, "CODE")
        if name(item) == "Analysis of image"
    ]
    assert states[0][0] == "Analysed"
    assert states[1] == ("Not analysed", "NOT_FRONTAL: View Position LL")


@pytest.mark.parametrize("reason", [Reason.OWN_OUTPUT, Reason.DUPLICATE_INSTANCE])
def test_what_is_no_radiograph_of_the_study_is_not_reported(image, reports, reason):
    _, findings = reports(image, skipped=[painted.skip(painted.lateral(image), reason)])
    assert len([each for each in groups(findings) if text(each, "Tracking Identifier") == "analysis"]) == 1


def test_warnings_reach_the_reader(image, reports):
    _, findings = reports(image)
    assert "low dynamic range" in comments(group(findings, "analysis"))


def test_without_a_classifier_the_report_says_so(image, reports):
    _, scored = reports(image)
    _, unscored = reports(image, painted.analysis(image, (painted.anatomy(image),)))
    assert not any("No finding scores" in comment for comment in comments(scored))
    assert any("models pull" in comment for comment in comments(unscored))


def test_both_reports_are_unverified_and_not_for_clinical_use(image, reports):
    (measurements,), findings = reports(image)
    for report in (measurements, findings):
        assert report.VerificationFlag == "UNVERIFIED"
        assert report.PreliminaryFlag == "PRELIMINARY"
        assert "Not for clinical use" in comments(report)


def test_only_the_measurement_report_is_titled_as_one(image, reports):
    (measurements,), findings = reports(image)
    assert name(measurements) == "Imaging Measurement Report"
    assert name(findings) == "Chest Radiograph AI Findings Report"


@pytest.mark.parametrize("segmentation", ["binary", "labelmap"])
def test_the_findings_report_cites_all_objects_about_the_image(image, reports, written, segmentation):
    study = painted.study(painted.analysis(image))
    settings = painted.settings(segmentation=segmentation)
    expected = {
        dataset.SOPInstanceUID
        for kind in ("seg", "parametric_map", "secondary_capture")
        for dataset in written(kind, study, settings)
    }
    (measurements,), findings = reports(image, segmentation=segmentation)
    expected |= {measurements.SOPInstanceUID}
    cited = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in group(findings, "analysis").ContentSequence
        if name(item) == "Result of the analysis"
    }
    evidence = {
        instance.ReferencedSOPInstanceUID
        for series in findings.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert cited == expected
    assert expected < evidence


def test_an_object_that_is_not_written_is_not_cited(image, reports):
    _, findings = reports(image, objects=("sr",))
    uids = {i.ReferencedSOPSequence[0].ReferencedSOPClassUID.name for i in items(findings, "IMAGE")}
    assert uids == {"Digital X-Ray Image Storage - For Presentation"}


def test_highdicom_reads_both(image, reports):
    (measurements,), findings = reports(image)
    content = hd.EnhancedSR.from_dataset(measurements).content
    assert len(content.get_planar_roi_measurement_groups()) == 3
    read = hd.EnhancedSR.from_dataset(findings).content
    scored = read.get_image_measurement_groups(tracking_uid=None)
    assert {each.tracking_identifier for each in scored} >= {"pleural_effusion", "pneumothorax", "mass"}
    (number,) = next(g for g in scored if g.tracking_identifier == "opacity").get_measurements()
    assert number.value == 1.25
    assert codes.DCM.ImageLibrary.value in {c.ConceptNameCodeSequence[0].CodeValue for c in findings.ContentSequence}


def test_a_study_without_results_has_no_report(image, encoded):
    study = painted.study(painted.analysis(image))
    nothing = type(study)(study_instance_uid=study.study_instance_uid, images=(), skipped=())
    assert not encoded("sr", nothing, painted.settings())


def test_images_with_nothing_to_draw_have_no_measurement_report(image, reports):
    measurements, findings = reports(image, painted.analysis(image, (painted.scores(image),)))
    assert not measurements
    assert group(findings, "opacity")


@pytest.fixture
def run(encoded, tmp_path):
    """Process a study again and again, as the service does: each run knows what was written before."""
    known, folders = {}, count()

    def once(*analyses, skipped=(), **settings):
        study = painted.study(*analyses, skipped=skipped, earlier=known.values())
        made = [
            write(each, tmp_path / f"{next(folders)}") for each in encoded("sr", study, painted.settings(**settings))
        ]
        for each in made:
            known.setdefault(each.sop_instance_uid, each)
        return made

    return once


def predecessors(written):
    """The SOP Instance UID of each report's predecessor, or None."""
    found = []
    for dataset in (pydicom.dcmread(each.path) for each in written):
        (study,) = dataset.get("PredecessorDocumentsSequence") or (None,)
        if study is None:
            found.append(None)
            continue
        assert study.StudyInstanceUID == dataset.StudyInstanceUID
        (series,) = study.ReferencedSeriesSequence
        (reference,) = series.ReferencedSOPSequence
        assert reference.ReferencedSOPClassUID == dataset.SOPClassUID
        found.append(reference.ReferencedSOPInstanceUID)
    return found


def uids(written):
    return [each.sop_instance_uid for each in written]


def test_a_changed_report_names_the_one_it_takes_the_place_of(image, run):
    analysis = painted.analysis(image)
    first = run(analysis)
    second = run(analysis, geometry="strict")
    third = run(analysis)  # back to the first settings: a third instance, for a chain never runs in a circle
    assert predecessors(first) == [None, None]
    assert predecessors(second) == uids(first)
    assert predecessors(third) == uids(second)
    assert len({*uids(first), *uids(second), *uids(third)}) == 6


def test_a_report_that_says_the_same_is_the_same_bytes(image, run):
    analysis = painted.analysis(image)
    run(analysis)
    second, again = run(analysis, geometry="strict"), run(analysis, geometry="strict")
    assert [each.path.read_bytes() for each in second] == [each.path.read_bytes() for each in again]


def test_a_grown_study_changes_only_the_report_about_all_of_it(image, selected, run):
    analyses = [painted.analysis(each) for each in (image, selected(synthetic.radiograph(96, 80, seed=1)))]
    measured, found = run(analyses[0])
    first, second, both = run(*analyses)
    assert first.path.read_bytes() == measured.path.read_bytes()
    assert predecessors([first, second, both]) == [None, None, found.sop_instance_uid]


def test_a_report_takes_the_place_of_none_about_an_image_that_it_leaves_out(image, selected, run):
    one, two, three = (painted.analysis(selected(synthetic.radiograph(96, 80, seed=seed))) for seed in range(3))
    *_, first = run(one)
    *_, late = run(two)  # the first image was deleted meanwhile
    assert predecessors([first, late]) == [None, None]
    *_, again = run(two)
    assert again.path.read_bytes() == late.path.read_bytes()
    *_, grown = run(two, three)
    assert predecessors([grown]) == uids([late])


def test_an_image_that_is_no_longer_analysed_is_not_left_out(image, selected, run):
    one, two = (painted.analysis(selected(synthetic.radiograph(96, 80, seed=seed))) for seed in range(2))
    *_, both = run(one, two)
    *_, less = run(one, skipped=[painted.skip(two.image.instance)])
    assert predecessors([less]) == uids([both])


def test_the_findings_report_cites_the_measurement_report_that_was_written(image, run):
    run(painted.analysis(image))
    measured, found = run(painted.analysis(image), geometry="strict")
    cited = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in items(pydicom.dcmread(found.path), "COMPOSITE")
    }
    assert measured.sop_instance_uid in cited
