"""Tables of paths, URLs and UIDs: each row ends in an entry or in what was skipped."""

import csv
from unittest.mock import Mock

import pyarrow
import pytest
from pyarrow import parquet

from cxr_dicom.errors import ManifestError
from cxr_dicom.ingest.manifest import read, survey
from cxr_dicom.records import Reason
from cxr_dicom.system import bounded_table
from tests.ingest.manifest.manifests import UIDS, reasons


@pytest.mark.parametrize(
    "column", ["path", "File", "filename", "filepath", "file_path", "File Path", "dicom", "DCM", "dicom_path", "image"]
)
def test_columns_of_paths_that_people_use(images, written, column):
    manifest = read(written(f"id,{column}\n7,images/1.dcm\n8,images/0.dcm\n9,images/2.dcm\n"))
    assert manifest.kind == "table"
    names = [[instance.path.name for instance in entry.study.instances] for entry in manifest.entries]
    assert names == [["1.dcm"], ["0.dcm", "2.dcm"]], "in the order of the table"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_dialects_of_tables(tmp_path, images, delimiter, encoding, end):
    (images / "0.dcm").rename(images / 'Thorax ä, "a"; b|c.dcm')
    with (tmp_path / "table").open("w", encoding=encoding, newline="") as file:
        rows = csv.writer(file, delimiter=delimiter, lineterminator=end)
        rows.writerows([["n", "path"], ["1", 'images/Thorax ä, "a"; b|c.dcm'], [], ["2", str(images / "1.dcm")]])
    manifest = read(str(tmp_path / "table"))
    assert len(manifest.entries) == 2
    assert manifest.skipped == ()


def test_names_in_a_table_of_one_column_may_have_commas(images, written):
    (images / "0.dcm").rename(images / "a, b;c.dcm")
    manifest = read(written('path\nimages/a, b;c.dcm\n"images/1.dcm"\n'))
    assert (len(manifest.entries), manifest.skipped) == (2, ())


def test_a_table_of_a_windows_program_is_read(tmp_path, images):
    (images / "0.dcm").rename(images / "Thorax-ä.dcm")
    (tmp_path / "table.csv").write_bytes("path;n\r\nimages/Thorax-ä.dcm;1\r\n".encode("cp1252"))
    assert len(read(str(tmp_path / "table.csv")).entries) == 1


def test_a_parquet_table_is_known_by_its_content(tmp_path, images):
    parquet.write_table(
        pyarrow.table({"age": [1, 2, 3], "dicom": ["images/1.dcm", None, "images/0.dcm"]}), tmp_path / "x"
    )
    manifest = read(str(tmp_path / "x"))
    assert (manifest.kind, len(manifest.entries)) == ("table", 2)
    assert reasons(manifest) == [(Reason.UNREADABLE, "x")]


def as_parquet(folder, *columns, names=("path",), **options):
    parquet.write_table(pyarrow.table(list(columns), names=list(names)), folder / "x", compression="zstd", **options)
    return str(folder / "x")


BOMBS = {
    "a text in many rows": pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 200), ["x" * 100_000]),
    "rows of nothing": pyarrow.nulls(10_000),
    "a long text": pyarrow.array(["x" * 2_000_000]),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_parquet_table_that_unpacks_to_far_more_than_its_file_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr(bounded_table, "MOST_UNPACKED", 1 << 20)
    path = as_parquet(tmp_path, BOMBS[name], use_dictionary=name != "a long text")
    assert (tmp_path / "x").stat().st_size < 3000
    with pytest.raises(ManifestError, match="at most 1 MB when unpacked, found more"):
        read(path)


def test_what_a_parquet_table_says_is_refused_before_its_columns_are_read(tmp_path, monkeypatch):
    path = as_parquet(tmp_path, BOMBS["a long text"], use_dictionary=False)
    monkeypatch.setattr(bounded_table, "MOST_UNPACKED", 1 << 20)
    monkeypatch.setattr(parquet.ParquetFile, "iter_batches", None)
    with pytest.raises(ManifestError, match="at most 1 MB when unpacked, found more"):
        read(path)


@pytest.mark.parametrize("column", [pyarrow.array([{"a": "x"}]), pyarrow.array([["x"]])], ids=["struct", "list"])
def test_columns_of_parquet_that_are_no_text_are_an_error(column, tmp_path):
    with pytest.raises(ManifestError, match="expected columns of text or numbers"):
        read(as_parquet(tmp_path, column))


@pytest.mark.parametrize(
    ("column", "error"),
    [
        (pyarrow.array([b"\xff\xfe"]).view(pyarrow.string()), "UnicodeDecodeError"),
        (pyarrow.array([1 << 62]).cast(pyarrow.timestamp("us")), "OverflowError"),
    ],
    ids=["text", "time"],
)
def test_values_of_parquet_that_are_none_are_an_error(column, error, tmp_path):
    with pytest.raises(ManifestError, match=f"expected a Parquet table, got {error}"):
        read(as_parquet(tmp_path, column))


