"""Vectors of a run, in a table of their own."""

import numpy as np
import pytest
from pyarrow import parquet

from cxr_dicom.errors import CxrDicomError
from cxr_dicom.results import embeddings
from tests.cohort_rows import processed

CHANCE = np.random.default_rng(0)


def packed(vector):
    return embeddings.base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()


@pytest.fixture
def rows():
    """Five images; the last has no vector, and the fourth that of one model only."""
    vectors = [{"wide": CHANCE.random(300, np.float32), "narrow": CHANCE.random(2, np.float32)} for _ in range(4)]
    del vectors[3]["wide"]
    uids = [f"1.2.{number}" for number in range(5)]
    return [(processed(sop_instance_uid=uid), each) for uid, each in zip(uids, [*vectors, {}], strict=True)]


def given(rows):
    return ((row, {model: packed(vector) for model, vector in each.items()}) for row, each in rows)


def test_a_table_has_a_row_for_each_image_and_is_read_back(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "_NUMBERS_PER_GROUP", 700)  # two images in a group
    path = tmp_path / embeddings.FILE
    embeddings.write(path, {"wide": 300, "narrow": 2}, given(rows))
    table = parquet.read_table(path)
    assert [str(kind) for kind in table.schema.types] == ["string"] * 3 + [
        "fixed_size_list<element: float>[2]",
        "fixed_size_list<element: float>[300]",
    ]
    assert table.num_rows == 4
    found = embeddings.Embeddings(path)
    assert list(found) == [row["sop_instance_uid"] for row, _ in rows[:4]]
    for row, vectors in rows[:4]:
        read = found[row["sop_instance_uid"]]
        assert read.keys() == vectors.keys()
        assert all(np.array_equal(read[model], vector) for model, vector in vectors.items())
    with pytest.raises(KeyError):
        found["1.2.4"]


def test_vectors_of_two_widths_are_refused(rows, tmp_path):
    with pytest.raises(CxrDicomError, match="wide: expected vectors of 301 numbers in one run, got 300"):
        embeddings.write(tmp_path / embeddings.FILE, {"wide": 301, "narrow": 2}, given(rows))
    assert list(tmp_path.iterdir()) == []


def test_without_vectors_there_is_no_table_and_none_is_left(rows, tmp_path):
    path = tmp_path / embeddings.FILE
    embeddings.write(path, {"wide": 300, "narrow": 2}, given(rows))
    embeddings.write(path, {}, given(rows))
    assert not path.exists()
    assert dict(embeddings.Embeddings(path)) == {}


def test_another_file_is_told(tmp_path):
    (tmp_path / "other").write_text("no table")
    with pytest.raises(CxrDicomError, match="expected a table of vectors, got ArrowInvalid"):
        embeddings.Embeddings(tmp_path / "other")
