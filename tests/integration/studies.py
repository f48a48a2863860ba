"""The studies that viewers are shown: a real radiograph and a drawn one, with all objects about them."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cxr_dicom.config import ModelSettings, PixelSettings
from cxr_dicom.dicom.pixels import read
from cxr_dicom.encode import build_encoders
from cxr_dicom.encode.common import write
from cxr_dicom.ingest.folder import scan
from cxr_dicom.pictures import preview
from cxr_dicom.pipeline import Pipeline
from cxr_dicom.records import EncodedObject, ImageAnalysis, ObjectKind, StudyAnalysis
from cxr_dicom.select import select
from cxr_dicom.synthetic import radiograph, write_study
from tests import painted
from tests.integration.sources import with_pixel_spacing

_COLOURS = {"right_lung": (90, 155, 213), "left_lung": (112, 193, 119), "heart": (214, 73, 73)}


@dataclass(frozen=True)
class Shown:
    """The radiographs of a study, what is known of the frontal one, and the objects about it."""

    sources: tuple[Path, ...]
    analysis: ImageAnalysis
    objects: tuple[EncodedObject, ...]

    @property
    def study_instance_uid(self):
        return self.analysis.image.instance.study_instance_uid

    @property
    def masks(self):
        """Matrix of each structure that was found, by title."""
        return {
            mask.structure.title: mask.region.matrix()
            for prediction in self.analysis.predictions
            for mask in prediction.masks
            if mask.region.area
        }

    @property
    def measurements(self):
        """Every measurement with a line."""
        found = (m for prediction in self.analysis.predictions for m in prediction.measurements)
        return [measurement for measurement in found if len(measurement.points) == 2]

    @property
    def areas(self):
        """The area of every structure that has one."""
        found = (m for prediction in self.analysis.predictions for m in prediction.measurements)
        return [measurement for measurement in found if measurement.name.endswith("_area")]

    @property
    def heatmap(self):
        return next(heatmap for prediction in self.analysis.predictions for heatmap in prediction.heatmaps)

    def of_kind(self, kind):
        """Return the first object of a kind."""
        return next(each for each in self.objects if each.kind is ObjectKind(kind))


def real(source, folder, pixel_spacing=None):
    """Send a real radiograph through the whole pipeline, with the models that need no download.

    Parameters
    ----------
    pixel_spacing
        Given to a copy of the radiograph in a study of its own; None takes the file as it is.
    """
    if pixel_spacing:
        source = with_pixel_spacing(source, folder / "source", pixel_spacing)
    models = ModelSettings(names=("offline-anatomy", "lung-opacity"))
    pipeline = Pipeline(painted.settings().model_copy(update={"models": models}))
    (study,), _ = scan([source])
    (result,) = pipeline.process(study, folder / "objects").instances
    pipeline.close()
    return Shown((source,), result.analysis, result.objects)


def drawn(folder, beside=()):
    """Write a synthetic DX whose size allows BINARY, with predictions painted by hand.

    Parameters
    ----------
    beside
        Other images of the same series.
    """
    dataset = drawn_radiograph(640, 512, study=folder.name, InstanceNumber="2")
    sources = write_study(folder / "source", [dataset, *beside])
    (study,), _ = scan(sources)
    settings = painted.settings()
    (image,) = select(study, settings.select).images
    pixels = read(image, PixelSettings()).pixels
    analysis = replace(
        painted.analysis(image, (_coloured(painted.anatomy(image)), _with_one_spot(painted.scores(image)))),
        preview=lambda: preview(pixels),
    )
    whole = StudyAnalysis(study_instance_uid=study.study_instance_uid, images=(analysis,), skipped=())
    encoded = (each for encoder in build_encoders(settings) for each in encoder.encode(whole))
    return Shown(tuple(sources), analysis, tuple(write(each, folder / "objects") for each in encoded))


def with_lateral(folder):
    """Write the same beside a lateral view that comes first in the series, as in many real studies."""
    lateral = drawn_radiograph(
        560, 560, study=folder.name, InstanceNumber="1", ViewPosition="LL", PatientOrientation=["A", "F"]
    )
    return drawn(folder, beside=[lateral])


def drawn_radiograph(rows, columns, **attributes):
    """Return a DX that every viewer shows."""
    return radiograph(rows, columns, ViewCodeSequence=None, **attributes)


def spot(shape, heatmap):
    """Return, on the source matrix, the values of a heatmap with one sample of 1: a tent over it."""
    ((sample_row, sample_column),) = np.argwhere(heatmap.values == 1)
    rows, columns = (
        np.clip(1 - abs((np.arange(length) + 0.5 - origin) / step - 0.5 - sample), 0, 1)
        for length, origin, step, sample in zip(
            shape, heatmap.grid.origin, heatmap.grid.step, (sample_row, sample_column), strict=True
        )
    )
    return rows[:, None] * columns[None, :]


def _coloured(prediction):
    masks = tuple(
        replace(mask, structure=replace(mask.structure, colour=_COLOURS.get(mask.structure.name, (240, 215, 120))))
        for mask in prediction.masks
    )
    return replace(prediction, masks=masks)


def _with_one_spot(prediction):
    """One sample of the coarse grid is 1, in the upper part of the left lung; all others are 0."""
    (heatmap,) = prediction.heatmaps
    values = np.zeros(heatmap.grid.shape, np.float32)
    values[1, 2] = 1
    return replace(prediction, heatmaps=(replace(heatmap, values=values),))