def test_two_columns_of_one_name_are_an_error(tmp_path):
    with pytest.raises(ManifestError, match="expected columns of different names"):
        read(as_parquet(tmp_path, ["a"], ["b"], names=["path", "path"]))


@pytest.mark.parametrize(
    "column", [["a.dcm", "b"], pyarrow.array(["a.dcm", "b"]).dictionary_encode(), [1, 2], [1.5, None], [None, None]]
)
def test_columns_of_any_other_kind_are_read(column, tmp_path):
    manifest = read(as_parquet(tmp_path, ["x.dcm", "y.dcm"], column, names=["path", "PatientAge"]))
    assert len(manifest.skipped) == 2


def test_names_that_no_file_system_has_are_listed(images, written):
    long = f"{'x' * 300}.dcm"
    manifest = read(written(f"path\nimages/0.dcm\n{long}\n{'a/' * 3000}b\na\x7fb\n"))
    assert len(manifest.entries) == 1
    assert len(manifest.skipped) == 3
    assert len(read(written(f"images/0.dcm\n{long}\n")).skipped) == 1
    with pytest.raises(ManifestError, match="there is nothing"):
        read(long)


def test_rows_that_lead_nowhere_are_listed(images, written):
    manifest = read(written("path,n\nimages/0.dcm,1\nimages/lost.dcm,2\n,3\nimages/0.dcm,4\nhttps://a/b.dcm,5\n"))
    assert len(manifest.entries) == 1
    assert reasons(manifest) == [
        (Reason.UNREADABLE, "cohort"),
        (Reason.UNREADABLE, "cohort"),
        (Reason.UNREADABLE, "lost.dcm"),
    ]
    assert [each.detail.split(":")[0] for each in manifest.skipped[:2]] == ["line 4", "line 6"]


def test_urls_of_imaging_data_commons_are_grouped_by_study(written):
    table = "StudyInstanceUID,Modality,series_aws_url,series_size_MB,instanceCount\n"
    rows = [(UIDS[1], "CR", 0, "1.5", 2), (UIDS[0], "DX", 1, "", 1), (UIDS[1], "DX", 2, "0.25", 1)]
    rows += [(UIDS[1], "DX", 2, "0.25", 1), (UIDS[2], "CT", 3, "400", 300)]
    table += "".join(
        f'{study},{modality},"s3://idc-open-data/{n}/*",{size},{c}\n' for study, modality, n, size, c in rows
    )
    manifest = read(written(table))
    assert [entry.key for entry in manifest.entries] == [UIDS[1], UIDS[0]]
    first, second = manifest.entries
    assert first.sources == ("s3://idc-open-data/0/*", "s3://idc-open-data/2/*")
    assert (first.size, first.instances, first.modalities) == (1_750_000, 3, ("CR", "DX"))
    assert second.size is None
    assert reasons(manifest) == [(Reason.WRONG_SOP_CLASS, "cohort")]
    seen = survey(manifest)
    assert (seen.entries, seen.local, seen.instances, seen.bytes) == (2, 0, 4, 1_750_000)
    assert (seen.unknown_bytes, seen.unknown_instances, seen.modalities) == (1, 0, {"CR": 1, "DX": 2})
    assert seen.skipped == {Reason.WRONG_SOP_CLASS: 1}


@pytest.mark.parametrize(("megabytes", "count"), [("1e302", "1e308"), ("-1", "-1"), ("nan", "inf")])
def test_sizes_that_make_no_sense_are_not_known(written, megabytes, count):
    rows = "".join(f"s3://bucket/{n}/*,{megabytes},{count}\n" for n in range(2))
    seen = survey(read(written(f"series_aws_url,series_size_MB,instanceCount\n{rows}")))
    assert (seen.unknown_bytes, seen.unknown_instances, seen.bytes, seen.instances) == (2, 2, 0, 0)


def test_a_table_without_a_usable_column_says_what_it_has_and_what_is_accepted(written):
    with pytest.raises(ManifestError) as raised:
        read(written("patient,label\n1,0\n"))
    assert "patient, label" in str(raised.value)
    assert "StudyInstanceUID" in str(raised.value)
    assert "path" in str(raised.value)


def test_paths_and_urls_do_not_mix(images, written):
    with pytest.raises(ManifestError, match="1 URLs and 1 paths"):
        read(written("path\nimages/0.dcm\ns3://bucket/x/*\n"))


@pytest.mark.parametrize("where", ["ParquetFile.__init__", "ParquetFile.iter_batches"])
def test_whatever_the_reader_of_parquet_throws_is_an_error_in_one_line(where, tmp_path, monkeypatch):
    """As for a histogram of levels whose size does not match, which fuzzing found."""
    path = as_parquet(tmp_path, ["a"])
    monkeypatch.setattr(f"pyarrow.parquet.{where}", Mock(side_effect=RuntimeError("size mismatch, size: 4")))
    with pytest.raises(ManifestError, match="expected a Parquet table, got RuntimeError"):
        read(path)
