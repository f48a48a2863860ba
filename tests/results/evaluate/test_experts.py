"""Outlines and numbers of experts, in files that others' software makes, against those of a run."""

import highdicom as hd
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from highdicom.sr import CodedConcept
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import RTStructureSetStorage, generate_uid
from skimage.draw import polygon2mask

from cxr_dicom.encode import build_encoders
from cxr_dicom.encode.common import write
from cxr_dicom.records.plane import Region
from cxr_dicom.results.evaluate import TruthError, evaluate, experts
from cxr_dicom.results.evaluate.surface import surface_distances
from cxr_dicom.synthetic import radiograph
from tests.painted import analysis, anatomy, settings, study
from tests.results.evaluate.conftest import row

SPACING = (0.5, 0.25)  # mm between rows, between columns


@pytest.fixture
def source():
    dataset = radiograph(160, 128, modality="CR")
    dataset.PixelSpacing = list(SPACING)
    return dataset


@pytest.fixture
def outlined(selected, source, tmp_path, run):
    """A run that outlined two lungs and a heart, and what it outlined."""
    image = selected(source)
    made = anatomy(image)
    folder = tmp_path / "OUT" / "study"
    folder.mkdir(parents=True)
    encoded = [
        write(each, folder)
        for encoder in build_encoders(settings(objects=("seg",)))
        for each in encoder.encode(study(analysis(image, (made,))))
    ]
    line = row(1) | {
        "sop_instance_uid": str(source.SOPInstanceUID),
        "rows": 160,
        "columns": 128,
        "spacing_mm": list(SPACING),
        "models": [{"name": "painted-anatomy", "version": "1", "weights_sha256": None}],
        "boxes": {name: {"box": [0, 0, 1, 1], "model": "painted-anatomy"} for name in ("heart", "right_lung")},
        "objects": [
            {"path": f"study/{each.path.name}", "kind": str(each.kind), "sop_class_uid": each.sop_class_uid}
            for each in encoded
        ],
        "measurements": {
            "cardiothoracic_ratio": {
                "value": 0.5,
                "unit": "{ratio}",
                "meaning": "Cardiothoracic ratio",
                "site": None,
                "laterality": None,
                "model": "painted-anatomy",
            }
        },
    }
    return run([line]), {mask.structure.name: mask.region for mask in made.masks}


def moved(region, rows, columns):
    return np.roll(region.matrix(), (rows, columns), (0, 1))


def expert_segmentation(source, masks):
    """As highdicom writes it: BINARY, one segment each."""
    kinds = {"heart": codes.SCT.Heart, "right_lung": codes.SCT.Lung}
    descriptions = []
    for number, name in enumerate(masks, start=1):
        algorithm = {"algorithm_type": hd.seg.SegmentAlgorithmTypeValues.MANUAL}
        descriptions.append(
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=name.replace("_", " ").title(),
                segmented_property_category=codes.SCT.Organ,
                segmented_property_type=kinds[name],
                tracking_uid=generate_uid(),
                tracking_id="drawn by hand",
                **algorithm,
            )
        )
        if name.startswith("right"):
            right = CodedConcept("24028007", "SCT", "Right")
            kind = descriptions[-1].SegmentedPropertyTypeCodeSequence[0]
            kind.SegmentedPropertyTypeModifierCodeSequence = [right]
    return hd.seg.Segmentation(
        source_images=[source],
        pixel_array=np.stack(list(masks.values()), axis=-1)[None],
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Expert",
        manufacturer_model_name="Pen",
        software_versions="1",
        device_serial_number="1",
    )


def test_an_experts_segmentation_gives_dice_and_distances_in_mm(outlined, source, tmp_path):
    out, masks = outlined
    drawn = {"heart": moved(masks["heart"], 4, 0), "right_lung": masks["right_lung"].matrix()}
    path = tmp_path / "expert.dcm"
    expert_segmentation(source, drawn).save_as(path)
    found = evaluate(out, [path]).anatomy
    heart, lung = found.structures
    assert (heart.name, lung.name) == ("heart", "right_lung")
    both = masks["heart"].matrix() & drawn["heart"]
    assert heart.dice.value == pytest.approx(2 * both.sum() / (masks["heart"].area + drawn["heart"].sum()))
    assert (lung.dice.value, lung.mean_distance_mm.value, lung.p95_distance_mm.value) == (1, 0, 0)
    assert 1.0 < heart.p95_distance_mm.value <= 2.0  # moved by 4 rows of 0.5 mm
    assert found.outlined_images == 1


