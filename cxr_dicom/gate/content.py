"""What the pixels say against an image that its header let through: a lateral view, or no frontal chest.

No single number decides. The outlines of lungs and heart must lie as those of a frontal chest do
(rules on shape and place, which hold for every model; for the model that it was made for, the
distance from the shapes of many chests), their model must be certain of them, and a small network
that sees the whole picture must not disagree. One witness alone refuses only what is far outside of
all chests that were measured; two refuse together. The figures: ``docs/models/content.md``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from cxr_dicom.gate import shape
from cxr_dicom.records import AS_DECLARED, ChestImage, Mask, Prediction, Way
from cxr_dicom.records.plane import Region

PLAUSIBLE_LUNG_FRACTION = (0.01, 0.5)  # of the image, for each lung
LUNGS = ("right_lung", "left_lung")

# Limits: beyond the first a witness is odd, beyond the second impossible.
_DISTANCE = (28.0, 80.0)  # squared, from the shapes of chests
_UNDECIDED = (0.8, 1.6)  # pixels of the network between 0.1 and 0.9, for each that is outlined
_SEEN = (-0.5, 1.5)  # logit that the whole picture is something else
_PLACES = {  # the middle of each number, and how far from it is odd and impossible; for every model's outlines
    "gap": (0.22, (0.30, 0.45)),
    "overlap": (1.0, (0.30, 0.5)),
    "height_ratio": (0.0, (0.7, 1.2)),
    "area_ratio": (0.1, (1.2, 2.2)),
    "heart_across": (0.05, (0.18, 0.4)),
    "heart_down": (0.65, (0.3, 0.6)),
}
_MANY_RULES = 3
_LIKELY = 1.0  # logit from which another way round is named
_LIKELIER = 1.0  # than any other
_MIRRORED = 3.0  # likelier than with the sides as they are


def lateral_by_content(image: ChestImage, predictions: Iterable[Prediction]) -> str:
    """Say which model sees a lateral view on an image that does not state its view; empty when none does."""
    if image.view:
        return ""
    for prediction in predictions:
        for measurement in prediction.measurements:
            if measurement.name == "view_lateral" and (measurement.value or 0.0) > 0.5:
                return f"expected a frontal view, model {prediction.model.name} sees a lateral one"
    return ""


def looked(predictions: Iterable[Prediction]) -> list[Prediction]:
    """Return the predictions of models that look for both lungs."""
    return [prediction for prediction in predictions if set(LUNGS) <= set(prediction.model.predicts)]


def doubt(image: ChestImage, predictions: Iterable[Prediction], seen: float) -> str:
    """Say why the image is no plausible frontal chest; empty when one model found one, or none looked.

    Parameters
    ----------
    image
        As it was taken: its orientation says where the head is.
    predictions
        Of all models.
    seen
        Logit of the network that sees the whole picture, that it is a frontal chest as it was taken.
    """
    doubts = [_doubt(image, prediction, seen) for prediction in looked(predictions)]
    return doubts[0] if doubts and all(doubts) else ""


def likeliest(scores: Mapping[Way, float]) -> Way | None:
    """Return the way round in which a picture is seen; None when none is clear, or it is as declared.

    First comes where the head is and whether dense is dark, which two ways share that mirror each other;
    then, and only where it is clear, which of the two. A turned chest is named although nobody could
    tell its sides.
    """
    pairs: dict[Way, list[Way]] = {}
    for way in scores:
        pairs.setdefault(replace(way, turn=way.rotation), []).append(way)
    best, *others = sorted(pairs, key=lambda pair: -max(scores[way] for way in pairs[pair]))
    plain, mirrored = (
        next(way for way in pairs[best] if way.turn.is_mirror == is_mirror) for is_mirror in (False, True)
    )
    beaten = max(scores[way] for pair in others for way in pairs[pair])
    top = max(scores[plain], scores[mirrored])
    if top < _LIKELY or top < beaten + _LIKELIER:
        return None
    way = mirrored if scores[mirrored] > scores[plain] + _MIRRORED else plain
    return None if way == AS_DECLARED else way


def _doubt(image: ChestImage, prediction: Prediction, seen: float) -> str:
    if problem := _lung_sizes(image, prediction):
        return problem
    witnesses = list(_witnesses(image, prediction, seen))
    refused = any(witness.level > 1 for witness in witnesses) or sum(witness.level for witness in witnesses) > 1
    if not refused:
        return ""
    return "expected a frontal chest, but " + "; ".join(witness.text for witness in witnesses if witness.level)


def _lung_sizes(image: ChestImage, prediction: Prediction) -> str:
    pixels = image.shape[0] * image.shape[1]
    low, high = PLAUSIBLE_LUNG_FRACTION
    for name in LUNGS:
        mask = prediction.mask(name)
        fraction = mask.region.area / pixels if mask else 0.0
        if not low <= fraction <= high:
            side = name.replace("_", " ")
            return f"{side} covers {fraction:.1%} of the image, expected {low:.0%} to {high:.0%}"
    return ""


class _Witness(NamedTuple):
    text: str
    level: int  # 0: nothing to say, 1: odd, 2: impossible


def _witnesses(image: ChestImage, prediction: Prediction, seen: float) -> Iterator[_Witness]:
    right, left, heart = (_upright(image, prediction.mask(name)) for name in (*LUNGS, "heart"))
    found = shape.numbers(right, left, heart) if right and left else None
    if found is None:
        yield _Witness("the lungs share no row", 2)
    else:
        yield from _places(found)
        if prediction.model.name in shape.MODELS and heart:
            distance = shape.distance(found)
            yield _Witness(
                f"the outlines are no shape of a chest (distance {distance:.0f}, expected below {_DISTANCE[0]:.0f})",
                _level(distance, _DISTANCE),
            )
    if "heart" in prediction.model.predicts and not heart:
        yield _Witness("no heart was found", 1)
    if prediction.undecided is not None:
        yield _Witness(
            f"{prediction.model.name} is uncertain ({prediction.undecided:.1f} doubtful pixels for each outlined one)",
            _level(prediction.undecided, _UNDECIDED),
        )
    yield _Witness("the whole picture looks like something else", _level(-seen, _SEEN))


def _places(found: Mapping[str, float]) -> Iterator[_Witness]:
    """The rules on shape and place, which count once: for those of one model are not independent."""
    levels = {
        name: _level(abs(found[name] - middle), limits) for name, (middle, limits) in _PLACES.items() if name in found
    }
    broken = [name for name, level in levels.items() if level]
    if broken:
        many = len(broken) >= _MANY_RULES
        text = ", ".join(f"{name.replace('_', ' ')} {found[name]:.2f}" for name in broken)
        yield _Witness(f"lungs and heart lie wrong ({text})", 2 if many else max(levels.values()))


def _level(value: float, limits: tuple[float, float]) -> int:
    return sum(value > limit for limit in limits)


def _upright(image: ChestImage, mask: Mask | None) -> Region | None:
    return mask.region.to_standard(image.orientation) if mask and mask.region.area else None
