"""What the pixels say against an image that its header let through: a lateral view, or no lungs."""

from __future__ import annotations

from collections.abc import Iterable

from cxr_dicom.records import ChestImage, Prediction

PLAUSIBLE_LUNG_FRACTION = (0.01, 0.5)  # of the image, for each lung


def lateral_by_content(image: ChestImage, predictions: Iterable[Prediction]) -> str:
    """Say which model sees a lateral view on an image that does not state its view; empty when none does."""
    if image.view:
        return ""
    for prediction in predictions:
        for measurement in prediction.measurements:
            if measurement.name == "view_lateral" and (measurement.value or 0.0) > 0.5:
                return f"expected a frontal view, model {prediction.model.name} sees a lateral one"
    return ""


def implausible_lungs(image: ChestImage, predictions: Iterable[Prediction]) -> str:
    """Say why no model found plausible lungs on the image; empty when one did, or none looked."""
    looked = [p for p in predictions if {"right_lung", "left_lung"} <= set(p.model.predicts)]
    problems = [_implausible(image, prediction) for prediction in looked]
    return problems[0] if problems and all(problems) else ""


def _implausible(image: ChestImage, prediction: Prediction) -> str:
    pixels = image.shape[0] * image.shape[1]
    low, high = PLAUSIBLE_LUNG_FRACTION
    for name in ("right_lung", "left_lung"):
        mask = prediction.mask(name)
        fraction = mask.region.area / pixels if mask else 0.0
        if not low <= fraction <= high:
            side = name.replace("_", " ")
            return f"{side} covers {fraction:.1%} of the image, expected {low:.0%} to {high:.0%}"
    return ""
