"""Which segmentations an image gets: BINARY or label maps, and structures that overlap."""

import numpy as np
import pytest

from cxr_dicom import synthetic
from cxr_dicom.encode.segments import disjoint
from cxr_dicom.records import Mask
from cxr_dicom.records.plane import Region
from tests import painted


def test_overlapping_structures_are_split_into_disjoint_sets(image):
    masks = [mask for mask in painted.anatomy(image).masks if mask.region.area]
    groups = [[mask.structure.name for mask in group] for group in disjoint(masks)]
    assert groups == [["right_lung", "left_lung"], ["heart"]]


def test_a_label_map_has_at_most_255_labels():
    def dot(index):
        matrix = np.zeros((20, 20), bool)
        matrix.flat[index] = True
        return Mask(structure=painted.structure(f"dot_{index}"), region=Region.from_matrix(matrix))

    assert [len(group) for group in disjoint([dot(index) for index in range(300)])] == [255, 45]


@pytest.mark.parametrize(
    ("policy", "shape", "types"),
    [
        ("auto", (96, 80), ["BINARY"]),
        ("auto", (97, 80), ["BINARY"]),
        ("auto", (96, 81), ["LABELMAP", "LABELMAP"]),
        ("auto", (97, 81), ["LABELMAP", "LABELMAP"]),
        ("binary", (97, 81), ["BINARY"]),
        ("labelmap", (96, 80), ["LABELMAP", "LABELMAP"]),
        ("both", (96, 80), ["BINARY", "LABELMAP", "LABELMAP"]),
    ],
)
def test_policy(selected, encoded, policy, shape, types):
    image = selected(synthetic.radiograph(*shape))
    objects = encoded("seg", painted.study(painted.analysis(image)), painted.settings(segmentation=policy))
    assert [each.dataset.SegmentationType for each in objects] == types
