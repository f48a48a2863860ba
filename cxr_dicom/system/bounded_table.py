"""Tables in Parquet from anywhere: their rows one at a time, and no more in memory than they may have.

A file of a few kilobytes may have a text that stands in millions of rows, millions of empty rows, or pages that unpack
to gigabytes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

_ROWS = 1024  # at a time
BYTES_OF_A_ROW = 512  # that it counts for, besides its values
MOST_UNPACKED = 1 << 30  # bytes of the columns that are read: two million rows at most
# What Cython makes of errors of C++, besides those of pyarrow.
_OF_ARROW = (OSError, RuntimeError, ValueError, LookupError, ArithmeticError)


class TableRefusedError(ValueError):
    """A table cannot be read, or is too large; the text says what was expected."""


class BoundedTable:
    """A table whose columns are known, and whose rows are not yet read.

    Raises
    ------
    TableRefusedError
        If it is none, or has two columns of one name.

    Attributes
    ----------
    names
        Of all columns.
    plain
        Names of those with one text, number or time a row; others are not read.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow
        from pyarrow import parquet, types

        try:
            self._file = parquet.ParquetFile(path)
            schema = self._file.schema_arrow
        except (pyarrow.ArrowException, *_OF_ARROW) as error:
            raise _damaged(error) from error
        self._path = path
        self.names: Sequence[str] = schema.names
        self.plain = [each.name for each in schema if not types.is_nested(each.type)]
        if len(set(self.names)) < len(self.names):
            raise TableRefusedError("expected columns of different names, found two of one")

    def rows(self, wanted: Collection[str]) -> Iterator[dict[str, Any]]:
        """Yield the rows, with the values of these columns.

        Raises
        ------
        TableRefusedError
            If it is damaged, or has more than `MOST_UNPACKED`: by what it says, before any column is read; and by what
            its rows have, before they are unpacked.
        """
        import pyarrow
        from pyarrow import parquet

        unpacked, columns = 0, sorted(wanted)
        try:
            _expect_few(self._said_bytes(wanted))
            table = parquet.ParquetFile(self._path, read_dictionary=columns)
            for batch in table.iter_batches(_ROWS, columns=columns):
                unpacked += batch.num_rows * BYTES_OF_A_ROW + sum(map(_unpacked, batch.columns))
                _expect_few(unpacked)
                yield from batch.to_pylist()
        except TableRefusedError:
            raise
        except (pyarrow.ArrowException, *_OF_ARROW) as error:
            raise _damaged(error) from error

    def _said_bytes(self, wanted: Collection[str]) -> int:
        """Return how many bytes columns have, as the table says, with a text that is the same in many rows once.

        Of a table that is small as a whole no column is looked at: pyarrow ends the process over one whose
        statistics are damaged.
        """
        metadata = self._file.metadata
        groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
        if (whole := sum(int(group.total_byte_size) for group in groups)) <= MOST_UNPACKED:
            return whole
        chunks = (group.column(number) for group in groups for number in range(metadata.num_columns))
        return sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in wanted)


def _unpacked(column: Any) -> int:
    """Return how many bytes the values of an Arrow column have, each as often as it stands there."""
    from pyarrow import compute, types

    kind = column.type
    if not types.is_dictionary(kind) or types.is_primitive(kind.value_type):
        return int(column.nbytes)
    return int(compute.sum(compute.take(compute.binary_length(column.dictionary), column.indices)).as_py() or 0)


def _expect_few(count: int) -> None:
    if count > MOST_UNPACKED:
        raise TableRefusedError(f"expected a table of at most {MOST_UNPACKED >> 20} MB when unpacked, found more")


def _damaged(error: Exception) -> TableRefusedError:
    return TableRefusedError(f"expected a Parquet table, got {type(error).__name__}")
