"""The gate between inference and results: a frontal chest, the way round that its header declares, or not.

A picture that is plausible as declared costs one run of a very small network more. Only where it is
not are the fifteen other ways asked, by the same network, and the likeliest is confirmed by the
anatomy on the picture turned so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cxr_dicom.config import SelectSettings
from cxr_dicom.errors import ImageError
from cxr_dicom.gate.content import doubt, lateral_by_content, likeliest, looked
from cxr_dicom.infer.base import Model
from cxr_dicom.infer.offline import frontal
from cxr_dicom.measure import withheld
from cxr_dicom.records import AS_DECLARED, WAYS, Content, Prediction, Radiograph, Reason, Way
from cxr_dicom.records.plane import Orientation

MIRRORED = Way(turn=Orientation(flip_columns=True))
_BOTH_SIDES = (AS_DECLARED, MIRRORED)  # a chest is one, wherever its heart lies

Predict = Callable[[Radiograph], tuple[Prediction, ...]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Passed:
    """An image that is analysed, as it was taken in the end."""

    radiograph: Radiograph
    predictions: tuple[Prediction, ...]
    content: Content | None  # None where no model looked for both lungs

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know of the content."""
        return (self.content.sentence,) if self.content and self.content.sentence else ()


def admit(radiograph: Radiograph, models: Sequence[Model], predict: Predict, settings: SelectSettings) -> Passed:
    """Predict on an image, and judge its content by what was found.

    Parameters
    ----------
    models
        Those of the job; one that outlines both lungs confirms another way round.
    predict
        Runs all of them on a radiograph, and measures.

    Raises
    ------
    ImageError
        ``NOT_FRONTAL``, ``NOT_A_CHEST_CONTENT`` or ``WRONG_WAY_ROUND``, as the settings say.
    """
    predictions = predict(radiograph)
    if problem := lateral_by_content(radiograph.image, predictions):
        raise ImageError(Reason.NOT_FRONTAL, problem)
    if not looked(predictions):
        return Passed(radiograph=radiograph, predictions=predictions, content=None)
    content = judge(radiograph, predictions, models)
    if content.way.words and settings.orientation_by_content == "skip":
        raise ImageError(
            Reason.WRONG_WAY_ROUND, f"expected a frontal chest as the header declares it, {content.sentence}"
        )
    if content.way != AS_DECLARED and settings.orientation_by_content == "correct":
        upright = corrected(radiograph, content.way)
        if upright is not radiograph:
            radiograph, predictions = upright, predict(upright)
            content = replace(content, corrected=True)
    if content.doubt and settings.no_lungs == "skip":
        raise ImageError(Reason.NOT_A_CHEST_CONTENT, content.doubt)
    if not content.passed:
        unknown = not content.is_familiar
        predictions = tuple(withheld(each, content.sentence, findings=unknown) for each in predictions)
    return Passed(radiograph=radiograph, predictions=predictions, content=content)


def judge(radiograph: Radiograph, predictions: Sequence[Prediction], models: Sequence[Model]) -> Content:
    """Say whether the picture is a plausible frontal chest as declared, else in which other way it is one."""
    seen = frontal.scores(radiograph, _BOTH_SIDES)
    doubted = doubt(radiograph.image, predictions, max(seen.values()))
    if not doubted and seen[AS_DECLARED] >= seen[MIRRORED]:
        return Content()
    way = likeliest(frontal.scores(radiograph, WAYS))
    if way is not None and _confirmed(radiograph, way, models):
        return Content(way=way)
    return Content(doubt=doubted)


def _confirmed(radiograph: Radiograph, way: Way, models: Sequence[Model]) -> bool:
    """Whether a model finds plausible anatomy on the picture when it is brought upright."""
    turned = taken(radiograph, way)
    for model in models:
        if {"right_lung", "left_lung"} <= set(model.info.predicts):
            seen = max(frontal.scores(turned, _BOTH_SIDES).values())
            return not doubt(turned.image, [model.predict(turned, ())], seen)
    return False


def corrected(radiograph: Radiograph, way: Way) -> Radiograph:
    """Bring a picture upright and its grey values back; right and left stay: situs inversus exists."""
    return taken(radiograph, Way(turn=way.rotation, inverted=way.inverted))


def taken(radiograph: Radiograph, way: Way) -> Radiograph:
    """Take the picture to be stored in a way, whatever its header says."""
    if way == AS_DECLARED:
        return radiograph
    image = replace(radiograph.image, orientation=radiograph.image.orientation.then(way.turn))
    pixels = np.ascontiguousarray(way.turn.to_standard(radiograph.pixels))
    window = radiograph.window
    if way.inverted:
        pixels = -pixels
        window = (-window[0][::-1], 1 - window[1][::-1]) if window else None
    return replace(radiograph, image=image, pixels=pixels, window=window)
