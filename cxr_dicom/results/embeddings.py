"""``embeddings.parquet``: the vectors of the images of a run, a row for each image and a column for each model.

A vector tells more of a patient than any label: a network that knows people by their lungs has been trained on such
(Packhäuser et al., Sci Rep 2022;12:14851). So it is in no object, no page and no other table.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.errors import CxrDicomError
from cxr_dicom.records import ImageAnalysis
from cxr_dicom.results.schema import Row
from cxr_dicom.system import atomic

if TYPE_CHECKING:
    import pyarrow as pa

FILE = "embeddings.parquet"

Packed = Mapping[str, str]  # by model: the numbers as float32, little endian, in Base64
Vectors = Mapping[str, NDArray[np.float32]]  # by model

_UIDS = ("study_instance_uid", "series_instance_uid", "sop_instance_uid")
_NUMBERS_PER_GROUP = 4 << 20  # of a row group; bounds the memory


def packed(analysis: ImageAnalysis) -> dict[str, str]:
    """Return the vectors of an image as a state keeps them."""
    return {
        prediction.model.name: base64.b64encode(prediction.embedding.astype("<f4").tobytes()).decode("ascii")
        for prediction in analysis.predictions
        if prediction.embedding is not None
    }


def width(text: str) -> int:
    """How many numbers a packed vector has."""
    return len(base64.b64decode(text)) // 4


def write(path: Path, widths: Mapping[str, int], rows: Iterable[tuple[Row, Packed]]) -> None:
    """Write the table; without a model that gives vectors there is none, nor one of an earlier run.

    Parameters
    ----------
    widths
        Of the vectors, by model.
    rows
        The rows of the run in their order, each with the vectors of its image.

    Raises
    ------
    CxrDicomError
        If a vector has another width.
    """
    if not widths:
        path.unlink(missing_ok=True)
        return
    import pyarrow as pa
    from pyarrow import parquet

    models = sorted(widths)
    kinds = [(name, pa.string()) for name in _UIDS] + [(name, pa.list_(pa.float32(), widths[name])) for name in models]
    schema = pa.schema(kinds)
    size = max(1, _NUMBERS_PER_GROUP // sum(widths.values()))
    with atomic.replacing(path) as part, parquet.ParquetWriter(part, schema, compression="zstd") as writer:
        for some in _groups((each for each in rows if each[1]), size):
            writer.write_batch(_batch(schema, some, {name: widths[name] for name in models}))


def _groups(rows: Iterator[tuple[Row, Packed]], size: int) -> Iterator[list[tuple[Row, Packed]]]:
    while some := list(islice(rows, size)):
        yield some


def _batch(schema: pa.Schema, rows: Sequence[tuple[Row, Packed]], widths: Mapping[str, int]) -> pa.RecordBatch:
    import pyarrow as pa

    arrays = [pa.array([row.get(name) for row, _ in rows], pa.string()) for name in _UIDS]
    for name, length in widths.items():
        matrix = np.zeros((len(rows), length), np.float32)
        is_missing = np.ones(len(rows), bool)
        for number, (_, vectors) in enumerate(rows):
            if name in vectors:
                vector = np.frombuffer(base64.b64decode(vectors[name]), "<f4")
                if vector.size != length:
                    raise CxrDicomError(f"{name}: expected vectors of {length} numbers in one run, got {vector.size}")
                matrix[number], is_missing[number] = vector, False
        values = pa.array(matrix.ravel())
        arrays.append(pa.FixedSizeListArray.from_arrays(values, length, mask=pa.array(is_missing)))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


class Embeddings(Mapping[str, Vectors]):
    """Vectors by SOP Instance UID of the image, then by model; each (width,) of float32.

    Parameters
    ----------
    path
        Of the table; without a file there are none.

    Raises
    ------
    CxrDicomError
        If it is another file.
    """

    def __init__(self, path: Path) -> None:
        self._places: dict[str, int] = {}
        self._columns: dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]] = {}
        if not path.exists():
            return
        import pyarrow as pa
        from pyarrow import parquet

        try:
            table = parquet.read_table(path).combine_chunks()
            self._places = {uid: place for place, uid in enumerate(table["sop_instance_uid"].to_pylist())}
            for field in table.schema:
                if field.name not in _UIDS:
                    self._columns[field.name] = _matrix(table[field.name], field.type.list_size)
        except (OSError, pa.ArrowException, AttributeError, KeyError) as error:
            raise CxrDicomError(f"{path}: expected a table of vectors, got {type(error).__name__}") from error

    def __getitem__(self, sop_instance_uid: str) -> Vectors:
        place = self._places[sop_instance_uid]
        return {model: matrix[place] for model, (matrix, is_there) in self._columns.items() if is_there[place]}

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return f"<of {len(self)} images>"


def _matrix(column: pa.ChunkedArray, length: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return (images, width), and which images have a vector."""
    parts = [np.asarray(chunk.values).reshape(-1, length)[chunk.offset :][: len(chunk)] for chunk in column.chunks]
    matrix = np.concatenate(parts) if parts else np.zeros((0, length), np.float32)
    matrix.flags.writeable = False
    return matrix, ~np.asarray(column.is_null())
