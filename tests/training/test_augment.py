"""Examples keep image and outline together."""

import numpy as np
import pytest

from training.augment import example, folds
from training.shape import ORGANS, ShapeModel, warp_grid


@pytest.fixture(scope="module")
def model():
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    mean = np.concatenate([ring * r + c for r, c in ((0.15, (0.3, 0.4)), (0.15, (0.7, 0.4)), (0.09, (0.5, 0.65)))])
    organs = {name: np.arange(20) + 20 * k for k, name in enumerate(ORGANS)}
    return ShapeModel(mean, np.zeros((1, *mean.shape)), np.ones(1), organs)


@pytest.fixture(scope="module")
def radiograph(model):
    lungs = model.draw(model.mean, 128)[:2].any(0)
    return np.where(lungs, 0.2, 0.8)[None].astype(np.float32)


def test_an_example_is_made_of_its_seed(model, radiograph):
    made = [example(model, radiograph, model.mean, np.random.default_rng(5), 64) for _ in range(2)]
    assert np.array_equal(made[0][0], made[1][0])
    assert np.array_equal(made[0][1], made[1][1])


def test_examples_are_normalised_and_of_the_size(model, radiograph):
    for seed in range(20):
        image, masks = example(model, radiograph, model.mean, np.random.default_rng(seed), 64)
        assert image.shape == (64, 64)
        assert masks.shape == (3, 64, 64)
        assert image.dtype == np.float32
        assert 0 <= image.min() <= image.max() <= 1


def test_lungs_stay_darker_than_what_lies_between_them(model, radiograph):
    """Over many examples: single ones may be whited out."""
    gaps = []
    for seed in range(40):
        image, masks = example(model, radiograph, model.mean, np.random.default_rng(seed), 64)
        if masks[0].any() and masks[2].any():
            gaps.append(np.median(image[masks[2]]) - np.median(image[masks[:2].any(0)]))
    assert np.mean(np.array(gaps) > 0.1) > 0.8


def test_an_identity_map_does_not_fold_and_a_mirrored_one_does(model):
    grid = warp_grid(model.mean, model.mean, 32)
    assert folds(grid) == 0
    assert folds(grid[:, ::-1]) == 1
