"""Which maps are written, and on which grid."""

from dataclasses import replace

import numpy as np

from cxr_dicom.records import Presence
from tests import painted


def several(image):
    """Three maps: two of findings, one of no finding."""
    scored, heatmap = painted.scores(image), painted.heatmap(image)
    return replace(
        scored,
        findings=tuple(
            replace(painted.finding(name, Presence.PRESENT), probability=score)
            for name, score in (("a", 0.2), ("b", 0.7))
        ),
        heatmaps=tuple(replace(heatmap, name=name, title=name) for name in ("a", "b", "c")),
    )


def titles(written, image, **settings):
    study = painted.study(painted.analysis(image, (several(image),)))
    return [each.ContentDescription for each in written("parametric_map", study, painted.settings(**settings))]


def test_by_default_the_map_of_the_top_finding_is_written_and_those_of_no_finding(image, written):
    assert titles(written, image) == ["b", "c"]


def test_all_maps_are_a_choice(image, written):
    assert titles(written, image, maps="all") == ["a", "b", "c"]


def test_a_coarse_map_keeps_the_grid_of_its_model(image, written):
    study, heatmap = painted.study(painted.analysis(image)), painted.heatmap(image)
    (coarse,) = written("parametric_map", study, painted.settings(map="coarse"))
    assert (coarse.Rows, coarse.Columns) == heatmap.grid.shape
    assert np.array_equal(np.frombuffer(coarse.FloatPixelData, "<f4").reshape(heatmap.grid.shape), heatmap.values)
    spacing = coarse.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing
    assert np.allclose(spacing, np.multiply(heatmap.grid.step, (image.spacing.rows_mm, image.spacing.columns_mm)))
    (fine,) = written("parametric_map", study, painted.settings(), folder="fine")
    assert (fine.Rows, fine.Columns) == image.shape
    assert fine.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient == [0, 0, 0]
