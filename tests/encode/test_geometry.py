"""The synthetic plane, and where maps lie on it."""

import numpy as np
import pytest

from cxr_dicom import synthetic
from tests import painted


def test_the_plane_begins_at_the_origin_with_the_spacing_of_the_source(selected, written):
    image = selected(synthetic.radiograph(96, 80, PixelSpacing=[0.5, 0.25], ImagerPixelSpacing=[0.5, 0.25]))
    for kind in ("seg", "parametric_map"):
        (dataset,) = written(kind, painted.study(painted.analysis(image)), painted.settings())
        shared, first = dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence[0]
        assert shared.PixelMeasuresSequence[0].PixelSpacing == [0.5, 0.25]
        assert first.PlanePositionSequence[0].ImagePositionPatient == [0, 0, 0]


@pytest.mark.parametrize("planar", ["viewer", "picture"])
def test_viewer_and_strict(image, written, planar):
    study = painted.study(painted.analysis(image))
    for segmentation in ("binary", "labelmap"):
        for dataset in written("seg", study, painted.settings(segmentation=segmentation, geometry=planar)):
            shared, first = dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence[0]
            assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]
            assert first.PlanePositionSequence[0].ImagePositionPatient == [0, 0, 0]
            assert "SliceThickness" in shared.PixelMeasuresSequence[0]
        for dataset in written("seg", study, painted.settings(segmentation=segmentation, geometry="strict")):
            shared, first = dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence[0]
            assert "FrameOfReferenceUID" not in dataset
            assert not {"PlaneOrientationSequence", "PixelMeasuresSequence"} & set(shared.dir())
            assert "PlanePositionSequence" not in first
            assert dataset.PatientOrientation == ["L", "F"]


def test_objects_about_one_image_share_a_frame_of_reference(image, written):
    study = painted.study(painted.analysis(image))
    datasets = [*written("seg", study, painted.settings()), *written("parametric_map", study, painted.settings())]
    assert len(datasets) == 2
    assert len({dataset.FrameOfReferenceUID for dataset in datasets}) == 1


@pytest.mark.parametrize("spacing", [None, [0.0, 0.0]])
def test_without_spacing_a_pixel_is_a_millimetre_and_the_object_says_so(selected, written, spacing):
    image = selected(synthetic.radiograph(96, 80, PixelSpacing=spacing, ImagerPixelSpacing=None))
    (dataset,) = written("seg", painted.study(painted.analysis(image)), painted.settings())
    assert dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing == [1, 1]
    assert "not known" in dataset.ContributingEquipmentSequence[-1].ContributionDescription


@pytest.mark.parametrize("geometry", ["viewer", "strict"])
def test_maps_have_the_matrix_of_the_source(image, written, geometry):
    study = painted.study(painted.analysis(image))
    (dataset,) = written("parametric_map", study, painted.settings(geometry=geometry))
    assert (dataset.Rows, dataset.Columns) == image.shape
    assert dataset.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient == [0, 0, 0]


def test_maps_meet_the_samples_and_are_zero_outside_of_their_grid(image, written):
    analysis = painted.analysis(image)
    (dataset,) = written("parametric_map", painted.study(analysis), painted.settings())
    values = np.frombuffer(dataset.FloatPixelData, "<f4").reshape(image.shape)
    rows = [round(8 + (i + 0.5) * 16 - 0.5) for i in range(5)]
    columns = [round(4 + (j + 0.5) * 18 - 0.5) for j in range(4)]
    assert np.allclose(values[np.ix_(rows, columns)], analysis.predictions[1].heatmaps[0].values, atol=0.02)
    assert not values[:7].any()
    assert not values[:, :3].any()
    assert values[-9:-8, 40].all()
    assert not values[-7:].any()
