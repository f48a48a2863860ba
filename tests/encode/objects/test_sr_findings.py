"""What the findings report says, to its reader and to machines."""

from dataclasses import replace

import highdicom.sr as hd
import pytest
from pydicom.sr.codedict import codes

from cxr_dicom import synthetic
from cxr_dicom.measure import withheld
from cxr_dicom.records import Content, NumberError, Presence, Reason, Way
from cxr_dicom.records.plane import Orientation
from tests import painted
from tests.encode.objects.sr_items import (
    code,
    comments,
    group,
    groups,
    items,
    name,
    named,
    section,
    summary,
    text,
    value,
)


def test_the_reader_learns_first_what_was_found(image, reports):
    report = reports(image).findings
    headings = [name(item) for item in report.ContentSequence if item.ValueType == "CONTAINER"]
    assert headings[:3] == ["Summary", "Not looked for", "Cardiothoracic ratio"]
    assert headings[-4:] == ["Image Library", "Imaging Measurements", "Qualitative Evaluations", "Provenance"]
    assert summary(report)[0] == "Not for clinical use"
    assert section(report, "Summary") == [
        "Present: Pleural effusion 0.56 (from 0.50).",
        "Scored without an operating point, so not called: Pleural effusion 0.56.",
        "Not present: Pleural effusion 0.56 (from 0.50).",
    ]
    assert section(report, "Not looked for") == ["All findings that are not named above."]


def test_a_finding_without_a_call_because_of_the_picture_says_why(image, reports):
    content = Content(way=Way(turn=Orientation(flip_rows=True, flip_columns=True)))
    seen = withheld(painted.scores(image), content.sentence, findings=True)
    study = replace(painted.analysis(image, (seen,)), content=content)
    report = reports(image, study).findings
    assert section(report, "Summary") == [
        "Scored without an operating point, so not called: Pleural effusion 0.56.",
        "Scored and not called, because of the picture (see remarks): Pleural effusion 0.56, Pleural effusion 0.56.",
    ]
    (each,) = groups(report)
    said = [comments(item) for item in items(each, "CODE") if name(item) == "Pleural effusion"]
    assert [any(content.sentence in text for text in texts) for texts in said].count(True) == 2


def test_the_ratio_is_said_with_its_rule_and_its_error(image, reports):
    known = painted.anatomy(image)
    stated = NumberError(measurement="cardiothoracic_ratio", bias=0.01, spread=0.02, against="a test")
    known = replace(known, model=replace(known.model, errors=(stated,)))
    for prediction, error in ((painted.anatomy(image), "not known for this model"), (known, str(stated))):
        report = reports(image, painted.analysis(image, (prediction,))).findings
        (line,) = section(report, "Cardiothoracic ratio")
        assert line.startswith("Cardiothoracic ratio 0.4")
        assert "above limit: no." in line
        assert "above 0.5 on a PA radiograph of an adult (Danzer" in line
        assert line.endswith(f"Error of the number: {error}.")


def test_numbers_of_one_structure_are_one_line(image, reports):
    lines = summary(reports(image).findings)
    assert [line.partition(":")[0] for line in lines if "area" in line] == ["Right lung", "Left lung", "Heart"]


def test_findings_are_sorted_by_call_and_score(image, reports):
    scored = painted.scores(image)
    found = tuple(
        replace(
            painted.finding(name, call), probability=score, code=replace(painted.finding(name, call).code, meaning=name)
        )
        for name, call, score in (
            ("low", Presence.ABSENT, 0.1),
            ("high", Presence.PRESENT, 0.9),
            ("open", Presence.INDETERMINATE, 0.95),
            ("less high", Presence.PRESENT, 0.6),
        )
    )
    report = reports(image, painted.analysis(image, (replace(scored, findings=found),))).findings
    (each,) = groups(report)
    wanted = ["high", "less high", "open", "low"]
    assert [name(item) for item in each.ContentSequence if item.ValueType == "CODE"][:4] == wanted
    assert [name(item) for item in items(each, "NUM") if "probability" in name(item)] == [
        f"{title}, probability" for title in wanted
    ]


