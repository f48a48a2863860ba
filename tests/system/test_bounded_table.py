"""Parquet from anywhere: what the manifests' and the truth's own tests say of it, and damage in any place."""

from io import BytesIO

import pyarrow
from pyarrow import parquet

from cxr_dicom.system.bounded_table import BoundedTable, TableRefusedError


def test_a_table_with_a_damaged_byte_is_read_or_refused(tmp_path):
    """Fuzzing found a `RuntimeError`; where statistics are damaged, pyarrow may end the whole process."""
    file, path = BytesIO(), tmp_path / "x"
    parquet.write_table(
        pyarrow.table({"path": ["a.dcm", "b.dcm"], "patient_age": ["1", "2"]}), file, store_schema=False
    )
    whole, refused = file.getvalue(), 0
    for place, byte in enumerate(whole):
        for other in (0, 255, byte ^ 1, byte ^ 4, byte + 2 & 255):
            path.write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
            try:
                table = BoundedTable(path)
                list(table.rows(table.plain))
            except TableRefusedError:
                refused += 1
    assert len(whole) < refused < 5 * len(whole)
