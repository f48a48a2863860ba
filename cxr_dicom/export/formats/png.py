"""``png``: one picture per structure, as CXAS writes them, and what one needs to look at them.

::

    <SOP Instance UID>/image.png                      the radiograph, 8 bits, of the size of the masks
    <SOP Instance UID>/<model>/<structure>.png        its mask, 1 bit
    <SOP Instance UID>/<model>-overlay.png            coloured outlines on the preview
    <SOP Instance UID>/<model>-<heatmap>-heatmap.png  on the preview

A structure without a pixel has no file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from cxr_dicom import pictures
from cxr_dicom.config import Settings
from cxr_dicom.export.base import Exporter, analyses, found
from cxr_dicom.export.pictures import FAST, write_png, write_radiograph
from cxr_dicom.records import ImageAnalysis, Prediction, StudyResult


def build(settings: Settings, names: Collection[str]) -> Exporter:
    """Make the exporter; ``names`` are all formats of the run."""
    del names  # it needs no other one
    return PngExporter(settings)


def radiograph_path(sop_instance_uid: str) -> Path:
    """Where the radiograph lies in the folder of this format."""
    return Path(sop_instance_uid, "image.png")


class PngExporter:
    """Pictures, one folder per radiograph."""

    name = "png"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def export(self, result: StudyResult, folder: Path) -> list[Path]:
        """Write the pictures of a study."""
        return [path for analysis in analyses(result) for path in self._export(analysis, folder)]

    def collect(self, folder: Path) -> None:
        """Leave the folder as it is."""

    def _export(self, analysis: ImageAnalysis, folder: Path) -> Iterator[Path]:
        radiograph = folder / radiograph_path(analysis.image.instance.sop_instance_uid)
        yield write_radiograph(radiograph, analysis, self._settings.pixels)
        for prediction in analysis.predictions:
            for mask in found(prediction):
                path = radiograph.parent / prediction.model.name / f"{mask.structure.name}.png"
                yield write_png(path, mask.region.matrix())
            yield from _shown(analysis, prediction, radiograph.parent)


def _shown(analysis: ImageAnalysis, prediction: Prediction, folder: Path) -> Iterator[Path]:
    """Draw what was found on the preview, for people."""
    if analysis.preview is None:
        return
    model = prediction.model.name
    if masks := found(prediction):
        yield write_png(folder / f"{model}-overlay.png", pictures.overlay(analysis.preview(), masks), FAST)
    for heatmap in prediction.heatmaps:
        picture = pictures.heat(analysis.preview(), heatmap, analysis.image.shape)
        yield write_png(folder / f"{model}-{heatmap.name}-heatmap.png", picture, FAST)