def test_our_own_segmentation_is_no_truth_and_is_read_once_another_takes_responsibility_for_it(outlined):
    out, _ = outlined
    with pytest.raises(TruthError, match="made by this program, not by an expert"):
        evaluate(out, [out / "study"])
    for path in (out / "study").iterdir():
        dataset = dcmread(path)
        dataset.Manufacturer = "Readers"
        dataset.save_as(path)
    found = evaluate(out, [out / "study"]).anatomy
    assert {each.name: each.dice.value for each in found.structures} == {"heart": 1, "right_lung": 1}


def structure_set(source, contours):
    """Contours in mm in the plane in which viewers place a radiograph."""
    dataset = Dataset()
    dataset.file_meta = Dataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.Modality = RTStructureSetStorage, generate_uid(), "RTSTRUCT"
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, points) in enumerate(contours.items(), start=1):
        roi, drawn, contour, image = Dataset(), Dataset(), Dataset(), Dataset()
        roi.ROINumber, roi.ROIName = number, name
        image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = source.SOPClassUID, source.SOPInstanceUID
        contour.ContourImageSequence = [image]
        contour.ContourGeometricType = "CLOSED_PLANAR"
        contour.NumberOfContourPoints = len(points)
        contour.ContourData = [f"{value:.4f}" for x, y in points for value in (x, y, 0)]
        drawn.ReferencedROINumber, drawn.ContourSequence = number, [contour]
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(drawn)
    return dataset


def ellipse(top, left, bottom, right, n=400):
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    column = 128 * ((left + right) / 2 + (right - left) / 2 * np.cos(angle))
    line = 160 * ((top + bottom) / 2 + (bottom - top) / 2 * np.sin(angle))
    return np.stack([(column - 0.5) * SPACING[1], (line - 0.5) * SPACING[0]], axis=1)


def test_contours_of_a_structure_set_lie_where_they_were_drawn(outlined, source, tmp_path):
    out, _ = outlined
    drawn = {"Heart": ellipse(0.4, 0.35, 0.75, 0.7), "Tumour of Quixote": ellipse(0.1, 0.1, 0.2, 0.2)}
    path = tmp_path / "expert.dcm"
    structure_set(source, drawn).save_as(path, enforce_file_format=True)
    evaluation = evaluate(out, [path])
    (heart,) = evaluation.anatomy.structures
    assert heart.dice.value > 0.999
    assert heart.mean_distance_mm.value < 0.02
    assert evaluation.anatomy.unused == {"of a structure that the run does not outline": 1}
    assert "quixote" not in str(evaluation.as_dict()).lower()


def test_a_polygon_is_filled_as_scikit_image_fills_it():
    dice = np.random.default_rng(4)
    for _ in range(20):
        angle = np.sort(dice.uniform(0, 2 * np.pi, 9))
        far = dice.uniform(3, 18, 9)
        points = np.stack([22 + far * np.cos(angle), 20 + far * np.sin(angle)], axis=1)
        wanted = polygon2mask((40, 45), points[:, ::-1] - 0.5)
        np.testing.assert_array_equal(experts.filled(points, (40, 45)), wanted)
    outside = np.array([(-5.0, -5.0), (50, -5), (50, 50), (-5, 50)])
    assert experts.filled(outside, (8, 8)).all()


