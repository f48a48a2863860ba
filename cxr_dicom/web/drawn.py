"""Pictures of an image, drawn again from its file and its objects: of many studies, `run` keeps small ones only."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread

from cxr_dicom.config import Settings
from cxr_dicom.dicom.pixels import read
from cxr_dicom.errors import ImageError
from cxr_dicom.ingest.folder import read_instance
from cxr_dicom.pictures import RGB, preview
from cxr_dicom.records import (
    ChestImage,
    Code,
    Heatmap,
    ImageAnalysis,
    Mask,
    Measurement,
    ModelInfo,
    ObjectKind,
    Prediction,
    Reason,
    Structure,
    Study,
)
from cxr_dicom.records.plane import Grid
from cxr_dicom.results import masks, report
from cxr_dicom.results.schema import Row
from cxr_dicom.select import select

_UNSAID = Code(value="", scheme="", meaning="")  # pictures need no codes
_WHITE: RGB = (255, 255, 255)  # of a segment that says no colour


def figures(source: Path, folder: Path, row: Row, settings: Settings) -> list[report.Figure]:
    """Draw the radiograph of a row, the anatomy of each model and the maps, as `report.figures` does.

    Parameters
    ----------
    source
        The file of the image.
    folder
        Where the objects of the row lie.

    Raises
    ------
    ImageError
        If ``source`` is not this image, or cannot be shown.
    OSError, ValueError, LookupError, AttributeError, TypeError
        If an object is not what this package writes.
    """
    instance = read_instance(source)
    if instance is None or instance.sop_instance_uid != row["sop_instance_uid"]:
        raise ImageError(Reason.UNREADABLE, "expected the image of this row, found another file")
    study = Study(study_instance_uid=instance.study_instance_uid, instances=(instance,))
    selection = select(study, settings.select)
    if not selection.images:
        raise ImageError(selection.skipped[0].reason, selection.skipped[0].detail)
    (image,) = selection.images
    radiograph = read(image, settings.pixels)
    pixels = image.orientation.to_source(radiograph.pixels)
    return report.figures(
        ImageAnalysis(
            image=image,
            pixel_sha256=radiograph.sha256,
            predictions=tuple(_predictions(folder, row, image)),
            preview=cache(partial(preview, pixels, window=radiograph.window)),
        )
    )


def _predictions(folder: Path, row: Row, image: ChestImage) -> Iterator[Prediction]:
    """Put together what pictures show of each model: masks, lines and maps."""
    outlined = [each for path in masks.files(folder, row) for each in _masks(path, image)]
    mapped = [
        _heatmap(dcmread(masks.inside(folder, made["path"])), image)
        for made in row["objects"]
        if made["kind"] == ObjectKind.PARAMETRIC_MAP
    ]
    for model in row["models"]:
        name = model["name"]
        yield Prediction(
            model=_info(name, model["version"]),
            masks=tuple(mask for of, mask in outlined if of == name),
            heatmaps=tuple(heatmap for of, heatmap in mapped if of == name),
            measurements=tuple(_measurements(row, name)),
        )


def _masks(path: Path, image: ChestImage) -> Iterator[tuple[str, Mask]]:
    """Yield the model and mask of each segment, with the name and colour that it has for people."""
    described = dcmread(path, specific_tags=["SegmentSequence"]).SegmentSequence
    segments = {(str(each.SegmentAlgorithmName), str(each.TrackingID)): each for each in described}
    for model, name, region in masks.of_file(path):
        if region.shape != image.shape:
            raise ImageError(Reason.INVALID_ATTRIBUTES, "expected a segmentation on the matrix of the image")
        segment = segments[model, name]
        structure = Structure(
            name=name,
            title=str(segment.SegmentLabel),
            category=_UNSAID,
            type=_UNSAID,
            laterality=None,
            colour=_colour(segment),
        )
        yield model, Mask(structure=structure, region=region)


def _colour(segment: Dataset) -> RGB:
    from highdicom.color import CIELabColor

    value = segment.get("RecommendedDisplayCIELabValue")
    if value is None or len(value) != 3:
        return _WHITE
    red, green, blue = CIELabColor.from_dicom_value(tuple(map(int, value))).to_rgb()
    return red, green, blue


def _heatmap(made: Dataset, image: ChestImage) -> tuple[str, Heatmap]:
    """Return the model of a parametric map, and the map on its own grid."""
    shape = int(made.Rows), int(made.Columns)
    values = np.frombuffer(made.FloatPixelData, "<f4").reshape(shape)
    (shared,) = made.SharedFunctionalGroupsSequence
    mapping = shared.RealWorldValueMappingSequence[0]
    heatmap = Heatmap(
        name=str(mapping.LUTLabel),
        title=str(made.ContentDescription),
        quantity=_UNSAID,
        definition=str(mapping.LUTExplanation),
        values=np.clip(np.nan_to_num(values), 0, 1),
        grid=Grid(shape=shape) if shape == image.shape else _grid(made, image, shape),
    )
    return str(made.SeriesDescription).rpartition(" ")[2], heatmap


def _grid(made: Dataset, image: ChestImage, shape: tuple[int, int]) -> Grid:
    """Read where a map lies that keeps the grid of its model; `encode.objects.parametric_map` puts it there."""
    (shared,), (frame,) = made.SharedFunctionalGroupsSequence, made.PerFrameFunctionalGroupsSequence
    spacing = [float(each) for each in shared.PixelMeasuresSequence[0].PixelSpacing]
    column, row, _ = (float(each) for each in frame.PlanePositionSequence[0].ImagePositionPatient)
    pixel = (image.spacing.rows_mm, image.spacing.columns_mm)
    step = spacing[0] / pixel[0], spacing[1] / pixel[1]
    origin = row / pixel[0] + 0.5 - step[0] / 2, column / pixel[1] + 0.5 - step[1] / 2
    return Grid(shape=shape, origin=origin, step=step)


def _measurements(row: Row, model: str) -> Iterator[Measurement]:
    for name, found in row["measurements"].items():
        if found["model"] == model:
            yield Measurement(
                name=name,
                code=Code(value="", scheme="", meaning=found["meaning"]),
                value=found["value"],
                unit=_UNSAID,
                points=tuple((float(column), float(line)) for column, line in found["points"]),
            )


def _info(name: str, version: str) -> ModelInfo:
    return ModelInfo(
        name=name,
        version=version,
        title="",
        predicts=(),
        input_size=None,
        manufacturer="",
        licence="",
        citation="",
    )
