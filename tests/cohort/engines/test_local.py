"""Worker processes of this machine: every item is answered once, whatever dies."""

import os
import time
from collections.abc import Sequence

import pytest

from cxr_dicom.cohort.engine import DEPTH
from cxr_dicom.cohort.engines.here import Here
from cxr_dicom.cohort.engines.local import Local
from cxr_dicom.errors import CxrDicomError, WeightsError
from tests.cohort.engines.ray_tasks import Gathering
from tests.cohort.engines.tasks import Clumsy, Deadly, Greedy, Hanging, Squares


@pytest.fixture(params=["here", "two workers"])
def engine(request):
    return {"here": Here(), "two workers": Local(2)}[request.param]


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_every_item_is_answered_once(engine, tmp_path):
    assert sorted(engine.process(range(20), Squares(tmp_path))) == [(n, n**2) for n in range(20)]


def test_nothing_to_do_is_done(engine, tmp_path):
    assert list(engine.process([], Squares(tmp_path))) == []


class Made(Sequence):
    """Items that are made when they are asked for."""

    def __init__(self, items):
        self.items, self.made = items, 0

    def __len__(self):
        return len(self.items)

    def __getitem__(self, number):
        self.made += 1
        return self.items[number]


def test_items_are_made_when_their_turn_comes(engine, tmp_path):
    items = Made(range(100))
    results = engine.process(items, Squares(tmp_path))
    next(results)
    assert items.made <= 1 + 2 * DEPTH + 1
    results.close()


def test_an_error_of_the_task_ends_the_run(engine, tmp_path):
    with pytest.raises(WeightsError, match="weights are missing"):
        list(engine.process(range(20), Squares(tmp_path, bad=[3])))


def test_work_is_done_by_as_many_processes_as_there_are_workers(tmp_path):
    task = Gathering(tmp_path, 2)
    list(Local(2).process(range(20), task))
    assert len(task.pids("built")) == 2
    assert os.getpid() not in task.pids("built")
    assert task.pids("closed") == task.pids("built")


def test_what_kills_its_worker_is_given_up_and_all_else_is_answered(tmp_path):
    answers = sorted(Local(2).process(range(12), Squares(tmp_path, killers=[3, 4, 11])), key=lambda each: each[0])
    assert answers == [(n, "gave up" if n in (3, 4, 11) else n**2) for n in range(12)]


def test_what_hangs_is_ended_by_the_parent_and_all_else_is_answered(tmp_path):
    begun = time.monotonic()
    answers = sorted(Local(1).process(range(6), Hanging(tmp_path, slow=[2])), key=lambda each: each[0])
    assert answers == [(n, "gave up" if n == 2 else n**2) for n in range(6)]
    assert time.monotonic() - begun < 60, "one attempt would last 60 s without an end to it"


def test_beside_an_item_whose_memory_is_bounded_stands_no_other(tmp_path):
    answers = dict(Local(1).process(range(5), Greedy(tmp_path, greedy=[1, 3])))
    assert answers == {0: 1, 1: "too much", 2: 1, 3: "too much", 4: 1}


def test_a_neighbour_of_what_kills_is_suspected_once_only(tmp_path):
    list(Local(1).process(range(12), Squares(tmp_path, killers=[5])))
    begun = {number: len(list(tmp_path.glob(f"begun-{number}-*"))) for number in range(12)}
    assert begun.pop(5) == 3
    assert max(begun.values()) <= 2


def test_a_closed_generator_stops_its_workers_and_says_what_was_at_work(tmp_path):
    task = Squares(tmp_path, slow=range(2, 20))
    results = Local(1).process(range(20), task)
    assert sorted([next(results), next(results)]) == [(0, 0), (1, 1)]
    while not list(tmp_path.glob("begun-2-*")):
        time.sleep(0.01)
    results.close()
    assert task.interrupted() == {2}
    assert not any(is_running(pid) for pid in task.pids("built"))


def test_workers_that_die_whatever_they_are_given_end_the_run(tmp_path):
    with pytest.raises(CxrDicomError, match="whatever they are given"):
        list(Local(1).process(range(100), Deadly(tmp_path)))


def test_a_programming_error_is_told_without_its_text(tmp_path):
    with pytest.raises(CxrDicomError) as raised:
        list(Local(1).process([1], Clumsy(tmp_path)))
    assert "KeyError" in str(raised.value)
    assert "Doe" not in str(raised.value)


def test_the_description_is_for_people():
    assert Local(2).description.as_dict() == {
        "name": "local",
        "workers": 2,
        "threads_per_worker": 1,
        "cores": len(os.sched_getaffinity(0)),
    }
