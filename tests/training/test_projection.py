"""Projections of a chest of a few boxes."""

import numpy as np
import pytest

from training.projection import MATERIALS, Pose, project, random_pose, split, visible_masks

SPACING = 8.0


@pytest.fixture(scope="module")
def volume():
    """A body of water, 384 mm wide and 320 mm tall, two lungs, a heart before the left one, a liver under the right."""
    hounsfield = np.full((40, 32, 48), -1000.0)
    labels = np.zeros(hounsfield.shape, np.uint8)
    body, right, left = np.s_[:, 2:30, 2:46], np.s_[5:28, 6:26, 6:20], np.s_[5:28, 6:26, 28:42]
    heart, liver = np.s_[18:28, 4:14, 22:34], np.s_[22:36, 6:26, 4:22]
    hounsfield[body] = 0
    for where, value, label in ((right, -800, 12), (left, -800, 10), (heart, 40, 51), (liver, 60, 5)):
        hounsfield[where], labels[where] = value, label
    return split(hounsfield, labels, SPACING)


def test_path_through_water_is_its_depth(volume):
    image = project(volume, Pose(source_distance=1e6, field=320), size=32, step=2.0)
    soft = image[MATERIALS.index("soft")]
    assert soft[2, 16] == pytest.approx(28 * SPACING / 10, rel=0.05)


def test_lungs_let_more_through_than_the_mediastinum(volume):
    image = project(volume, Pose(field=400), size=48)
    total = image[: len(MATERIALS)].sum(0)
    right, left, heart = visible_masks(image[len(MATERIALS) :])
    assert np.median(total[right]) < np.median(total[heart])
    assert np.median(total[left]) < np.median(total[heart])


def test_patient_right_is_picture_left_and_nearer_the_source_is_larger(volume):
    masks = {
        behind: visible_masks(
            project(volume, Pose(field=500, source_distance=900, source_behind=behind), size=96)[len(MATERIALS) :]
        )
        for behind in (True, False)
    }
    right, left, heart = masks[True]
    assert np.nonzero(right)[1].max() < np.nonzero(left)[1].min()
    assert masks[False][2].sum() > heart.sum(), "in an anteroposterior beam the heart is farther from the detector"


def test_lung_behind_liver_and_heart_is_not_visible(volume):
    image = project(volume, Pose(field=400), size=64)
    regions = image[len(MATERIALS) :]
    right, left, heart = visible_masks(regions)
    assert not (right & (regions[3] > 1.5)).any()
    assert not (left & heart).any()


def test_random_poses_depend_on_the_seed_alone():
    first, second = (random_pose(np.random.default_rng(3)) for _ in range(2))
    assert first == second
