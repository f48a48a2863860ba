"""Tables: the same columns whatever the order of the rows, typed, and flat in memory."""

import csv
import random
import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet, types

from cxr_dicom.results import tables
from tests import ROOT, cohort_rows

ROWS = [*cohort_rows.rows(400), cohort_rows.failed()]


def rows():
    return iter(ROWS)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    tables.write_csv(folder / "results.csv", rows)
    tables.write_parquet(folder / "results.parquet", rows)
    tables.write_failures(folder / "failures.csv", rows)
    return folder


def cells(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_both_tables_have_the_same_columns_and_rows(written):
    text, typed = cells(written / "results.csv"), parquet.read_table(written / "results.parquet").to_pylist()
    assert list(text[0]) == list(typed[0])
    assert len(text) == len(typed) == len(ROWS)
    for before, after in zip(text, typed, strict=True):
        for name, value in after.items():
            expected = "; ".join(value) if isinstance(value, list) else "" if value is None else str(value)
            assert before[name] == expected, name


def test_the_columns_do_not_depend_on_the_order_of_the_rows(written, tmp_path):
    mixed = ROWS[:]
    random.Random(0).shuffle(mixed)
    for number, row in enumerate(mixed):
        mixed[number] = {**row, "measurements": dict(reversed(row["measurements"].items()))}
    tables.write_parquet(tmp_path / "mixed.parquet", lambda: iter(mixed))
    first, second = (parquet.read_schema(path) for path in (written / "results.parquet", tmp_path / "mixed.parquet"))
    assert first.equals(second, check_metadata=True)


def test_the_same_rows_give_the_same_bytes(written, tmp_path):
    tables.write_parquet(tmp_path / "again.parquet", rows)
    assert (tmp_path / "again.parquet").read_bytes() == (written / "results.parquet").read_bytes()


def test_columns_are_typed_and_explained(written):
    schema = parquet.read_schema(written / "results.parquet")
    kinds = {
        "cardiothoracic_ratio": types.is_float64,
        "patient_age_years": types.is_int64,
        "heart_box_left": types.is_int64,
        "seconds_chestx_det": types.is_float64,
        "effusion_call": types.is_dictionary,
        "weights_sha256": types.is_list,
        "sop_instance_uid": types.is_string,
    }
    for name, is_right in kinds.items():
        assert is_right(schema.field(name).type), name
    assert all(field.metadata[b"description"] for field in schema)
    assert schema.field("left_lung_area").metadata[b"description"] == b"Area, Lung, Left; model chestx-det"


@pytest.mark.parametrize(
    ("begin", "shown"),
    [
        *((begin, f"'{begin}") for begin in ("=1+1", "+1", "-2+3", "@SUM(A1)", "\uff1d1")),
        ("\t=1", "'\t'=1"),
        ("\r=1", "'\n'=1"),
        ("\n=1", "'\n'=1"),
    ],
)
def test_no_cell_is_a_formula_and_numbers_and_parquet_stay_what_they_are(begin, shown, tmp_path):
    header, measured = dict(ROWS[0]), next(row for row in ROWS if row["measurements"])
    name = next(iter(measured["measurements"]))
    below = {**measured["measurements"][name], "value": -1.5}
    header |= {"path": begin, "modality": begin, "detail": begin, "warnings": [begin], "outcome": "failed"}
    made = [header, {**measured, "outcome": "processed", "measurements": {name: below}}]
    tables.write_csv(tmp_path / "results.csv", lambda: iter(made))
    tables.write_failures(tmp_path / "failures.csv", lambda: iter(made))
    tables.write_parquet(tmp_path / "results.parquet", lambda: iter(made))
    text, number = cells(tmp_path / "results.csv")
    assert {text[column] for column in ("path", "modality", "detail", "warnings")} == {shown}
    assert number[name] == "-1.5"
    (failed,) = cells(tmp_path / "failures.csv")
    assert (failed["path"], failed["detail"]) == (shown, shown)
    typed = parquet.read_table(tmp_path / "results.parquet").to_pylist()[0]
    assert (typed["path"], typed["modality"], typed["warnings"]) == (begin, begin, [begin])


@pytest.mark.parametrize("separator", [";", "\t"])
@pytest.mark.parametrize("text", ["x;=1+1;y", "x\n=1+1", 'x;"=1+1&"";"', "x\t@SUM(A1)", "x;\n-2+3"])
def test_no_cell_is_a_formula_where_a_spreadsheet_has_another_separator(text, separator, tmp_path):
    row = {**ROWS[0], "path": text, "manufacturer": text}
    tables.write_csv(tmp_path / "results.csv", lambda: iter([row]))
    with (tmp_path / "results.csv").open(newline="", encoding="utf-8") as file:
        found = [cell for line in csv.reader(file, delimiter=separator) for cell in line]
    assert found
    assert not [cell for cell in found if cell.lstrip('"').startswith(("=", "+", "-", "@"))]


def test_statisticians_read_it(written):
    table = pd.read_parquet(written / "results.parquet")
    processed = [row for row in ROWS if row["outcome"] == "processed"]
    ratios = [row["measurements"]["cardiothoracic_ratio"]["value"] for row in processed]
    assert table.cardiothoracic_ratio.mean() == pytest.approx(sum(ratios) / len(ratios))
    assert (table.effusion_call == "present").sum() == sum(
        r["scores"]["effusion"]["call"] == "present" for r in processed
    )
    assert table.loc[table.outcome == "processed", "models"].iloc[0][0] == "chestx-det 1"
    some = parquet.read_table(written / "results.parquet", columns=["outcome"], filters=[("outcome", "=", "skipped")])
    assert len(some) == sum(row["outcome"] == "skipped" for row in ROWS)


def test_row_groups_hold_all_rows_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_CELLS_PER_GROUP", 5000)
    tables.write_parquet(tmp_path / "many.parquet", rows)
    file = parquet.ParquetFile(tmp_path / "many.parquet")
    assert file.num_row_groups > 3
    assert file.read(["path"]).column(0).to_pylist() == [row["path"] for row in ROWS]


@pytest.mark.parametrize("write", [tables.write_csv, tables.write_parquet, tables.write_failures])
def test_a_run_without_inputs_has_tables(write, tmp_path):
    write(tmp_path / "table", lambda: iter(()))
    assert (tmp_path / "table").stat().st_size > 0
    if write is tables.write_parquet:
        assert parquet.read_table(tmp_path / "table").column_names[:2] == ["path", "study_instance_uid"]


def test_failures_come_first_and_nothing_with_results(written):
    found = cells(written / "failures.csv")
    outcomes = [row["outcome"] for row in ROWS]
    assert [row["outcome"] for row in found] == ["failed"] * outcomes.count("failed") + ["skipped"] * outcomes.count(
        "skipped"
    )
    assert list(found[0]) == [
        "path",
        "study_instance_uid",
        "series_instance_uid",
        "sop_instance_uid",
        "outcome",
        "reason",
        "detail",
    ]
    assert all(row["reason"] and row["detail"] for row in found)
    assert {row["sop_instance_uid"] for row in found} >= {""}  # what is not DICOM has no UID


def test_a_table_that_cannot_be_written_whole_leaves_the_old_one(tmp_path):
    path = tmp_path / "results.parquet"
    tables.write_parquet(path, rows)
    before = path.read_bytes()

    def broken():
        yield ROWS[0]
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        tables.write_parquet(path, broken)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def peak_mb(number):
    """Resident set of a process that writes all tables of so many rows."""
    code = f"""
import resource, sys
sys.path.insert(0, {str(ROOT)!r})
from tests import cohort_rows
from pathlib import Path
from tempfile import TemporaryDirectory
from cxr_dicom.results import tables
with TemporaryDirectory() as folder:
    for write in (tables.write_csv, tables.write_parquet, tables.write_failures):
        write(Path(folder) / "table", lambda: cohort_rows.rows({number}))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return int(done.stdout) / (1024 if sys.platform != "darwin" else 1024**2)


def test_memory_does_not_grow_with_the_rows():
    assert peak_mb(9_000) < peak_mb(3_000) * 1.05


def test_a_batch_by_way_of_json_is_what_arrow_makes_of_the_values(written):
    table = tables.columns(rows)
    schema = parquet.read_schema(written / "results.parquet")
    values = [[column.value(row) for row in ROWS] for column in table]
    arrays = [pa.array(cells, column.type) for cells, column in zip(values, schema, strict=True)]
    assert tables._batch(schema, values).equals(pa.record_batch(arrays, schema=schema))


def test_writing_a_table_does_not_import_pandas(tmp_path):
    code = (
        "import sys; from pathlib import Path; from cxr_dicom.results import tables; from tests import cohort_rows;"
        f"made = cohort_rows.rows(3); tables.write_parquet(Path({str(tmp_path / 'x')!r}), lambda: iter(made));"
        "assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
