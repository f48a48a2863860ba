"""Segments, frames and bits."""

import numpy as np
import pytest
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation

from cxr_dicom import synthetic
from cxr_dicom.encode.objects.seg import pack, paint
from cxr_dicom.records.plane import Region
from tests import painted


def random_regions(shape, count, seed=0):
    random = np.random.default_rng(seed)
    return [Region.from_matrix(random.random(shape) < 0.3) for _ in range(count)]


def packed(regions):
    """The bits of all frames as numpy packs them, padded to an even number of bytes."""
    packed = np.packbits(np.stack([region.matrix() for region in regions]).ravel(), bitorder="little").tobytes()
    return packed + b"\0" * (len(packed) % 2)


@pytest.mark.parametrize("shape", [(8, 8), (5, 7), (16, 3), (1, 1), (9, 1)])
def test_bits_are_packed_end_to_end(shape):
    regions = random_regions(shape, 5)
    assert pack(regions).tobytes() == packed(regions)


def test_crops_anywhere_are_packed_where_they_lie():
    whole = np.zeros((11, 13), bool)
    whole[7:10, 4:6] = True
    regions = [Region.from_matrix(whole), Region.from_matrix(~whole), Region.from_matrix(whole[::-1])]
    assert pack(regions).tobytes() == packed(regions)


def test_a_label_map_holds_numbers():
    left = np.zeros((3, 5), bool)
    left[1:, :2] = True
    labels = paint([Region.from_matrix(left), Region.from_matrix(left[:, ::-1])]).tobytes()
    assert labels == (left * 1 + left[:, ::-1] * 2).astype(np.uint8).tobytes() + b"\0"


def test_empty_structures_are_dropped(image, encoded):
    (binary,) = encoded("seg", painted.study(painted.analysis(image)), painted.settings())
    assert [item.TrackingID for item in binary.dataset.SegmentSequence] == ["right_lung", "left_lung", "heart"]
    nothing = painted.anatomy(image, masks=painted.anatomy(image).masks[-1:])
    assert not encoded("seg", painted.study(painted.analysis(image, (nothing,))), painted.settings())


def test_one_segmentation_per_image_and_model(selected, encoded):
    images = [selected(synthetic.radiograph(96, 80, seed=seed)) for seed in (0, 1)]
    study = painted.study(*(painted.analysis(image) for image in images))
    objects = encoded("seg", study, painted.settings())
    assert [each.source_sop_instance_uids for each in objects] == [(i.instance.sop_instance_uid,) for i in images]
    assert {each.model for each in objects} == {"painted-anatomy"}
    assert len({each.dataset.SeriesInstanceUID for each in objects}) == 2


@pytest.mark.parametrize("policy", ["binary", "labelmap"])
@pytest.mark.parametrize("geometry", ["viewer", "strict"])
@pytest.mark.parametrize("shape", [(96, 80), (97, 81)])
def test_highdicom_reads_what_was_painted(selected, written, policy, geometry, shape):
    image = selected(synthetic.radiograph(*shape))
    analysis = painted.analysis(image)
    datasets = written("seg", painted.study(analysis), painted.settings(segmentation=policy, geometry=geometry))
    read = {}
    for dataset in datasets:
        segmentation = Segmentation.from_dataset(dataset)
        frames = segmentation.get_pixels_by_source_instance(
            [image.instance.sop_instance_uid], ignore_spatial_locations=geometry == "strict"
        )
        for number in segmentation.segment_numbers:
            description = segmentation.get_segment_description(number)
            read[description.tracking_id] = frames[0, :, :, segmentation.segment_numbers.index(number)]
    masks = {mask.structure.name: mask.region for mask in analysis.predictions[0].masks if mask.region.area}
    assert read.keys() == masks.keys()
    for name, region in masks.items():
        assert np.array_equal(read[name].astype(bool), region.matrix())


def test_segments_are_described(image, written):
    (dataset,) = written("seg", painted.study(painted.analysis(image)), painted.settings())
    lung = dataset.SegmentSequence[0]
    assert lung.SegmentLabel == "Right lung"
    assert lung.SegmentedPropertyTypeCodeSequence[0].CodeValue == "39607008"
    modifier = lung.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert modifier.CodeMeaning == "Right"
    algorithm = lung.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("painted-anatomy", "1")
    assert (
        "SegmentedPropertyTypeModifierCodeSequence"
        not in dataset.SegmentSequence[2].SegmentedPropertyTypeCodeSequence[0]
    )


@pytest.mark.parametrize("geometry", ["viewer", "strict"])
def test_the_source_is_cited_where_viewers_look(image, written, geometry):
    study, source = painted.study(painted.analysis(image)), image.instance
    for dataset in written("seg", study, painted.settings(segmentation="both", geometry=geometry)):
        (series,) = dataset.ReferencedSeriesSequence
        assert series.SeriesInstanceUID == source.series_instance_uid
        assert series.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == source.sop_instance_uid
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            cited = frame.DerivationImageSequence[0].SourceImageSequence[0]
            assert cited.ReferencedSOPInstanceUID == source.sop_instance_uid
        assert (dataset.Rows, dataset.Columns) == image.shape


def test_a_label_map_has_no_segment_for_the_background(image, written):
    settings = painted.settings(segmentation="labelmap")
    for dataset in written("seg", painted.study(painted.analysis(image)), settings):
        assert dataset.PixelPaddingValue == 0
        assert [item.SegmentNumber for item in dataset.SegmentSequence] == [*range(1, len(dataset.SegmentSequence) + 1)]


def test_colours_come_back(image, written):
    (dataset,) = written("seg", painted.study(painted.analysis(image)), painted.settings())
    stored = CIELabColor.from_dicom_value(dataset.SegmentSequence[0].RecommendedDisplayCIELabValue)
    assert np.allclose(stored.to_rgb(), painted.structure("any").colour, atol=1)
