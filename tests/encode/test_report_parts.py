"""Which rows stand in one report."""

import sys

import pytest

from cxr_dicom.encode.report_parts import most_rows, parts
from cxr_dicom.encode.segments import plan_segmentations
from tests import painted


@pytest.mark.parametrize(
    ("columns", "most", "split"),
    [
        ({"lung": "AD", "heart": "A"}, 2, [["lung", "heart"]]),
        ({"lung": "AD", "heart": "A"}, 1, [["lung"], ["heart"]]),
        ({"lung": "AD", "aorta": "D", "heart": "A"}, 3, [["lung", "heart"], ["aorta"]]),
        ({"lung": "AD", "aorta": "D", "spine": "D"}, 3, [["lung"], ["aorta", "spine"]]),
        ({"lung": "AD", "nothing": ""}, 3, [["lung", "nothing"]]),
        ({"a": "A", "b": "A", "c": "A", "d": "A", "e": "A"}, 2, [["a", "b"], ["c", "d"], ["e"]]),
        ({}, 1, []),
    ],
)
def test_rows_of_a_part_have_the_columns_of_its_first_and_room(columns, most, split):
    assert parts(columns, most) == split


def test_the_smallest_segmentation_of_all_images_and_models_decides(image):
    anatomy = painted.anatomy(image, apart=True)
    (plan,) = plan_segmentations(painted.analysis(image, (anatomy,)), anatomy, painted.settings())
    assert len(plan.masks) == 3
    pair = [
        painted.analysis(image, (anatomy, painted.scores(image))),
        painted.analysis(image, (painted.anatomy(image),)),
    ]
    assert most_rows(pair, painted.settings()) == 3
    assert most_rows(pair, painted.settings(segmentation="labelmap")) == 1
    assert most_rows(pair[:1], painted.settings(segmentation="labelmap")) == 3


def test_without_segmentations_there_is_no_limit(image):
    assert most_rows([painted.analysis(image)], painted.settings(objects=("sr",))) == sys.maxsize
    assert most_rows([painted.analysis(image, (painted.scores(image),))], painted.settings()) == sys.maxsize
