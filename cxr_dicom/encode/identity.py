"""Who is who: UIDs that follow from content, so that equal results are equal data sets anywhere.

A UID is ``2.25.`` and a version 5 UUID (PS3.5 B.2) of what the thing is. Series depend on study,
source image, model and kind; SOP Instance UIDs also on everything that was predicted, the
settings, the copied header and the version of this package. So a report can cite a segmentation
that it does not hold. No time of day enters.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

from cxr_dicom import __version__
from cxr_dicom.config import Settings
from cxr_dicom.encode.source import copied_digest
from cxr_dicom.records import ChestImage, ImageAnalysis, ModelInfo, ObjectKind, Prediction, StudyAnalysis

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "cxr-dicom")
_digests: WeakKeyDictionary[Prediction, str] = WeakKeyDictionary()
_sources: WeakKeyDictionary[ImageAnalysis, tuple[object, ...]] = WeakKeyDictionary()


class Identity(NamedTuple):
    """The UIDs of one object."""

    series_instance_uid: str
    sop_instance_uid: str


class Reference(NamedTuple):
    """One object, as another one cites it."""

    sop_class_uid: str
    identity: Identity


def derived_uid(*parts: object) -> str:
    """Return the UID of what ``parts`` name; equal parts give the same UID on every machine."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, repr(parts)).int}"


def image_identity(
    kind: str,
    analysis: ImageAnalysis,
    predictions: Iterable[Prediction],
    settings: Settings,
    variant: str = "",
    content: str = "",
) -> Identity:
    """Identify an object of ``kind`` about one image.

    Parameters
    ----------
    predictions
        All that the object is made from.
    variant
        Distinguishes objects of one kind, image and model.
    content
        Names what the object says beside the predictions.
    """
    instance, predictions = analysis.image.instance, tuple(predictions)
    series = _series_uid(instance.study_instance_uid, instance.sop_instance_uid, predictions, kind, variant)
    return Identity(series, _instance_uid(series, [analysis], predictions, settings, content))


def study_identity(kind: str, analyses: Iterable[ImageAnalysis], settings: Settings, content: str = "") -> Identity:
    """Identify an object of ``kind`` about a whole study; ``content`` names what no prediction holds."""
    analyses = tuple(analyses)
    predictions = tuple(prediction for analysis in analyses for prediction in analysis.predictions)
    series = _series_uid(analyses[0].image.instance.study_instance_uid, "study", predictions, kind)
    return Identity(series, _instance_uid(series, analyses, predictions, settings, content))


def part_identity(study: StudyAnalysis, number: int, analyses: Iterable[ImageAnalysis], settings: Settings) -> Identity:
    """Identify the findings report ``number`` of a study, from 2: what has no room in the first."""
    analyses = tuple(analyses)
    predictions = [prediction for analysis in analyses for prediction in analysis.predictions]
    series = series_of_part(study, number)
    content = repr([study.images.index(analysis) for analysis in analyses])
    return Identity(series, _instance_uid(series, analyses, predictions, settings, content))


def series_of_part(study: StudyAnalysis, number: int) -> str:
    """Return the series of findings report ``number`` of a study, whatever the models are."""
    return _series_uid(study.study_instance_uid, "study", (), ObjectKind.FINDINGS_REPORT, f"part {number}")


def frame_of_reference_uid(image: ChestImage) -> str:
    """Return the synthetic Frame of Reference of an image, the same in all objects about it."""
    return derived_uid("frame of reference", image.instance.sop_instance_uid)


def tracking_uid(image: ChestImage, model: ModelInfo, name: str) -> str:
    """Return what tracks one structure, measurement or finding of one image across objects."""
    return derived_uid("tracking", image.instance.sop_instance_uid, model.name, name)


def device_uid(models: Iterable[ModelInfo]) -> str:
    """Return the Device UID of the networks that made an object: other weights are another device."""
    return derived_uid("device", *((model.name, model.version, model.weights_sha256) for model in models))


def digest(prediction: Prediction) -> str:
    """SHA-256 of everything a model said of one image, and of the model itself."""
    if prediction not in _digests:
        _digests[prediction] = _digest(prediction)
    return _digests[prediction]


def _series_uid(
    study_instance_uid: str, about: str, predictions: Sequence[Prediction], kind: str, variant: str = ""
) -> str:
    models = tuple(dict.fromkeys(prediction.model.name for prediction in predictions))
    return derived_uid("series", study_instance_uid, about, models, str(kind), variant)


def _instance_uid(
    series: str,
    analyses: Sequence[ImageAnalysis],
    predictions: Sequence[Prediction],
    settings: Settings,
    content: str = "",
) -> str:
    sources = [_source(analysis) for analysis in analyses]
    contents = [digest(prediction) for prediction in predictions]
    return derived_uid("instance", series, sources, contents, content, settings.digest, __version__)


def _source(analysis: ImageAnalysis) -> tuple[object, ...]:
    """What objects about an image take from it."""
    if analysis not in _sources:
        image = analysis.image
        _sources[analysis] = (analysis.pixel_sha256, image.spacing, copied_digest(image.header))
    return _sources[analysis]


def _digest(prediction: Prediction) -> str:
    total = hashlib.sha256(repr(prediction.model).encode())
    total.update(_spelled((prediction.findings, prediction.measurements, prediction.statements)).encode())
    if prediction.detections:
        total.update(repr(prediction.detections).encode())
    for mask in prediction.masks:
        total.update(repr((mask.structure, mask.region.shape, mask.region.box)).encode())
        total.update(mask.region.pixels.tobytes())
    for heatmap in prediction.heatmaps:
        total.update(repr((heatmap.name, heatmap.title, heatmap.quantity, heatmap.definition, heatmap.grid)).encode())
        total.update(heatmap.values.astype("<f4").tobytes())
    return total.hexdigest()


def _spelled(records: object) -> str:
    """Return the text of records as version 0.1 wrote it: UIDs outlive a new name, and a field that says nothing."""
    return repr(records).replace("<Presence.", "<Call.").replace(", site_point=None", "")
