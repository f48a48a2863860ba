"""What a manifest is, is recognised; and what is none is an error that says why."""

import gc
import os
import random
import sys
import tracemalloc
from pathlib import Path

import pytest

from cxr_dicom.errors import CxrDicomError, ManifestError
from cxr_dicom.ingest import folder
from cxr_dicom.ingest.manifest import fetched, read, survey
from cxr_dicom.system import packed
from tests.ingest.manifest.manifests import UIDS
from tests.many import instance

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
    seen = survey(manifest)
    assert (seen.entries, seen.local, seen.instances, seen.modalities) == (2, 2, 3, {"DX": 2})
    assert seen.bytes == sum(path.stat().st_size for path in images.iterdir())


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


def test_entries_are_cheap(written):
    path = written("\n".join(f"cp s3://idc-open-data/prefix-{number}/* ." for number in range(4_000)))
    tracemalloc.start()
    manifest = read(path)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(manifest.entries) == 4_000
    assert held / 4_000 < 600, "bytes per entry"


def test_a_folder_is_read_in_little_memory(tmp_path, monkeypatch):
    """Its paths, identities and UIDs are never all held at once as they are."""
    monkeypatch.setattr(packed, "_RUN", 1000)
    monkeypatch.setattr(sys, "intern", str)  # its table is made anew now and then, whoever calls
    monkeypatch.setattr(folder, "read_instance", lambda path: instance(path, int(path.stem)))

    def peak(count):
        (home := tmp_path / f"{count}").mkdir()
        for number in range(count):
            (home / f"{number:06}.dcm").touch()
        tracemalloc.start()
        assert len(read(str(home)).entries) == count
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    gc.collect()
    gc.disable()  # it empties what Python keeps for its next tuples, which would count anew
    try:
        peak(2001)  # what is made once
        assert (peak(6000) - peak(2000)) / 4000 < 500, "bytes for each study of one image"
    finally:
        gc.enable()


@pytest.mark.skipif(os.name != "posix", reason="modes are Unix's")
def test_a_manifest_that_may_not_be_read_is_an_error(written, as_nobody):
    made = Path(written("\n".join(UIDS)))
    path = as_nobody(made.parent) / made.name
    path.chmod(0)
    with pytest.raises(ManifestError, match="readable"):
        read(str(path))
