"""Lists of URLs, paths and UIDs, and what the index of Imaging Data Commons knows of them."""

import sys

import pyarrow
import pytest
from pyarrow import parquet
from pydicom.uid import UID

from cxr_dicom.errors import ManifestError
from cxr_dicom.ingest.manifest import idc, read
from cxr_dicom.records import Reason
from tests.ingest.manifest.manifests import UIDS, reasons, sources

SERIES = [f"s3://idc-open-data/{number:08x}-1111-4222-8333-444444444444/*" for number in range(3)]


# --- lists ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "cp s3://bucket/a/* .",
        "cp --concurrency 5 --sp 's3://bucket/a/*' './to here/'",
        's5cmd --no-sign-request cp "s3://bucket/a/*" /data/',
        "sync s3://bucket/a/* out",
        "aws s3 cp --recursive s3://bucket/a/ .",
        "s3://bucket/a/",
        "   s3://bucket/a/*   ",
    ],
)
def test_ways_to_write_what_is_copied(written, line):
    manifest = read(written(f"# a comment with s3://other/x/*\n\n{line}\n{line}\ncp s3://bucket/b.dcm .\n"))
    assert manifest.kind == "s5cmd"
    assert sources(manifest) == [["s3://bucket/a/*"], ["s3://bucket/b.dcm"]]
    assert all(entry.key[0] == "x" and len(entry.key) == 33 for entry in manifest.entries)


def test_buckets_need_their_client(written, monkeypatch):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(ManifestError, match=r"pip install '\.\[cloud\]'"):
        read(written("s3://bucket/a/*"))


@pytest.mark.parametrize(
    "line",
    ["rm s3://bucket/a/*", "cp ./here s3://bucket/a/", "cp 's3://bucket/a .", "s3://", "s3:///a", "cp s3://bucket/*"],
)
def test_lines_that_copy_nothing_are_listed(written, line):
    manifest = read(written(f"cp s3://bucket/a/* .\n{line}\n"))
    assert len(manifest.entries) == 1
    assert reasons(manifest) == [(Reason.UNREADABLE, "cohort")]
    assert manifest.skipped[0].detail.startswith("line 2:")
    assert "bucket" not in manifest.skipped[0].detail


def test_a_manifest_of_the_portal_for_google_is_one_of_gs_urls(written):
    command = "# s5cmd --no-sign-request --endpoint-url https://storage.googleapis.com run cohort\n"
    manifest = read(written(command + "cp s3://public-datasets-idc/a/* .\n"))
    assert sources(manifest) == [["gs://public-datasets-idc/a/*"]]
    assert sources(read(written("gs://b-c/x\ngcs://b-c/x\n"))) == [["gs://b-c/x"]]


def test_a_list_of_paths_needs_no_header(images, written):
    manifest = read(written(f"images/1.dcm\n{images / '0.dcm'}\nimages/lost.dcm\n"))
    assert (manifest.kind, len(manifest.entries)) == ("table", 2)
    assert [each.detail.split(":")[0] for each in manifest.skipped] == ["line 3"]


def test_uids_lead_to_their_server(written):
    text = f"# cohort\n\n{UIDS[1]}\r\n{UIDS[0]}\n{UIDS[1]}\nSmith^John\n"
    manifest = read(written(text), origin="https://pacs.example/dicom-web/")
    assert manifest.kind == "uids"
    assert sources(manifest) == [[f"https://pacs.example/dicom-web/studies/{uid}"] for uid in (UIDS[1], UIDS[0])]
    assert [entry.key for entry in manifest.entries] == [UIDS[1], UIDS[0]]
    (lost,) = manifest.skipped
    assert "line 6" in lost.detail
    assert "Smith" not in lost.detail