def test_a_score_has_probability_operating_point_call_network_and_source(image, reports):
    (each,) = groups(reports(image).findings)
    number = named(each, "Pleural effusion, probability")[0]
    quantity = number.ConceptNameCodeSequence[0]
    assert (quantity.CodeValue, quantity.CodingSchemeDesignator) == ("60046008", "99CXRPROB")
    assert value(number) == 0.5625
    inside = {name(item): value(item) for item in items(number, "NUM")}
    assert inside == {"Network output before calibration": 0.25, "CAD Operating Point": 0.2}
    assert {name(item): code(item) for item in items(number, "CODE")} == {
        "Finding": "Pleural effusion",
        "Finding Site": "Lung",
    }
    call = named(each, "Pleural effusion")[0]
    assert code(call) == "Present"
    for item in (number, call):
        assert text(item, "Algorithm Name") == "painted-scores"
    (source,) = [item for item in each.ContentSequence if item.ValueType == "IMAGE"]
    assert source.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == image.instance.sop_instance_uid


def test_calls_of_each_kind_are_stated(image, reports):
    (each,) = groups(reports(image).findings)
    assert list(map(code, named(each, "Pleural effusion"))) == ["Present", "Undetermined", "Absent"]


def test_what_could_not_be_measured_says_why(image, reports):
    report = reports(image).findings
    (each,) = groups(report)
    (failed,) = [item for item in named(each, "Relative opacity") if item.ValueType == "CODE"]
    assert code(failed) == "Measurement failure"
    assert comments(failed) == ["Not measurable: no lungs outlined"]
    assert "Relative opacity: not measurable: no lungs outlined." in section(report, "Other measurements")


def test_a_rule_is_stated_with_its_text(image, reports):
    (each,) = groups(reports(image).findings)
    (rule,) = named(each, "Cardiothoracic ratio above limit")
    assert "Danzer" in comments(rule)[0]


def test_where_it_comes_from_stands_once_and_last(image, reports):
    report = reports(image).findings
    provenance = report.ContentSequence[-1]
    assert name(provenance) == "Provenance"
    assert [text(each, "Algorithm Name") for each in named(provenance, "Model")] == [
        "painted-anatomy",
        "painted-scores",
    ]
    assert comments(provenance).count("Relative opacity: Mean.") == 1
    everything = [item.TextValue for item in items(report, "TEXT")]
    assert sum("SHA-256" in each for each in everything) == len(named(provenance, "Model")) + 1


def outcomes(report):
    (evaluations,) = named(report, "Qualitative Evaluations")
    return [(code(item), comments(item)) for item in named(evaluations, "Analysis of image")]


def test_an_image_that_was_not_analysed_is_stated(image, reports):
    report = reports(image, skipped=[painted.skip(painted.lateral(image))]).findings
    assert outcomes(report) == [("Analysed", []), ("Not analysed", ["NOT_FRONTAL: View Position LL"])]
    assert section(report, "Not analysed") == ["NOT_FRONTAL: View Position LL"]


@pytest.mark.parametrize("reason", [Reason.OWN_OUTPUT, Reason.DUPLICATE_INSTANCE])
def test_what_is_no_radiograph_of_the_study_is_not_reported(image, reports, reason):
    report = reports(image, skipped=[painted.skip(painted.lateral(image), reason)]).findings
    assert len(outcomes(report)) == 1


def test_warnings_reach_the_reader(image, reports):
    assert "low dynamic range" in section(reports(image).findings, "Remarks")


def test_without_a_classifier_the_report_says_so(image, reports):
    unscored = painted.analysis(image, (painted.anatomy(image),))
    assert not any("models pull" in line for line in summary(reports(image).findings))
    assert any("models pull" in line for line in summary(reports(image, unscored).findings))


def test_all_are_unverified_and_not_for_clinical_use(image, reports):
    made = reports(image)
    for report in (*made.drawn, made.findings):
        assert report.VerificationFlag == "UNVERIFIED"
        assert report.PreliminaryFlag == "PRELIMINARY"
        assert summary(report)[0] == "Not for clinical use"


def test_only_what_can_be_drawn_is_titled_as_measurements(image, reports):
    made = reports(image)
    assert {name(report) for report in made.drawn} == {"Imaging Measurement Report"}
    assert name(made.findings) == "Chest Radiograph AI Findings Report"


