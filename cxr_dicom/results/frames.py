"""Rows to pandas, for those who have it: the columns and types of ``results.parquet``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cxr_dicom.errors import CxrDicomError
from cxr_dicom.results import tables
from cxr_dicom.results.schema import Row

if TYPE_CHECKING:
    import pandas as pd


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Return one line per row.

    Raises
    ------
    CxrDicomError
        If pandas is not installed.
    """
    expect_pandas()
    return tables.arrow(lambda: iter(rows)).to_pandas()


def series(row: Row, name: str) -> pd.Series[object]:
    """Return one row by column; numbers, words and lists stay what they are.

    Raises
    ------
    CxrDicomError
        If pandas is not installed.
    """
    expect_pandas()
    import pandas as pd

    (cells,) = tables.arrow(lambda: iter((row,))).to_pylist()
    return pd.Series(cells, name=name, dtype=object)


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a table that a run wrote.

    Raises
    ------
    CxrDicomError
        If pandas is not installed, or the file is no table.
    """
    expect_pandas()
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.read_table(path).to_pandas()
    except (OSError, pa.ArrowException) as error:
        raise CxrDicomError(f"{path}: expected a Parquet table, got {type(error).__name__}") from error


def expect_pandas() -> None:
    """Refuse early what ends in a table.

    Raises
    ------
    CxrDicomError
        If pandas is not installed.
    """
    try:
        import pandas  # noqa: F401
    except ImportError as error:
        raise CxrDicomError("tables need pandas, which is not installed: pip install pandas") from error
