"""What the models say of one image, as arrays, numbers, tables and data sets."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from cxr_dicom import pictures
from cxr_dicom.config import Settings
from cxr_dicom.encode import build_encoders
from cxr_dicom.encode.base import Encoded
from cxr_dicom.encode.common import write, write_file
from cxr_dicom.errors import EncodingError
from cxr_dicom.pipeline import encode, results
from cxr_dicom.records import (
    Detection,
    Finding,
    Heatmap,
    ImageAnalysis,
    Measurement,
    Prediction,
    Statement,
    StudyAnalysis,
    StudyResult,
)
from cxr_dicom.records.plane import Region
from cxr_dicom.results import frames, rows
from cxr_dicom.results.named import Named, named
from cxr_dicom.results.schema import Row
from cxr_dicom.system import telemetry

if TYPE_CHECKING:
    import pandas as pd

Value = TypeVar("Value")

_PICTURE = 512  # pixels on the longer side, in a notebook
_HTML = (
    '<figure><img src="{source}" alt="Chest radiograph with outlines">'
    "<figcaption>{legend}<br>{uid}</figcaption></figure>"
)
_LABEL = '<span style="color: rgb({}, {}, {})">&#9632;</span>&nbsp;{}'


class Analysis:
    """What the models say of one image.

    Several models may give one name. The first keeps it, and that of a later one is found under the
    name, two underscores and the model, as in the tables: ``masks["heart__offline_anatomy"]``.
    """

    def __init__(self, image: ImageAnalysis, study: StudyAnalysis, settings: Settings, *, is_file: bool = True) -> None:
        small = image.preview() if image.preview else None  # not to keep the whole matrix for a small picture
        kept = replace(image, preview=None if small is None else partial(_same, small))
        self._image = kept
        self._study = replace(study, images=tuple(kept if other is image else other for other in study.images))
        self._settings = settings
        self._is_file = is_file

    def __repr__(self) -> str:
        found = f"{len(self.masks)} masks, {len(self.heatmaps)} heatmaps, {len(self.scores)} scores"
        return f"<Analysis of {self.sop_instance_uid}: {found}, {len(self.measurements)} measurements>"

    @property
    def sop_instance_uid(self) -> str:
        """SOP Instance UID of the image."""
        return self._image.image.instance.sop_instance_uid

    @property
    def study_instance_uid(self) -> str:
        """Study Instance UID of the image."""
        return self._image.image.instance.study_instance_uid

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """Everything that each model said, in the order of the models."""
        return self._image.predictions

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should know, in plain sentences."""
        of_models = (text for prediction in self.predictions for text in prediction.warnings)
        return tuple(dict.fromkeys((*self._image.warnings, *of_models)))

    @property
    def masks(self) -> Mapping[str, NDArray[np.bool_]]:
        """Structures that were found: (rows, columns), true inside, on the matrix as stored."""
        return Named(self._named(_regions), Region.matrix)

    @property
    def heatmaps(self) -> Mapping[str, NDArray[np.float32]]:
        """Maps: (rows, columns), 0 to 1, on the matrix as stored; 0 where a model did not look."""
        return Named(self._named(lambda p: ((heatmap.name, heatmap) for heatmap in p.heatmaps)), self._resampled)

    @property
    def scores(self) -> Mapping[str, Finding]:
        """Findings: ``probability``, ``raw``, ``operating_point``, ``call``."""
        return self._named(lambda p: ((finding.name, finding) for finding in p.findings))

    @property
    def measurements(self) -> Mapping[str, Measurement]:
        """Numbers: ``value``, None where it could not be measured and ``reason`` says why, and ``unit``."""
        return self._named(lambda p: ((measurement.name, measurement) for measurement in p.measurements))

    @property
    def detections(self) -> Mapping[str, tuple[Detection, ...]]:
        """Findings in boxes, the highest score first: ``score``, ``box`` (left, top, right, bottom as stored)."""
        return self._named(_detections)

    @property
    def embeddings(self) -> Mapping[str, NDArray[np.float32]]:
        """Vectors by model: (width,)."""
        return {p.model.name: p.embedding for p in self.predictions if p.embedding is not None}

    @property
    def statements(self) -> Mapping[str, Statement]:
        """Calls that a rule made of a measurement: ``call``, ``rule``."""
        return self._named(lambda p: ((statement.name, statement) for statement in p.statements))

    def to_series(self) -> pd.Series[Any]:
        """Return the line of this image in the table: the columns of ``results.parquet``.

        Raises
        ------
        CxrDicomError
            If pandas is not installed.
        """
        uid = self.sop_instance_uid
        (row,) = (row for row in unwritten_rows(self._study, self._settings) if row["sop_instance_uid"] == uid)
        series = frames.series(row, uid)
        if not self._is_file:
            series["path"] = None
        return series

    def to_dicom(self) -> list[Dataset]:
        """Return the DICOM objects that speak of this image, with file meta information, unwritten.

        Those of ``cxr-dicom run`` on the same input, to the byte once they are saved, but for how pydicom
        deflates. Reports on the study speak of the images that were analysed with this one.

        Raises
        ------
        EncodingError
            If an object cannot be made.
        """
        return [_read_back(encoded) for encoded in self._encoded()]

    def save(self, out: str | PathLike[str]) -> list[Path]:
        """Write the objects of `to_dicom` to ``out``, where ``cxr-dicom run`` puts them, and return their files.

        Raises
        ------
        EncodingError
            If an object cannot be made.
        OSError
            If it cannot be written.
        """
        folder = rows.study_folder(Path(out), self.study_instance_uid)
        return [write(encoded, folder).path for encoded in self._encoded()]

    def _repr_html_(self) -> str:
        """Show the picture with its outlines; nothing of the header but the SOP Instance UID."""
        if self._image.preview is None:
            return html.escape(repr(self))
        masks = next((prediction.masks for prediction in self.predictions if prediction.masks), ())
        picture = pictures.overlay(pictures.smaller(self._image.preview(), _PICTURE), masks)
        return _HTML.format(
            source=pictures.data_uri(picture),
            uid=html.escape(self.sop_instance_uid),
            legend=" ".join(_LABEL.format(*mask.structure.colour, html.escape(mask.structure.title)) for mask in masks),
        )

    def _named(self, items: Callable[[Prediction], Iterable[tuple[str, Value]]]) -> dict[str, Value]:
        return named((p.model.name, name, value) for p in self.predictions for name, value in items(p))

    def _resampled(self, heatmap: Heatmap) -> NDArray[np.float32]:
        shape = self._image.image.shape
        return heatmap.grid.resample(heatmap.values, shape, shape)

    def _encoded(self) -> Iterator[Encoded]:
        objects = encode(self._study, build_encoders(self._settings))
        while True:
            try:
                encoded = next(objects, None)
            except Exception as error:
                telemetry.failure("encode", error, sop_instance_uid=self.sop_instance_uid)
                raise EncodingError(telemetry.safe_description(error)) from error
            if encoded is None:
                return
            if self.sop_instance_uid in encoded.source_sop_instance_uids:
                yield encoded


def unwritten_rows(study: StudyAnalysis, settings: Settings) -> list[Row]:
    """Make the rows of a study of which nothing was written."""
    result = StudyResult(
        study_instance_uid=study.study_instance_uid,
        job_key="",
        instances=tuple(results(study, ())),
        seconds={**study.seconds, "encode": 0.0},
    )
    return rows.study_rows(result, settings, Path())


def _regions(prediction: Prediction) -> Iterator[tuple[str, Region]]:
    """Yield the masks that are not empty: just those are in the DICOM segmentations."""
    return ((mask.structure.name, mask.region) for mask in prediction.masks if mask.region.area)


def _detections(prediction: Prediction) -> Iterator[tuple[str, tuple[Detection, ...]]]:
    for name in dict.fromkeys(detection.name for detection in prediction.detections):
        yield name, tuple(detection for detection in prediction.detections if detection.name == name)


def _same(picture: pictures.Grey) -> pictures.Grey:
    return picture


def _read_back(encoded: Encoded) -> Dataset:
    """Make a data set of what would be in the file, which shares nothing with what other objects are made of."""
    file = BytesIO()
    write_file(file, encoded.dataset)
    file.seek(0)
    return dcmread(file)
