"""Which segmentations an image gets: BINARY or label maps, and structures that overlap."""

import numpy as np
import pytest

from cxr_dicom import synthetic
from cxr_dicom.encode.segments import disjoint, filled, plan_segmentations
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


def named(groups):
    return [[mask.structure.name for mask in group] for group in groups]


class TestFilled:
    """Sets with too few structures get some of others."""

    @staticmethod
    def bar(name, left, right):
        matrix = np.zeros((4, 20), bool)
        matrix[:, left:right] = True
        return Mask(structure=painted.structure(name), region=Region.from_matrix(matrix))

    @pytest.fixture
    def groups(self):
        lungs = [self.bar("a", 0, 3), self.bar("b", 3, 6), self.bar("c", 6, 9), self.bar("d", 9, 12)]
        return [lungs, [self.bar("over_d", 11, 14)]]

    def test_up_to_the_least_from_the_last(self, groups):
        assert named(filled(groups, 1)) == named(groups)
        assert named(filled(groups, 2)) == [["a", "b", "d"], ["c", "over_d"]]

    def test_none_is_left_with_fewer_than_the_least(self, groups):
        assert named(filled(groups, 3)) == [["a", "b", "d"], ["c", "over_d"]]

    def test_what_overlaps_stays(self):
        wide = self.bar("wide", 0, 20)
        groups = [[self.bar("a", 0, 3), self.bar("b", 3, 6), self.bar("c", 6, 9)], [wide]]
        assert named(filled(groups, 2)) == named(groups)

    def test_corners_that_touch_in_boxes_only_do_not_overlap(self):
        triangle = Region.from_matrix(np.tri(6, dtype=bool))
        other = Region.from_matrix(~np.tri(6, dtype=bool))
        upper, lower = (Mask(structure=painted.structure(n), region=r) for n, r in (("u", other), ("l", triangle)))
        groups = [[self.bar("a", 0, 1), upper, self.bar("b", 9, 12)], [lower]]
        assert named(filled(groups, 2)) == [["a", "u"], ["b", "l"]]


def test_label_maps_have_as_many_structures_as_the_reports_have_groups(selected):
    image = selected(synthetic.radiograph(97, 81))
    prediction = painted.anatomy(image, beside=4)
    plans = list(plan_segmentations(painted.analysis(image, (prediction,)), prediction, painted.settings()))
    assert named(plan.masks for plan in plans) == [
        ["right_lung", "left_lung", "rib_1", "rib_2"],
        ["rib_3", "rib_4", "heart"],
    ]


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
