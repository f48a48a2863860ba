"""Packed lists give what was put in, in its order, and take little memory."""

import gc
import random
import tracemalloc
from pathlib import Path

import pytest

from cxr_dicom.system import packed
from cxr_dicom.system.packed import Ordered, Packed
from tests.many import instance

LENGTHS = [0, 1, 127, 128, 129, 1000]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_packed_list_is_as_the_list_was(length):
    items = [(number, f"text {number}") for number in range(length)]
    kept = Packed(iter(items))
    assert (len(kept), bool(kept), [*kept]) == (length, length > 0, items)
    assert [kept[number] for number in range(-length, length)] == [items[number] for number in range(-length, length)]
    for part in (slice(None), slice(3, 200), slice(None, None, 50), slice(None, None, -1)):
        assert kept[part] == items[part]


def test_there_is_nothing_behind_the_end():
    kept = Packed([1, 2])
    for number in (2, -3):
        with pytest.raises(IndexError):
            kept[number]


@pytest.mark.parametrize("length", LENGTHS)
def test_what_comes_in_any_order_is_read_in_its_own_as_often_as_one_likes(length, monkeypatch):
    monkeypatch.setattr(packed, "_RUN", 100)
    items = [(f"{number:04}", number) for number in range(length)]
    kept = Ordered()
    for item in random.Random(1).sample(items, length):
        kept.add([item])
    assert [*kept] == [*kept] == items
    assert [*Ordered(reversed(items))] == items


def test_an_instance_takes_a_fraction_of_its_memory():
    def instances():
        return (instance(Path(f"/data/radiographs/site-1/{number:06}.dcm"), number) for number in range(2000))

    sizes = []
    Packed(instances())  # what is made once, as by imports
    for keep in (list, Packed):
        tracemalloc.start()
        kept = keep(instances())
        gc.collect()  # what Python keeps for its next tuples
        sizes.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
        assert len(kept) == 2000
    assert sizes[1] < sizes[0] / 8
