"""``npz``: one compressed NumPy archive per radiograph, ``<SOP Instance UID>.npz``.

::

    masks/<model>/<structure>      (rows, ceil(columns / 8)) uint8: np.unpackbits(mask, axis=1, count=columns)
    heatmaps/<model>/<name>        (rows, columns) float32, 0 to 1, of the heatmap's own grid
    grids/<model>/<name>           [[origin row, origin column], [rows per sample, columns per sample]], source pixels
    about                          JSON text: shape, spacing, turn to the standard view, structures, scores, models

An array is read from the file only when it is asked for. Bits take a sixth of the time of bytes, and
a third of the space.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.config import Settings
from cxr_dicom.export.base import Exporter, about, analyses, found, json_text
from cxr_dicom.records import ImageAnalysis, StudyResult
from cxr_dicom.system import atomic

_UNIX = 3  # where an archive is made, which ZipFile would take from this machine


def build(settings: Settings, names: Collection[str]) -> Exporter:
    """Make the exporter; ``names`` are all formats of the run."""
    del settings, names  # the arrays are as predicted
    return NpzExporter()


class NpzExporter:
    """Arrays, one file per radiograph."""

    name = "npz"

    def export(self, result: StudyResult, folder: Path) -> list[Path]:
        """Write the arrays of a study."""
        return [_write(analysis, folder) for analysis in analyses(result)]

    def collect(self, folder: Path) -> None:
        """Leave the folder as it is."""


def _write(analysis: ImageAnalysis, folder: Path) -> Path:
    path = folder / f"{analysis.image.instance.sop_instance_uid}.npz"
    with atomic.open_bytes(path) as file, ZipFile(file, "w") as archive:
        for name, array in _arrays(analysis):
            member = ZipInfo(f"{name}.npy")  # dated 1980
            member.compress_type, member.create_system = ZIP_DEFLATED, _UNIX
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)
    return path


def _arrays(analysis: ImageAnalysis) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield one array at a time: 159 masks of a large radiograph would fill the memory."""
    for prediction in analysis.predictions:
        model = prediction.model.name
        for mask in found(prediction):
            yield f"masks/{model}/{mask.structure.name}", np.packbits(mask.region.matrix(), axis=1)
        for heatmap in prediction.heatmaps:
            yield f"heatmaps/{model}/{heatmap.name}", heatmap.values.astype("<f4", copy=False)
            yield f"grids/{model}/{heatmap.name}", np.array([heatmap.grid.origin, heatmap.grid.step], "<f8")
    yield "about", np.array(json_text(about(analysis)))
