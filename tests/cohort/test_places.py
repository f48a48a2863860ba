"""Where states lie is known by key, whatever came in between, and takes little memory."""

import gc
import random
import tracemalloc

import pytest

from cxr_dicom.cohort import places as module
from cxr_dicom.cohort.places import Place, Places
from tests.many import uid


@pytest.mark.parametrize("latest", [1, 7, 4096])
def test_the_latest_place_of_a_key_counts_and_none_of_an_earlier_session(latest, monkeypatch):
    monkeypatch.setattr(module, "_LATEST", latest)
    chance, kept, expected = random.Random(1), Places(), {}
    for number in range(4000):
        key, place = uid(chance.randrange(2000)), Place(chance.randrange(3), number * 2**33, number)
        counts = place.journal >= expected.get(key, place).journal
        assert kept.note(key, place) == counts
        expected |= {key: place} if counts else {}
        assert kept[key] == expected[key]
    assert (len(kept), [*kept], [*kept.in_order()]) == (len(expected), sorted(expected), sorted(expected.values()))
    assert {key: kept[key] for key in expected} == expected
    assert kept[uid(2000)] is None


def test_a_place_takes_fewer_bytes_than_its_key():
    def taken(count):
        tracemalloc.start()
        kept = Places()
        for number in range(count):
            kept.note(uid(number), Place(1, number * 3000, 3000))
        assert len(kept) == count
        gc.collect()  # what Python keeps for its next tuples
        found = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        return found

    sizes = [taken(count * module._LATEST) for count in (2, 6)]  # 2: the keys are in one run, which was put in order
    assert (sizes[1] - sizes[0]) / (4 * module._LATEST) < 75, "bytes for each; a key alone has 110"