@pytest.mark.parametrize("segmentation", ["binary", "labelmap"])
def test_the_findings_report_cites_all_objects_about_the_image(image, reports, written, segmentation):
    study = painted.study(painted.analysis(image))
    settings = painted.settings(segmentation=segmentation)
    expected = {
        dataset.SOPInstanceUID
        for kind in ("seg", "parametric_map", "secondary_capture", "presentation_state")
        for dataset in written(kind, study, settings)
    }
    made = reports(image, segmentation=segmentation)
    expected |= {report.SOPInstanceUID for report in made.drawn}
    (provenance,) = named(made.findings, "Provenance")
    cited = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in named(provenance, "Result of the analysis")
    }
    evidence = {
        instance.ReferencedSOPInstanceUID
        for series in made.findings.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    assert cited == expected
    assert expected < evidence


def test_an_object_that_is_not_written_is_not_cited(image, reports):
    made = reports(image, objects=("sr",))
    uids = {
        i.ReferencedSOPSequence[0].ReferencedSOPClassUID.name
        for report in (*made.drawn, made.findings)
        for i in items(report, "IMAGE")
    }
    assert uids == {"Digital X-Ray Image Storage - For Presentation"}


def test_highdicom_reads_it(image, reports):
    report = reports(image).findings
    (read,) = hd.EnhancedSR.from_dataset(report).content.get_image_measurement_groups()
    numbers = {each.name.meaning: each.value for each in read.get_measurements()}
    assert numbers["Relative opacity"] == 1.25
    assert numbers["Cardiothoracic ratio"] == pytest.approx(0.44, abs=0.02)
    assert codes.DCM.ImageLibrary.value in {c.ConceptNameCodeSequence[0].CodeValue for c in report.ContentSequence}


def test_a_study_without_results_has_no_report(image, encoded):
    study = painted.study(painted.analysis(image))
    nothing = type(study)(study_instance_uid=study.study_instance_uid, images=(), skipped=())
    assert not encoded("sr", nothing, painted.settings())


@pytest.fixture
def pair(image, selected, encoded):
    """The findings reports on an image of which less was found, and on one of which all was."""

    def made(without):
        other = selected(synthetic.radiograph(96, 80, seed=1))
        anatomy, scores = painted.anatomy(other, apart=True), painted.scores(other)
        if without == "a ratio":
            anatomy = replace(anatomy, measurements=tuple(m for m in anatomy.measurements if "ratio" not in m.name))
        else:
            scores = replace(scores, measurements=())
        study = painted.study(painted.analysis(other, (anatomy, scores)), painted.analysis(image))
        reports = [each.dataset for each in encoded("sr", study, painted.settings())]
        found = [each for each in reports if each.SeriesDescription.startswith("Findings")]
        return [[numbers(each) for each in groups(report)] for report in found], found

    return made


def numbers(container):
    return [name(item) for item in container.ContentSequence if item.ValueType == "NUM"]


def test_two_images_have_their_numbers_in_one_order(pair):
    ((first, second),), (report,) = pair(without="what comes last")
    assert second == first[: len(second)], "the columns of Slicer's table are those of the first group"
    assert len(first) > len(second)
    assert group(report, "PA chest radiograph 2") is groups(report)[0]


def test_an_image_that_lacks_a_number_among_others_has_a_report_of_its_own(pair):
    ((first,), (second,)), (report, further) = pair(without="a ratio")
    assert [each for each in first if each in second] == second
    assert further.SeriesDescription == "Findings 2; not for clinical use"
    assert group(further, "PA chest radiograph 1")
    cited = [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in items(report, "COMPOSITE")]
    assert further.SOPInstanceUID in cited
    assert further.SeriesInstanceUID != report.SeriesInstanceUID


def test_a_picture_that_contradicts_its_header_has_a_code_for_each_thing(image, reports):
    plain = painted.analysis(image, (painted.anatomy(image),))
    way = Way(turn=Orientation(transpose=True), inverted=True)
    for content, values in (
        (None, []),
        (Content(), []),
        (Content(way=way), ["MIRRORED", "TURNED_270", "INVERTED"]),
        (Content(doubt="two hands"), ["DOUBTFUL"]),
    ):
        (evaluations,) = named(reports(image, replace(plain, content=content)).findings, "Qualitative Evaluations")
        said = named(evaluations, "Content of the picture against its header")
        assert [item.ConceptCodeSequence[0].CodeValue for item in said] == values
        assert all(content.sentence in comments(item) for item in said)
