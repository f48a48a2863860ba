"""What a manifest is, is recognised, and each of its lines ends in an entry or in what was skipped."""

import csv
import os
import random
import sys
import tracemalloc
from pathlib import Path

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet
from pydicom import dcmread
from pydicom.uid import UID

from cxr_dicom import testing
from cxr_dicom.errors import CxrDicomError, ManifestError
from cxr_dicom.ingest.manifest import _idc, fetched, read, survey
from cxr_dicom.records import Reason

UIDS = [f"1.2.826.0.1.{number}" for number in range(1, 4)]
SERIES = [f"s3://idc-open-data/{number:08x}-1111-4222-8333-444444444444/*" for number in range(3)]


def small(**attributes):
    return testing.radiograph(40, 32, **attributes)


def sources(manifest):
    return [list(entry.sources) for entry in manifest.entries]


def reasons(manifest):
    return [(each.reason, each.path.name) for each in manifest.skipped]


@pytest.fixture
def images(tmp_path):
    """Three images of two studies below ``images``: the second study has the first and the last file."""
    testing.write_study(
        tmp_path / "images", [small(study="2", seed=1), small(study="1", seed=2), small(study="2", seed=3)]
    )
    return tmp_path / "images"


@pytest.fixture
def written(tmp_path):
    """Write a manifest and return its path."""

    def write(content, name="cohort"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.fixture
def no_index(monkeypatch):
    monkeypatch.setattr(_idc, "index", lambda: None)


# --- folders and files ---------------------------------------------------------------------------


def test_a_folder_is_its_studies(images):
    manifest = read(str(images))
    assert manifest.kind == "folder"
    assert [len(entry.study.instances) for entry in manifest.entries] == [2, 1]
    assert [entry.key for entry in manifest.entries] == [entry.study.study_instance_uid for entry in manifest.entries]
    assert manifest.entries[1].size == (images / "1.dcm").stat().st_size
    assert {entry.modalities for entry in manifest.entries} == {("DX",)}
    assert read([images / "1.dcm", images / "0.dcm", images / "2.dcm"]).digest == manifest.digest
    assert read([images / "1.dcm"]).digest != manifest.digest


def test_the_order_of_a_list_does_not_change_its_digest(written):
    lines = [f"s3://bucket/{n}/*" for n in range(9)]
    digests = {read(written("\n".join(each))).digest for each in (lines, lines[::-1], [*lines, lines[0]])}
    assert len(digests) == 1
    assert read(written("\n".join(lines[1:]))).digest not in digests


def test_one_dicom_file_is_a_manifest(images):
    (entry,) = read(str(images / "1.dcm")).entries
    with fetched(entry, images) as (studies, skipped):
        assert (studies, skipped) == ([entry.study], [])
    assert (images / "1.dcm").exists()
    assert not (images / entry.key).exists()


def test_paths_are_never_read_as_lists(written):
    manifest = read([Path(written(f"{UIDS[0]}\n"))])
    assert (manifest.kind, manifest.entries) == ("folder", ())
    assert reasons(manifest) == [(Reason.NOT_DICOM, "cohort")]


# --- tables --------------------------------------------------------------------------------------


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


def test_a_table_without_a_usable_column_says_what_it_has_and_what_is_accepted(written):
    with pytest.raises(ManifestError) as raised:
        read(written("patient,label\n1,0\n"))
    assert "patient, label" in str(raised.value)
    assert "StudyInstanceUID" in str(raised.value)
    assert "path" in str(raised.value)


def test_paths_and_urls_do_not_mix(images, written):
    with pytest.raises(ManifestError, match="1 URLs and 1 paths"):
        read(written("path\nimages/0.dcm\ns3://bucket/x/*\n"))


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
    with pytest.raises(ManifestError, match=r"cxr-dicom\[cloud\]"):
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


@pytest.mark.parametrize("origin", ["ftp://a", "pacs", "https//x"])
def test_an_origin_is_a_url(written, origin):
    with pytest.raises(ManifestError, match="URL of a DICOMweb server"):
        read(written("\n".join(UIDS)), origin=origin)


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
    monkeypatch.setattr(_idc, "index", lambda: tmp_path / "index.parquet")


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


def test_the_real_index_where_it_is_installed(written):
    pytest.importorskip("idc_index_data")
    table = next(parquet.ParquetFile(_idc.index()).iter_batches(1000, columns=["crdc_series_uuid", "series_aws_url"]))
    manifest = read(written("\n".join(f"cp {url} ." for url in table["series_aws_url"].to_pylist())))
    assert len(manifest.entries) + len(manifest.skipped) > 0
    assert all(UID(entry.key).is_valid and entry.size for entry in manifest.entries)


# --- pictures ------------------------------------------------------------------------------------


@pytest.fixture
def picture(tmp_path):
    Image.frombytes("L", (40, 32), random.Random(1).randbytes(40 * 32)).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def test_a_picture_is_no_image_unless_asked_for(picture):
    manifest = read(str(picture))
    assert manifest.entries == ()
    assert reasons(manifest) == [(Reason.NOT_DICOM, "picture.png")]
    assert "--wrap" in manifest.skipped[0].detail


def test_a_picture_becomes_an_instance_when_it_is_fetched(tmp_path, picture, written):
    path = written("path,patient_sex,view_position,PatientAge\npicture.png,F,AP,45\n")
    (entry,) = read(path, wrap=True).entries
    with fetched(entry, tmp_path / "work") as ((study,), skipped):
        (instance,) = study.instances
        dataset = dcmread(instance.path)
        assert skipped == []
    assert (dataset.Modality, dataset.PatientSex, dataset.ViewPosition, dataset.PatientAge) == ("DX", "F", "AP", "045Y")
    assert instance.sender == picture.as_uri()
    assert list((tmp_path / "work").iterdir()) == []
    assert read(path).digest != read(path, wrap=True).digest


def test_what_was_skipped_stays_in_order(tmp_path, picture):
    for name in ("a.txt", "z.txt"):
        (tmp_path / name).write_text("text")
    assert [each.path.name for each in read([tmp_path]).skipped] == ["a.txt", "picture.png", "z.txt"]


def test_a_picture_that_cannot_be_wrapped_is_skipped(tmp_path, picture):
    picture.write_bytes(picture.read_bytes()[:300])
    (entry,) = read([tmp_path], wrap=True).entries
    with fetched(entry, tmp_path / "work") as (studies, (skipped,)):
        assert studies == []
        assert (skipped.path, skipped.reason) == (picture, Reason.CORRUPT_PIXEL_DATA)


# --- hostile input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "empty"),
        (b" \n\n", "empty"),
        (b"# only a comment\n", "no line is one"),
        (b"hello\n", "no line is one"),
        (b"a;b;c\n1;2;3\n", "found a, b, c"),
        (b"path\nx.dcm\n" + b"y" * 200_000 + b"\n", "line 3: expected at most"),
        (b"y" * 200_000, "expected at most"),
        (b'path,n\n"images/0.dcm,1\n', "line 2"),
        (b"PAR1" + bytes(100), "Parquet"),
        (b"PAR1", "Parquet"),
        (b"path\n" + b"a.dcm\n" * 20_000 + b"\xff\xfe\xfa.dcm\n", "other bytes"),
        (b"1.2.3\ncp s3://bucket/a/* .\n", "1 URLs, 1 UIDs"),
    ],
)
def test_what_is_no_manifest_is_an_error_that_says_why(written, content, text, no_index):
    with pytest.raises(ManifestError, match=text):
        read(written(content))