def test_distances_are_those_of_simpleitk():
    y, x = np.mgrid[:60, :50]
    a, b = (y - 28) ** 2 / 400 + (x - 24) ** 2 / 150 < 1, (y - 31) ** 2 / 300 + (x - 22) ** 2 / 200 < 1
    found = surface_distances(Region.from_matrix(a), Region.from_matrix(b), SPACING)
    images = [sitk.GetImageFromArray(each.astype(np.uint8)) for each in (a, b)]
    contours = []
    for image in images:
        image.SetSpacing(SPACING[::-1])
        contours.append(sitk.LabelContour(image, fullyConnected=False))
    far = [
        np.abs(sitk.GetArrayFromImage(sitk.SignedMaurerDistanceMap(each, squaredDistance=False, useImageSpacing=True)))
        for each in contours
    ]
    lines = [sitk.GetArrayFromImage(each) > 0 for each in contours]
    there, back = far[1][lines[0]], far[0][lines[1]]
    assert found.mean == pytest.approx(np.concatenate([there, back]).mean(), abs=1e-5)
    assert found.largest == pytest.approx(max(there.max(), back.max()), abs=1e-5)
    measure = sitk.HausdorffDistanceImageFilter()
    measure.Execute(*contours)
    assert found.largest == pytest.approx(measure.GetHausdorffDistance(), abs=1e-5)


def report(source, value):
    """A TID 1500 report as highdicom writes it."""
    from highdicom.sr import (
        DeviceObserverIdentifyingAttributes,
        EnhancedSR,
        Measurement,
        MeasurementReport,
        MeasurementsAndQualitativeEvaluations,
        ObservationContext,
        ObserverContext,
        SourceImageForMeasurementGroup,
        TrackingIdentifier,
    )

    ratio = CodedConcept("99", "99EXPERT", "Cardiothoracic Ratio")
    unit = CodedConcept("{ratio}", "UCUM", "ratio")
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=generate_uid(), identifier="ratio"),
        source_images=[SourceImageForMeasurementGroup(str(source.SOPClassUID), str(source.SOPInstanceUID))],
        measurements=[Measurement(name=ratio, value=value, unit=unit)],
    )
    device = ObserverContext(codes.DCM.Device, DeviceObserverIdentifyingAttributes(generate_uid()))
    content = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=device),
        procedure_reported=CodedConcept("363679005", "SCT", "Imaging procedure"),
        imaging_measurements=[group],
    )
    return EnhancedSR(
        evidence=[source],
        content=content[0],
        series_number=1,
        series_instance_uid=generate_uid(),
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Expert",
    )


def test_a_number_in_a_report_is_compared_with_ours(outlined, source, tmp_path):
    out, _ = outlined
    path = tmp_path / "expert.dcm"
    report(source, 0.46).save_as(path)
    (found,) = evaluate(out, [path]).anatomy.measurements
    assert (found.name, found.n) == ("cardiothoracic_ratio", 1)
    assert found.bias.value == pytest.approx(0.04)


def test_what_is_no_truth_is_counted_and_never_quoted(outlined, source, tmp_path):
    out, masks = outlined
    folder = tmp_path / "experts"
    folder.mkdir()
    (folder / "notes.txt").write_text("Doe^Jane")
    source.save_as(folder / "image.dcm", enforce_file_format=True)
    with pytest.raises(TruthError, match=r"1 neither SEG, RTSTRUCT nor SR, 1 not DICOM") as raised:
        evaluate(out, [folder])
    assert "Doe" not in str(raised.value)
    good = expert_segmentation(source, {"heart": masks["heart"].matrix()})
    good.save_as(folder / "seg.dcm")
    broken = dcmread(folder / "seg.dcm")
    broken.NumberOfFrames = 10**9
    broken.save_as(folder / "bomb.dcm")
    wide = expert_segmentation(source, {"heart": masks["heart"].matrix()})
    for groups in wide.PerFrameFunctionalGroupsSequence:
        for derivation in groups.DerivationImageSequence:
            derivation.SourceImageSequence[0].ReferencedSOPInstanceUID = "1.2.3.4.5"
    wide.save_as(folder / "other.dcm")
    evaluation = evaluate(out, [folder])
    assert evaluation.sources[0].unmatched["cannot be understood: ValueError"] == 1
    assert evaluation.anatomy.unused == {"of an image that is not in the results": 1}
    assert evaluation.anatomy.structures[0].dice.value == 1
