"""The real radiographs: NIH ChestX-ray14 at 512 x 512, split by patient."""

from __future__ import annotations

import csv
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cxr_dicom.infer.offline.postprocess import normalise

FOLDER = "nih-chestxray14-512"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One line of `labels.csv`.

    Attributes
    ----------
    image : str
        File name.
    findings : tuple of str
        Labels as mined from the report by the NIH.
    patient_id : int
    age : int
        Years.
    view : str
        ``PA`` or ``AP``.
    path : Path
        The JPEG.
    """

    image: str
    findings: tuple[str, ...]
    patient_id: int
    age: int
    view: str
    path: Path

    @property
    def held_out(self) -> bool:
        """One patient of six: never trained on, not even by its own predictions."""
        return hashlib.sha256(str(self.patient_id).encode()).digest()[0] % 6 == 0

    def pixels(self) -> np.ndarray:
        """(512, 512) float32 in [0, 1], bright is dense."""
        with Image.open(self.path) as picture:
            return normalise(np.asarray(picture.convert("L")))


def records(data: Path) -> list[Record]:
    """All radiographs under the data folder, in the order of `labels.csv`."""
    folder = data / FOLDER
    with (folder / "labels.csv").open(newline="") as lines:
        return [
            Record(
                image=row["image"],
                findings=tuple(row["finding_labels"].split("|")),
                patient_id=int(row["patient_id"]),
                age=int(row["age"]),
                view=row["view_position"],
                path=folder / row["image"],
            )
            for row in csv.DictReader(lines)
        ]
