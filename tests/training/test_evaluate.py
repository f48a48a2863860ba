"""The figures of the model card are of what the package does: its masks, its ratio, its statement of the error."""

import re

import numpy as np
import pytest
from PIL import Image

import cxr_dicom
from cxr_dicom import synthetic
from cxr_dicom.infer.models.offline_anatomy import MODELS, OfflineAnatomy
from cxr_dicom.ingest.wrap import wrap
from tests import ROOT
from training.evaluate import SETTINGS, masks_of
from training.measures import cardiothoracic_ratio
from training.shape import ORGANS

CARD = (ROOT / "docs" / "models" / "offline-anatomy.md").read_text(encoding="utf-8")


def test_what_is_measured_for_the_card_is_what_the_package_gives(tmp_path):
    """Once the card's masks were made at 192 pixels and the package's at 256: two biases of one ratio."""
    pixels = synthetic.radiograph(seed=3).pixel_array
    path = tmp_path / "radiograph.png"
    Image.fromarray((pixels / pixels.max() * 255).astype(np.uint8)).resize((300, 300)).save(path)
    masks = masks_of(OfflineAnatomy(SETTINGS, "cpu"), path)
    found = cxr_dicom.analyse(wrap(path), models="offline-anatomy")
    for organ, mask in zip(ORGANS, masks, strict=True):
        assert mask.any()
        np.testing.assert_array_equal(mask, found.masks[organ])
    assert cardiothoracic_ratio(masks) == found.measurements["cardiothoracic_ratio"].value


@pytest.mark.parametrize(
    ("row", "figure"),
    [
        ("cardiothoracic ratio, mean difference from the outlines", "bias"),
        ("the same, standard deviation of the difference", "spread"),
        ("the same, root mean square: the error within which the ratio is not called", "root_mean_square"),
        ("cardiothoracic ratio, bias", "bias"),
    ],
)
def test_the_model_states_the_error_that_its_card_measured(row, figure):
    (stated,) = MODELS[0].errors
    said = re.search(rf"^\| {re.escape(row)} \| (-?[\d.]+)", CARD, re.MULTILINE)
    assert float(said[1]) == round(getattr(stated, figure), 3)
