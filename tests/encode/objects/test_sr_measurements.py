"""What the reports of lines and of structures say."""

import highdicom.sr as hd
import pytest

from cxr_dicom import synthetic
from cxr_dicom.encode.outline import enclosed_area
from tests import painted
from tests.encode.objects.sr_items import comments, group, groups, items, name, named, summary, text, unit, value


def test_every_group_has_coordinates_on_the_source(image, reports):
    for report in reports(image).drawn:
        assert groups(report)
        for each in groups(report):
            (coordinates,) = items(each, "SCOORD")
            (source,) = items(coordinates, "IMAGE")
            reference = source.ReferencedSOPSequence[0]
            assert reference.ReferencedSOPInstanceUID == image.instance.sop_instance_uid


def test_lines_are_lengths_that_ohif_draws(image, reports):
    (report,) = reports(image).lines
    for line in (m for m in painted.analysis(image).predictions[0].measurements if len(m.points) == 2):
        drawn = group(report, f"Cornerstone3DTools@^0.1.0:Length:{line.code.meaning}")
        number = next(items(drawn, "NUM"))
        (coordinates,) = items(number, "SCOORD")
        assert name(number) == "Length"
        assert coordinates.GraphicType == "POLYLINE"
        assert coordinates.GraphicData == [value for point in line.points for value in point]
        assert (value(number), unit(number)) == (pytest.approx(line.value), "mm")
        (comment,) = comments(drawn)
        assert comment.startswith(line.code.meaning)


def test_the_ratio_stands_with_the_line_of_its_numerator_and_is_read_in_its_label(image, reports):
    (report,) = reports(image).lines
    ratio = next(m for m in painted.analysis(image).predictions[0].measurements if m.name == "cardiothoracic_ratio")
    drawn = groups(report)[0]
    assert "transverse cardiac diameter" in text(drawn, "Tracking Identifier")
    _, number = items(drawn, "NUM")
    assert (value(number), unit(number)) == (pytest.approx(ratio.value), "{ratio}")
    assert not list(items(number, "SCOORD")), "OHIF 3.12 drops the report when a second number has coordinates"
    assert f"cardiothoracic ratio {ratio.value:.2f}" in comments(drawn)[0]


def test_a_structure_has_its_outline_with_its_area(image, reports):
    (report,) = reports(image).structures
    masks = {m.structure.title: m.region for m in painted.anatomy(image).masks if m.region.area}
    assert len(groups(report)) == len(masks)
    for title, region in masks.items():
        each = group(report, f"Cornerstone3DTools@^0.1.0:PlanarFreehandROI:{title}")
        number = next(items(each, "NUM"))
        (outline,) = items(number, "SCOORD")
        points = list(zip(outline.GraphicData[::2], outline.GraphicData[1::2], strict=True))
        assert points[0] == points[-1]
        assert name(number) == "Area"
        area = region.area * image.spacing.rows_mm * image.spacing.columns_mm
        assert value(number) == pytest.approx(area, rel=1e-5)
        drawn = abs(enclosed_area(points)) * image.spacing.rows_mm * image.spacing.columns_mm
        assert drawn == pytest.approx(area, rel=0.005), "OHIF writes the area inside of the outline beside it"


def test_numbers_of_other_models_stand_with_the_structure_that_they_are_of(image, reports):
    """And what is of no structure does not stand there."""
    opacity = painted.scores(image, measured=("right_lung_opacity", "left_lung_opacity", "opacity"))
    (report,) = reports(image, painted.analysis(image, (painted.anatomy(image), opacity))).structures
    numbers = {
        text(each, "Tracking Identifier").rpartition(":")[2]: list(items(each, "NUM")) for each in groups(report)
    }
    assert {title: list(map(name, each)) for title, each in numbers.items()} == {
        "Right lung": ["Area", "Relative opacity"],
        "Left lung": ["Area", "Relative opacity"],
        "Heart": ["Area"],
    }


@pytest.mark.parametrize(("segmentation", "template"), [("binary", "1411"), ("labelmap", "1501")])
def test_a_group_cites_its_segment_where_readers_know_it(image, reports, written, segmentation, template):
    settings = painted.settings(segmentation=segmentation)
    segments = {
        item.TrackingID: (dataset.SOPInstanceUID, item.SegmentNumber, item.TrackingUID)
        for dataset in written("seg", painted.study(painted.analysis(image)), settings)
        for item in dataset.SegmentSequence
    }
    *_, report = reports(image, segmentation=segmentation).structures
    heart = group(report, "Cornerstone3DTools@^0.1.0:PlanarFreehandROI:Heart")
    uid, number, tracked = segments["heart"]
    assert tracked == named(heart, "Tracking Unique Identifier")[0].UID
    assert heart.ContentTemplateSequence[0].TemplateIdentifier == template
    cited = [item.ReferencedSOPSequence[0] for item in named(heart, "Referenced Segment")]
    found = [(each.ReferencedSOPInstanceUID, each.ReferencedSegmentNumber) for each in cited]
    assert found == ([(uid, number)] if segmentation == "binary" else [])


def test_lengths_are_in_pixels_without_spacing(selected, reports):
    made = reports(selected(synthetic.radiograph(96, 80, PixelSpacing=None, ImagerPixelSpacing=None)))
    units = {unit(number) for report in made.drawn for each in groups(report) for number in items(each, "NUM")}
    assert units == {"{pixels}", "{ratio}"}
    for report in (*made.drawn, made.findings):
        assert any("lengths are in pixels" in line for line in summary(report))


def test_highdicom_reads_both(image, reports):
    made = reports(image)
    lines, structures = (hd.EnhancedSR.from_dataset(report).content for (report,) in (made.lines, made.structures))
    assert not lines.get_planar_roi_measurement_groups()
    assert len(lines.get_image_measurement_groups()) == 2
    read = structures.get_volumetric_roi_measurement_groups()
    assert [each.finding_type.meaning for each in read] == ["Lung", "Lung", "Heart"]
    assert [each.get_measurements()[0].name.meaning for each in read] == ["Area"] * 3


def test_images_with_nothing_to_draw_have_neither(image, reports):
    made = reports(image, painted.analysis(image, (painted.scores(image),)))
    assert not made.drawn