def test_what_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ManifestError, match="there is nothing"):
        read(str(tmp_path / "nothing"))


def test_junk_is_an_error_or_skipped_and_never_an_entry(written, no_index):
    chance = random.Random(4)
    words = [
        "path",
        "cp",
        "s3://b",
        "\0",
        "\xff",
        '"',
        "'",
        ",",
        "\t",
        "\n",
        "1.2",
        "StudyInstanceUID",
        "#",
        "PAR1",
        "/*",
    ]
    for number in range(400):
        if number % 2:
            content = chance.randbytes(chance.randrange(300))
        else:
            content = "".join(chance.choices(words, k=chance.randrange(30))).encode("utf-8", "surrogateescape")
        try:
            manifest = read(written(content))
        except CxrDicomError:
            continue
        assert manifest.entries or manifest.skipped or content.count(b"\n") <= 1, content
        assert all(entry.sources for entry in manifest.entries)


def test_nothing_of_a_list_is_lost_without_a_word(written):
    chance, count = random.Random(5), 500
    lines = [
        chance.choice(
            [f"cp s3://bucket/{n}/* .", f"s3://bucket/{n}", f"rm {n}", f"cp {n}", "cp s3://x .", f"9.{n}.", '"']
        )
        for n in range(count)
    ]
    manifest = read(written("\n".join(["s3://bucket/first", *lines])))
    assert len(manifest.entries) + len(manifest.skipped) == count + 1


def test_a_hundred_thousand_entries_are_cheap(written):
    path = written("\n".join(f"cp s3://idc-open-data/prefix-{number}/* ." for number in range(4_000)))
    tracemalloc.start()
    manifest = read(path)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(manifest.entries) == 4_000
    assert held / 4_000 < 600, "bytes per entry"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_a_manifest_that_may_not_be_read_is_an_error(written):
    path = Path(written("\n".join(UIDS)))
    path.chmod(0)
    with pytest.raises(ManifestError, match="readable"):
        read(str(path))
