"""Deflated data sets: what was packed comes back, in pieces, and no further than it is read."""

import zlib
from io import BytesIO

import numpy as np
import pytest

from cxr_dicom.dicom.deflate import Inflating, deflate, inflate

PIECES = [b"a", memoryview(bytes(3_000_000)), b"", np.random.default_rng(0).bytes(500_000)]
WHOLE = b"".join(PIECES)


@pytest.fixture(scope="module", params=[False, True], ids=["", "in runs"])
def packed(request):
    return b"".join(deflate(PIECES, in_runs=request.param))


def test_what_is_packed_is_what_comes_back_for_zlib_too(packed):
    assert b"".join(inflate(BytesIO(packed))) == WHOLE
    assert zlib.decompress(packed, -zlib.MAX_WBITS) == WHOLE
    assert len(packed) < 600_000


@pytest.mark.parametrize("in_runs", [False, True])
@pytest.mark.parametrize("length", range(8))
def test_the_length_is_even(length, in_runs):
    assert len(b"".join(deflate([bytes(range(length))], in_runs=in_runs))) % 2 == 0


@pytest.mark.parametrize("length", [64_999, 65_000, 65_001, 130_000])
def test_runs_are_whole_where_zlib_begins_afresh(length):
    whole = bytes(length - 1) + b"x"
    packed = b"".join(deflate([whole[:3], memoryview(whole)[3:], b""], in_runs=True))
    assert zlib.decompress(packed, -zlib.MAX_WBITS).rstrip(b"\0") == whole.rstrip(b"\0")


def test_structures_packed_in_runs_are_smaller():
    rows, columns = np.mgrid[:1000, :900]
    disc = (((rows - 500) ** 2 + (columns - 450) ** 2) < 400**2).astype(np.uint8).tobytes()
    assert len(b"".join(deflate([disc], in_runs=True))) < 0.7 * len(b"".join(deflate([disc])))


def test_no_piece_is_large(packed):
    assert max(map(len, inflate(BytesIO(packed)))) <= 1 << 16


ACTS = [
    *(("read", 8), ("seek", 2_999_990), ("read", 30), ("seek", 5), ("read", 3), ("seek", 7, 1), ("tell",), ("read", 0)),
    *(("seek", 9_000_000), ("read", 8), ("tell",), ("seek", 1), ("read",), ("read",)),
]


def test_a_file_that_is_packed_reads_as_one_that_is_not(packed):
    ours, plain = Inflating(BytesIO(packed)), BytesIO(WHOLE)
    for name, *arguments in ACTS:
        assert getattr(ours, name)(*arguments) == getattr(plain, name)(*arguments), (name, arguments)


def test_only_what_is_read_is_unpacked(packed):
    file = BytesIO(packed + bytes(1 << 20))
    Inflating(file).read(100)
    assert file.tell() <= 1 << 16


@pytest.mark.parametrize("damage", [lambda packed: packed[:-9], lambda packed: packed[:90] + b"\xff" * 99])
def test_what_is_damaged_is_an_error(packed, damage):
    with pytest.raises((EOFError, zlib.error)):
        list(inflate(BytesIO(damage(packed))))
