"""Predictions painted by hand: every pixel and number in them is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from cxr_dicom.config import EncodeSettings, Settings
from cxr_dicom.dicom import codes
from cxr_dicom.measure import measure
from cxr_dicom.records import (
    Code,
    Detection,
    Finding,
    Heatmap,
    ImageAnalysis,
    Mask,
    Measurement,
    ModelInfo,
    Prediction,
    Presence,
    Reason,
    Skipped,
    StoredInstance,
    Structure,
    StudyAnalysis,
)
from cxr_dicom.records.plane import Grid, Region

ALL_OBJECTS = ("seg", "sr", "parametric-map", "secondary-capture", "presentation-state", "key-objects")


def settings(**encode):
    return Settings(encode=EncodeSettings(**{"objects": ALL_OBJECTS, **encode}))


def model(name):
    return ModelInfo(
        name=name,
        version="1",
        title=f"The model {name}",
        predicts=(),
        input_size=None,
        manufacturer="Nobody",
        licence="Apache-2.0",
        citation="Ünwritten",
        weights_sha256=f"{len(name):02x}" * 32,
    )


def structure(name, kind=codes.LUNG, laterality=None, colour=(200, 80, 40)):
    return Structure(
        name=name,
        title=name.replace("_", " ").capitalize(),
        category=codes.ORGAN,
        type=kind,
        laterality=laterality,
        colour=colour,
    )


def region(shape, top, left, bottom, right):
    """An ellipse in the box given as fractions of the matrix."""
    rows, columns = shape
    y, x = np.mgrid[:rows, :columns]
    y, x = (y + 0.5) / rows, (x + 0.5) / columns
    inside = (2 * (y - top) / (bottom - top) - 1) ** 2 + (2 * (x - left) / (right - left) - 1) ** 2 < 1
    return Region.from_matrix(inside)


def anatomy(image, apart=False, beside=0, **changes):
    """Two lungs, a heart that overlaps the left one unless it is ``apart``, and a structure that was not found.

    ``beside`` is how many ribs lie below, where they overlap nothing.
    """
    heart = (0.85, 0.35, 1.0, 0.7) if apart else (0.4, 0.35, 0.75, 0.7)
    ribs = (
        Mask(
            structure=structure(f"rib_{number}", codes.THORAX),
            region=region(image.shape, 0.85, number / (beside + 1) - 0.05, 1.0, number / (beside + 1) + 0.05),
        )
        for number in range(1, beside + 1)
    )
    masks = (
        Mask(
            structure=structure("right_lung", laterality=codes.RIGHT), region=region(image.shape, 0.1, 0.1, 0.8, 0.45)
        ),
        Mask(structure=structure("left_lung", laterality=codes.LEFT), region=region(image.shape, 0.1, 0.55, 0.8, 0.9)),
        Mask(structure=structure("heart", codes.HEART), region=region(image.shape, *heart)),
        Mask(structure=structure("spine", codes.SPINE), region=Region.from_matrix(np.zeros(image.shape, bool))),
        *ribs,
    )
    return measure(image, Prediction(model=model("painted-anatomy"), **{"masks": masks, **changes}))


def finding(name, call, raw=0.25):
    code = Code(value="60046008", scheme="SCT", meaning="Pleural effusion")
    point = None if call is Presence.INDETERMINATE else 0.2
    return Finding(name=name, code=code, site=codes.LUNG, raw=raw, probability=0.5625, operating_point=point, call=call)


def heatmap(image):
    """A coarse grid over the inner part of the matrix, as a network with a crop gives."""
    rows, columns = image.shape
    return Heatmap(
        name="pleural_effusion",
        title="Pleural effusion",
        quantity=Code(value="130402", scheme="DCM", meaning="Class activation"),
        definition="Class activation map, 0 none, 1 the greatest of this image.",
        values=np.linspace(0, 1, 20, dtype=np.float32).reshape(5, 4),
        grid=Grid(shape=(5, 4), origin=(8.0, 4.0), step=((rows - 16) / 5, (columns - 8) / 4)),
    )


def scores(image, measured=("opacity",)):
    """Findings of each call, one heatmap, and numbers without coordinates, one of which failed."""
    opacity = codes.private("OPACITY", "Relative opacity")
    return Prediction(
        model=model("painted-scores"),
        findings=(
            finding("pleural_effusion", Presence.PRESENT),
            finding("pneumothorax", Presence.ABSENT, raw=0.1),
            finding("mass", Presence.INDETERMINATE),
        ),
        heatmaps=(heatmap(image),),
        measurements=(
            *(
                Measurement(name=name, code=opacity, value=1.25, unit=codes.RATIO, site=codes.LUNG, method="Mean.")
                for name in measured
            ),
            Measurement(name="failed", code=opacity, value=None, unit=codes.RATIO, reason="no lungs outlined"),
        ),
        warnings=("low dynamic range",),
    )


def boxes(image):
    """Three boxes of two findings, as a detector gives them."""
    rows, columns = image.shape
    nodule = Code(value="27925004", scheme="SCT", meaning="Nodule")
    own = Code(value="SHADOW", scheme="99CXRSITE", meaning="Shadow")
    places = {
        ("nodule", 1): (0.1, 0.2, 0.5, 0.4),
        ("shadow", 1): (0.0, 0.0, 1.0, 1.0),
        ("nodule", 2): (0.6, 0.5, 0.9, 0.8),
    }
    detections = (
        Detection(
            name=name,
            number=number,
            title=name.capitalize(),
            code=nodule if name == "nodule" else own,
            site=codes.LUNG if name == "nodule" else None,
            score=0.875 - 0.25 * place,
            box=(round(left * columns, 2), round(top * rows, 2), round(right * columns, 2), round(bottom * rows, 2)),
        )
        for place, ((name, number), (left, top, right, bottom)) in enumerate(places.items())
    )
    info = replace(model("painted-boxes"), predicts=("nodule", "shadow"))
    return Prediction(model=info, detections=tuple(detections))


def analysis(image, predictions=None):
    """What a pipeline would say of ``image``."""
    preview = np.linspace(0, 255, 80 * 64).astype(np.uint8).reshape(80, 64)
    predictions = (anatomy(image), scores(image)) if predictions is None else predictions
    return ImageAnalysis(image=image, pixel_sha256="0" * 64, predictions=predictions, preview=lambda *_: preview)


def study(*analyses, skipped=(), earlier=()):
    uid = analyses[0].image.instance.study_instance_uid
    return StudyAnalysis(study_instance_uid=uid, images=analyses, skipped=tuple(skipped), earlier=tuple(earlier))


def skip(instance, reason=Reason.NOT_FRONTAL, detail="View Position LL"):
    return Skipped(path=instance.path, reason=reason, detail=detail, instance=instance)


def lateral(image):
    """Another image of the same study and series, as selection refuses it."""
    source = image.instance
    return StoredInstance(
        path=Path("lateral"),
        study_instance_uid=source.study_instance_uid,
        series_instance_uid=source.series_instance_uid,
        sop_instance_uid=f"{source.sop_instance_uid[:-2]}99",
        sop_class_uid=source.sop_class_uid,
    )
