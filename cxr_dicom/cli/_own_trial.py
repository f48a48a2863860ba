"""A network of the user's on one radiograph: what it gives, a picture of that, and whether it looks like a result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cxr_dicom import pictures
    from cxr_dicom.config import Settings
    from cxr_dicom.records import Prediction, Radiograph

_DEMO = "RG1_UNCR.dcm"  # of the package pydicom-data
_FIRST = 8  # results that are printed
_SAME = 1e-6  # scores closer than this are one
_ALL = 0.99  # of the image: more is all of it


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """What came of it."""

    radiograph: str  # file name
    lines: tuple[str, ...]  # the first few results
    doubts: tuple[str, ...]  # what does not look like a result


def tried(settings: Settings, source: Path | None, picture: Path) -> Trial:
    """Run the only model of the settings on a radiograph, and on a black square.

    Parameters
    ----------
    source
        A radiograph; None: that of the demo, or a synthetic one where it is not installed.
    picture
        Where to write what it found, PNG.

    Raises
    ------
    CxrDicomError
        If the network fails, or gives what its table does not say.
    """
    import numpy as np

    from cxr_dicom.export.pictures import write_png
    from cxr_dicom.infer import build_models

    (model,) = build_models(settings)
    try:
        radiograph, name = _radiograph(settings, source)
        found = model.predict(radiograph, ())
        black = replace(radiograph, pixels=np.full_like(radiograph.pixels, radiograph.pixels.min()))
        is_detector = any(own.output.kind == "boxes" for own in settings.models.own if own.name == model.info.name)
        doubts = [*_doubts(found, radiograph, is_detector=is_detector), *_blindness(found, model.predict(black, ()))]
    finally:
        model.close()
    write_png(picture, _drawn(found, radiograph))
    return Trial(radiograph=name, lines=tuple(_lines(found, radiograph))[:_FIRST], doubts=tuple(doubts))


def _radiograph(settings: Settings, source: Path | None) -> tuple[Radiograph, str]:
    import tempfile

    from pydicom.data import get_testdata_file

    from cxr_dicom import synthetic
    from cxr_dicom.dicom.pixels import read
    from cxr_dicom.errors import SettingsError
    from cxr_dicom.ingest.folder import scan
    from cxr_dicom.select import select

    with tempfile.TemporaryDirectory() as folder:
        demo = source or get_testdata_file(_DEMO, download=False)
        path = Path(str(demo)) if demo else Path(folder) / "synthetic.dcm"
        if not demo:
            synthetic.radiograph(1024, 1024).save_as(path, enforce_file_format=True)
        studies, _ = scan([path])
        selections = [select(study, settings.select) for study in studies]
        image = next((image for selection in selections for image in selection.images), None)
        if image is None:
            raise SettingsError(f"{path}: expected a chest radiograph, found none")
        return read(image, settings.pixels), path.name


def _share(prediction: Prediction, radiograph: Radiograph) -> dict[str, float]:
    """How much of the image each structure is, 0 to 1."""
    return {mask.structure.name: mask.region.area / radiograph.pixels.size for mask in prediction.masks}


def _lines(prediction: Prediction, radiograph: Radiograph) -> Iterator[str]:
    for found in prediction.detections:
        sides = ", ".join(f"{side:.0f}" for side in found.box)
        yield f"{found.key}: {found.score:.4f}; left, top, right, bottom: {sides}"
    yield from (f"{finding.name}: {finding.raw:.4f}, {finding.call}" for finding in prediction.findings)
    if (vector := prediction.embedding) is not None:
        yield f"{len(vector)} numbers, {vector.min():.4g} to {vector.max():.4g}"
    yield from (f"{name}: {share:.1%} of the image" for name, share in _share(prediction, radiograph).items())
    for measurement in prediction.measurements:
        yield f"{measurement.name}: {measurement.value:.6g} {measurement.unit.value}".removesuffix(" 1")
    if not prediction.findings:
        yield from (f"{each.name}: {each.values.min():.4f} to {each.values.max():.4f}" for each in prediction.heatmaps)


def _doubts(prediction: Prediction, radiograph: Radiograph, *, is_detector: bool) -> Iterator[str]:
    scores = [finding.raw for finding in prediction.findings]
    if len(scores) > 1 and not is_detector and max(scores) - min(scores) < _SAME:
        yield f"all {len(scores)} scores are {scores[0]:.4f}"
    if is_detector and not prediction.detections:
        yield "no box at all: another range of its input, or a threshold that none reaches"
    elif scores and all(score < _SAME or score > 1 - _SAME for score in scores):
        yield "every score is 0 or 1: the range of its input may be another, or the activation be there already"
    if scores and all(abs(score - 0.5) < 0.02 for score in scores):
        yield "every score is near 0.5: weights that were not trained, or another range of its input"
    shares = _share(prediction, radiograph)
    if not (scores or prediction.measurements or prediction.heatmaps or shares or prediction.embedding is not None):
        yield "all masks are empty: another range of its input, or other labels"
    yield from (f"{name} is the whole image" for name, share in shares.items() if share > _ALL)
    for heatmap in prediction.heatmaps:
        if not prediction.findings and heatmap.values.max() - heatmap.values.min() < _SAME:
            yield f"the map {heatmap.name} is {heatmap.values.max():.4f} everywhere"


def _blindness(found: Prediction, black: Prediction) -> Iterator[str]:
    """Whether it says of a black picture what it says of a radiograph."""
    numbers = [
        [
            *(each.raw for each in said.findings),
            *(each.value or 0 for each in said.measurements),
            *(() if said.embedding is None else said.embedding.tolist()),
        ]
        for said in (found, black)
    ]
    pairs = list(zip(*numbers, strict=True))
    if pairs and all(abs(one - other) < _SAME for one, other in pairs):
        yield "it says the same of a black picture: it does not see what it is shown"


def _drawn(found: Prediction, radiograph: Radiograph) -> pictures.Colour | pictures.Grey:
    from cxr_dicom import pictures

    orientation = radiograph.image.orientation
    preview = pictures.preview(orientation.to_source(radiograph.pixels))
    drawn: pictures.Colour | pictures.Grey = preview
    if found.masks:
        drawn = pictures.overlay(preview, found.masks)
    elif found.heatmaps:
        drawn = pictures.heat(preview, found.heatmaps[0], radiograph.image.shape)
    if found.detections:
        drawn = pictures.framed(drawn, ((each.box, each.label) for each in found.detections), radiograph.image.shape)
    return pictures.hung(drawn, orientation)