def test_a_column_of_uids_may_name_series(written):
    origin = "https://pacs.example/dicom-web"
    table = f"study_instance_uid,SeriesInstanceUID\n{UIDS[0]},{UIDS[1]}\n{UIDS[0]},{UIDS[2]}\n{UIDS[1]},\n,{UIDS[2]}\n"
    manifest = read(written(table + f"{UIDS[1]},{UIDS[0]}\nx,y\n"), origin=origin)
    assert sources(manifest) == [
        [f"{origin}/studies/{UIDS[0]}/series/{UIDS[1]}", f"{origin}/studies/{UIDS[0]}/series/{UIDS[2]}"],
        [f"{origin}/studies/{UIDS[1]}"],
    ]
    assert sorted(each.detail.split(":")[0] for each in manifest.skipped) == ["line 5", "line 7"]


def test_uids_alone_lead_nowhere(written, no_index):
    with pytest.raises(ManifestError, match=r"--from URL.*idc-index-data"):
        read(written("\n".join(UIDS)))


@pytest.mark.parametrize("origin", ["ftp://a", "pacs", "https//x", "https://doe:hunter2@x/dicom-web"])
def test_an_origin_is_a_url(written, origin):
    with pytest.raises(ManifestError, match="URL of a DICOMweb server") as refused:
        read(written("\n".join(UIDS)), origin=origin)
    assert "hunter2" not in str(refused.value)


def test_a_url_with_a_password_is_listed_without_it(written):
    urls = ["https://x/studies/1.2", "https://doe:hunter2@x/studies/1.3"]
    manifest = read(written("\n".join(urls)))
    assert sources(manifest) == [urls[:1]]
    assert [each.detail.split(":")[0] for each in manifest.skipped] == ["line 2"]
    assert "hunter2" not in manifest.skipped[0].detail


# --- the index of Imaging Data Commons -----------------------------------------------------------


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A small index with the columns of the real one: one study of two series, one of a CT."""
    rows = [
        {
            "StudyInstanceUID": UIDS[0] if number < 2 else UIDS[1],
            "SeriesInstanceUID": f"{UIDS[2]}.{number}",
            "Modality": ["CR", "DX", "CT"][number],
            "crdc_series_uuid": url.split("/")[3],
            "series_aws_url": url,
            "series_size_MB": 1.25,
            "instanceCount": 2,
        }
        for number, url in enumerate(SERIES)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "index.parquet")
    monkeypatch.setattr(idc, "index", lambda: tmp_path / "index.parquet")


def test_the_index_groups_series_by_study(written, index):
    lines = [f"cp {url} ." for url in SERIES] + ["cp s3://idc-open-data/ffffffff-1111-4222-8333-444444444444/* ."]
    manifest = read(written("\n".join(lines)))
    assert [entry.key[:9] for entry in manifest.entries] == [UIDS[0][:9], manifest.entries[1].key[:9]]
    first = manifest.entries[0]
    assert (first.key, list(first.sources), first.size, first.instances) == (UIDS[0], SERIES[:2], 2_500_000, 4)
    assert reasons(manifest) == [(Reason.WRONG_SOP_CLASS, "cohort")]


def test_the_index_finds_studies_and_series_by_uid(written, index):
    studies = read(written("\n".join(UIDS)))
    assert sources(studies) == [SERIES[:2]]
    assert sorted(reason for reason, _ in reasons(studies)) == [Reason.UNREADABLE, Reason.WRONG_SOP_CLASS]
    series = read(written(f"SeriesInstanceUID\n{UIDS[2]}.1\n{UIDS[2]}.9\n"))
    assert sources(series) == [SERIES[1:2]]
    assert [each.detail.split(":")[0] for each in series.skipped] == ["line 3"]


def test_the_real_index(written):
    table = next(parquet.ParquetFile(idc.index()).iter_batches(1000, columns=["crdc_series_uuid", "series_aws_url"]))
    manifest = read(written("\n".join(f"cp {url} ." for url in table["series_aws_url"].to_pylist())))
    assert len(manifest.entries) + len(manifest.skipped) > 0
    assert all(UID(entry.key).is_valid and entry.size for entry in manifest.entries)
