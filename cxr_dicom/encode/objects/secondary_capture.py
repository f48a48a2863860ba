"""Secondary Capture: pictures for viewers that show neither segmentations nor parametric maps (PS3.3 A.8).

One RGB picture of the anatomy, one of the boxes, and one per heatmap, with a legend burnt in. Not for measuring:
it is the preview, not the source matrix, and states no geometry.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom import Dataset

from cxr_dicom import pictures
from cxr_dicom.config import Settings
from cxr_dicom.encode.base import Encoded, Encoder
from cxr_dicom.encode.codes import ascii_text
from cxr_dicom.encode.common import NOT_FOR_CLINICAL_USE, Head, new_object
from cxr_dicom.encode.results import BOXES, pictured, secondary_capture
from cxr_dicom.encode.source import copy_lossy_compression, copy_patient_orientation, reference
from cxr_dicom.errors import EncodingError
from cxr_dicom.records import Heatmap, ImageAnalysis, ObjectKind, Prediction, StudyAnalysis

SERIES_NUMBER = 9003
_BAR_THICKNESS = 12  # pixels
_LEGEND_COLUMNS = 4
_WHITE = (255, 255, 255)


def build(settings: Settings) -> Encoder:
    """Make the encoder of secondary captures."""
    return SecondaryCaptureEncoder(settings)


class SecondaryCaptureEncoder:
    """One secondary capture, in its own series, per picture."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def encode(self, study: StudyAnalysis) -> Iterator[Encoded]:
        """Yield the secondary captures of a study; none of an image without a preview."""
        for analysis in study.images:
            for prediction in analysis.predictions:
                for name in pictured(analysis, prediction):
                    yield self._encode(analysis, prediction, name)

    def _encode(self, analysis: ImageAnalysis, prediction: Prediction, name: str) -> Encoded:
        image, model = analysis.image, prediction.model
        head = Head(
            reference=secondary_capture(analysis, prediction, name, self._settings),
            image=image,
            models=[model],
            settings=self._settings,
            modality="OT",
            series_number=SERIES_NUMBER,
            series_description=f"Picture {name} {model.name}",
        )
        dataset = new_object(head)
        dataset.ImageType = ["DERIVED", "SECONDARY"]
        dataset.ConversionType = "WSD"
        dataset.BodyPartExamined = "CHEST"
        copy_patient_orientation(dataset, image.header)
        dataset.BurnedInAnnotation = "YES"
        dataset.DerivationDescription = ascii_text(f"{NOT_FOR_CLINICAL_USE}; {model.title}", 1024)
        dataset.SourceImageSequence = [reference(image)]
        copy_lossy_compression(dataset, image.header)
        _set_pixels(dataset, _picture(analysis, prediction, name))
        return Encoded(ObjectKind.SECONDARY_CAPTURE, dataset, (image.instance.sop_instance_uid,), model.name)


class _Entry(NamedTuple):
    """One line of a legend."""

    text: str
    colour: tuple[int, int, int] = _WHITE


def _picture(analysis: ImageAnalysis, prediction: Prediction, name: str) -> pictures.Colour:
    if analysis.preview is None:
        raise EncodingError("a secondary capture needs the preview of its image")
    if name == BOXES:
        shape = analysis.image.shape
        framed = pictures.framed(analysis.preview(), [(each.box, each.label) for each in prediction.detections], shape)
        return _with_legend(framed, prediction, [], bar=False)
    heatmap = next((heatmap for heatmap in prediction.heatmaps if heatmap.name == name), None)
    if heatmap is None:
        shown = [mask for mask in prediction.masks if mask.region.area]
        entries = [_Entry(ascii_text(mask.structure.title, 64), mask.structure.colour) for mask in shown]
        return _with_legend(pictures.overlay(analysis.preview(), shown), prediction, entries, bar=False)
    picture = pictures.heat(analysis.preview(), heatmap, analysis.image.shape)
    return _with_legend(
        picture, prediction, [_Entry(f"{_score(heatmap, prediction)} (map: 0 dark, 1 bright)")], bar=True
    )


def _score(heatmap: Heatmap, prediction: Prediction) -> str:
    """Name the heatmap, with score and call where it belongs to a finding."""
    title = ascii_text(heatmap.title, 64)
    finding = next((finding for finding in prediction.findings if finding.name == heatmap.name), None)
    return f"{title}: {finding.probability:.2f}, {finding.call}" if finding else title


def _with_legend(
    picture: pictures.Colour, prediction: Prediction, entries: Sequence[_Entry], bar: bool
) -> pictures.Colour:
    """Put a black strip with the legend under the picture: nothing of the radiograph is covered."""
    heading = _Entry(f"{NOT_FOR_CLINICAL_USE}. {ascii_text(prediction.model.name, 64)}")
    parts = [picture, _lines([heading], picture.shape[1], columns=1)]
    parts.append(_lines(entries, picture.shape[1], columns=1 if bar else _LEGEND_COLUMNS))
    if bar:
        parts.append(pictures.colour_bar(picture.shape[1], _BAR_THICKNESS))
    return np.concatenate(parts)


def _lines(entries: Sequence[_Entry], width: int, columns: int) -> pictures.Colour:
    """Write the entries row by row into ``columns`` columns, white or coloured on black."""
    size = max(10, width // 45)
    height = round(1.6 * size)
    strip = Image.new("RGB", (width, height * -(-len(entries) // columns)))
    draw, font = ImageDraw.Draw(strip), ImageFont.load_default(size)
    for number, entry in enumerate(entries):
        row, column = divmod(number, columns)
        place = (size // 2 + column * width // columns, row * height + height // 8)
        draw.text(place, entry.text, fill=entry.colour, font=font)
    return np.asarray(strip)


def _set_pixels(dataset: Dataset, picture: NDArray[np.uint8]) -> None:
    dataset.Rows, dataset.Columns = picture.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = picture.tobytes() + b"\0" * (picture.size % 2)
    dataset["PixelData"].VR = "OB"
