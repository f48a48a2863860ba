"""An output folder that a run wrote, read back: its table, and the masks and objects of each image."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from cxr_dicom.errors import CxrDicomError
from cxr_dicom.records import Outcome
from cxr_dicom.records.plane import Region
from cxr_dicom.results import frames, masks
from cxr_dicom.results.embeddings import FILE, Embeddings
from cxr_dicom.results.named import Named
from cxr_dicom.results.schema import Row

if TYPE_CHECKING:
    import pandas as pd

Value = TypeVar("Value")


class Results:
    """What a run left in its output folder. Nothing is computed again, and little is kept in memory.

    Parameters
    ----------
    out
        The folder that was given to ``cxr-dicom run`` as ``-o``.

    Raises
    ------
    CxrDicomError
        If it is not the output of a run.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self._places = _places(out / "results.jsonl")

    def __repr__(self) -> str:
        return f"<Results: {len(self._places)} images>"

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The table ``results.parquet``: one line per input, without those left out (see ``docs/results.md``).

        Raises
        ------
        CxrDicomError
            If pandas is not installed, or the table cannot be read.
        """
        return frames.read_parquet(self.out / "results.parquet")

    @property
    def masks(self) -> Mapping[str, Mapping[str, NDArray[np.bool_]]]:
        """Masks by SOP Instance UID of the image, then by structure: (rows, columns), on the matrix as stored.

        They are read from the segmentations of an image when it is asked for; a `CxrDicomError` says when
        they cannot be.
        """
        return _ByImage(self.out, self._places, partial(_masks, self.out))

    @cached_property
    def embeddings(self) -> Embeddings:
        """Vectors by SOP Instance UID of the image, then by model: (width,) of float32.

        Raises
        ------
        CxrDicomError
            If they cannot be read.
        """
        return Embeddings(self.out / FILE)

    @property
    def objects(self) -> Mapping[str, list[Dataset]]:
        """DICOM objects by SOP Instance UID of the image; ``filename`` of each leads to its file.

        They are read when they are asked for; a `CxrDicomError` says when they cannot be.
        """
        return _ByImage(self.out, self._places, partial(_objects, self.out))


class _ByImage(Mapping[str, Value]):
    """What is read of an image on access."""

    def __init__(self, out: Path, places: Mapping[str, int], read: Callable[[Row], Value]) -> None:
        self._path = out / "results.jsonl"
        self._places = places
        self._read = read

    def __getitem__(self, sop_instance_uid: str) -> Value:
        place = self._places[sop_instance_uid]
        try:
            with self._path.open("rb") as file:
                file.seek(place)
                row: Row = json.loads(file.readline())
            return self._read(row)
        except OSError as error:
            raise CxrDicomError(f"{sop_instance_uid}: expected the files of the run, got {error.strerror}") from error
        except masks.NOT_OURS as error:
            expected = "expected an object that cxr-dicom writes"
            raise CxrDicomError(f"{sop_instance_uid}: {expected}, got {type(error).__name__}") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"<of {len(self)} images>"


def _places(path: Path) -> dict[str, int]:
    """Where the row of each image that has results begins, by SOP Instance UID, in the order of the file."""
    found: dict[str, int] = {}
    place = 0
    try:
        with path.open("rb") as file:
            for line in file:
                row = json.loads(line)
                if row["outcome"] == Outcome.PROCESSED:
                    found[row["sop_instance_uid"]] = place
                place += len(line)
    except OSError as error:
        raise CxrDicomError(f"{path.parent}: not the output of `run`: no {path.name} to read") from error
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise CxrDicomError(f"{path}: expected one row of results on each line, got {type(error).__name__}") from error
    return found


def _masks(out: Path, row: Row) -> Mapping[str, NDArray[np.bool_]]:
    return Named(masks.read(out, row), Region.matrix)


def _objects(out: Path, row: Row) -> list[Dataset]:
    return [dcmread(masks.inside(out, object_row["path"])) for object_row in row["objects"]]
