"""A contour that lies beside the border on every image is moved onto it."""

import numpy as np
import pytest

from training.borders import normals, offsets, shift
from training.shape import ORGANS, ShapeModel

CENTRES = np.array([[0.28, 0.5], [0.72, 0.5], [0.5, 0.5]])
TURN = np.linspace(0, 2 * np.pi, 32, endpoint=False)
RING = np.stack([np.cos(TURN), np.sin(TURN)], axis=1)


@pytest.fixture(scope="module")
def model():
    mean = np.concatenate([RING * 0.1 + centre for centre in CENTRES])
    organs = {name: np.arange(32) + 32 * k for k, name in enumerate(ORGANS)}
    return ShapeModel(mean, np.zeros((1, *mean.shape)), np.ones(1), organs)


def test_normals_point_outwards_whichever_way_a_contour_runs(model):
    for points in (model.mean, model.mean[::-1]):
        centres = points.reshape(3, 32, 2).mean(1).repeat(32, axis=0)
        outward = (points - centres) / 0.1
        assert np.allclose(normals(model, points), outward, atol=1e-6)


def test_offsets_find_the_border_among_noise(model):
    rng = np.random.default_rng(0)
    y, x = (np.mgrid[:256, :256] + 0.5) / 256
    image = np.full((256, 256), 0.5)
    for (cx, cy), grey in zip(CENTRES, (0.0, 0.0, 1.0), strict=True):
        image[np.hypot(x - cx, y - cy) < 0.1 - 0.015] = grey
    noisy = [(image + rng.normal(0, 0.2, image.shape), model.mean) for _ in range(20)]
    found = offsets(model, noisy)
    assert np.allclose(found, -0.015, atol=0.004)
    moved = shift(model, model.mean, found).reshape(3, 32, 2) - CENTRES[:, None]
    assert np.allclose(np.linalg.norm(moved, axis=2), 0.085, atol=0.004)
