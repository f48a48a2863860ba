"""Secondary captures and key object selections."""

from dataclasses import replace

import numpy as np

from cxr_dicom import synthetic
from cxr_dicom.records import Presence
from tests import painted


def test_one_picture_for_the_anatomy_and_one_per_heatmap(image, written):
    anatomy, heat = written("secondary_capture", painted.study(painted.analysis(image)), painted.settings())
    for dataset in (anatomy, heat):
        assert dataset.BurnedInAnnotation == "YES"
        assert dataset.pixel_array.shape[1:] == (64, 3)
        assert dataset.pixel_array.shape[0] > 80  # the legend stands below
        assert dataset.SourceImageSequence[0].ReferencedSOPInstanceUID == image.instance.sop_instance_uid
        assert "FrameOfReferenceUID" not in dataset


def test_pictures_are_coloured_where_the_structures_are(image, written):
    (dataset, _) = written("secondary_capture", painted.study(painted.analysis(image)), painted.settings())
    picture = dataset.pixel_array[:80].astype(int)
    saturation = picture.max(axis=2) - picture.min(axis=2)
    assert saturation[40, 14] > 10  # in the right lung
    assert saturation[75, 5] == 0  # beside it


def test_the_legend_is_burnt_in(selected, written):
    image = selected(synthetic.radiograph(96, 80))
    large = replace(painted.analysis(image), preview=lambda: np.zeros((600, 500), np.uint8))
    _, heat = written("secondary_capture", painted.study(large), painted.settings())
    legend = heat.pixel_array[600:]
    assert (legend > 150).all(axis=2).sum() > 200
    without = replace(painted.scores(image), findings=())
    _, other = written(
        "secondary_capture",
        painted.study(replace(large, predictions=(painted.anatomy(image), without))),
        painted.settings(),
    )
    assert not np.array_equal(other.pixel_array[600:], legend)  # no score, another text


def test_no_preview_no_picture(image, encoded):
    analysis = replace(painted.analysis(image), preview=None)
    assert not encoded("secondary_capture", painted.study(analysis), painted.settings())


def test_images_with_a_finding_called_present_are_flagged(selected, written):
    flagged, quiet = (selected(synthetic.radiograph(96, 80, seed=seed)) for seed in (0, 1))
    negative = replace(painted.scores(quiet), findings=(painted.finding("mass", Presence.ABSENT),))
    study = painted.study(painted.analysis(flagged), painted.analysis(quiet, (negative,)))
    (dataset,) = written("key_objects", study, painted.settings())
    cited = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in dataset.ContentSequence
        if item.ValueType == "IMAGE"
    ]
    assert cited == [flagged.instance.sop_instance_uid]
    texts = [item.TextValue for item in dataset.ContentSequence if item.ValueType == "TEXT"]
    assert any("pleural_effusion" in text and "Not for clinical use" in text for text in texts)


def test_no_selection_without_a_present_finding(image, encoded):
    assert not encoded(
        "key_objects", painted.study(painted.analysis(image, (painted.anatomy(image),))), painted.settings()
    )
