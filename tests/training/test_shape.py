"""The shape model is sampled, drawn and found again."""

import numpy as np
import pytest

from training.shape import ORGANS, ShapeModel, contour, polygon, similarity, warp_grid


def circle(x, y, radius, points=24):
    turn = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1)


@pytest.fixture(scope="module")
def model():
    """Two round lungs and a heart; one mode grows the heart, the other lowers the lungs."""
    centres = {"right_lung": (0.3, 0.4, 0.15), "left_lung": (0.7, 0.4, 0.15), "heart": (0.52, 0.6, 0.1)}
    mean = np.concatenate([circle(*centre) for centre in centres.values()])
    organs = {name: np.arange(24) + 24 * k for k, name in enumerate(ORGANS)}
    modes = np.zeros((2, *mean.shape))
    modes[0, organs["heart"]] = circle(0, 0, 1)
    modes[1, :48, 1] = 1
    return ShapeModel(mean, modes, np.array([0.02, 0.03]), organs)


def test_contour_of_a_polygon_lies_on_the_polygon():
    points = contour(polygon(circle(0.4, 0.6, 0.2), 128))
    assert np.abs(np.linalg.norm(points - [0.4, 0.6], axis=1) - 0.2).max() < 0.015


def test_contour_of_nothing_is_none():
    assert contour(np.zeros((8, 8), bool)) is None


def test_samples_stay_within_the_clamp(model):
    rng = np.random.default_rng(0)
    for _ in range(50):
        sample = model.sample(rng, clamp=2.0)
        radius = np.linalg.norm(sample[model.organs["heart"]] - [0.52, 0.6], axis=1)
        assert np.all((radius > 0.1 - 0.0401) & (radius < 0.1 + 0.0401))


def test_fit_finds_the_shape_that_was_drawn(model):
    points = model.shape(np.array([1.5, -1.0])) * 0.8 + 0.05
    fit = model.fit(model.draw(points, 256), noise=0.003)
    assert np.abs(fit.points - points).max() < 0.01
    assert fit.residual < 0.005
    assert np.allclose(fit.deviations, [1.5, -1.0], atol=0.3)


def test_fit_puts_a_missing_organ_where_the_others_imply_it(model):
    masks = model.draw(model.mean, 256)
    masks[2] = False
    fit = model.fit(masks)
    heart = fit.points[model.organs["heart"]].mean(0)
    assert np.allclose(heart, [0.52, 0.6], atol=0.02)


def test_fit_of_nothing_is_refused(model):
    with pytest.raises(ValueError, match="expected at least one mask"):
        model.fit(np.zeros((3, 16, 16), bool))


def test_similarity_recovers_a_turn_a_scale_and_a_shift():
    rng = np.random.default_rng(0)
    source = rng.normal(size=(20, 2))
    turn = np.array([[0.8, -0.6], [0.6, 0.8]])
    linear, shift = similarity(source, source @ (1.7 * turn).T + [3, -2], np.ones(20))
    assert np.allclose(linear, 1.7 * turn)
    assert np.allclose(shift, [3, -2])


def test_warp_reads_the_old_contour_at_the_new_one(model):
    new, old = model.shape(np.array([0.0, 1.0])), model.mean
    grid = warp_grid(new, old, 128, smoothing=0.0)
    columns, rows = (new[model.organs["right_lung"]] * 128).astype(int).T
    assert np.abs(grid[rows, columns] - old[model.organs["right_lung"]]).max() < 0.015
