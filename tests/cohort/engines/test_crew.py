"""Who is given what while a machine is under suspicion; stand-ins take the place of Ray and its actors."""

from concurrent.futures import Future
from types import SimpleNamespace

from cxr_dicom.cohort.cluster.actor import Reply
from cxr_dicom.cohort.cluster.crew import Bounds, Crew
from cxr_dicom.cohort.worker import Worker
from cxr_dicom.errors import PlaceError


class Task:
    memory_mb = None

    def refusal(self, worker):
        return ""

    def raise_if_here_too(self, error):
        pass


class TwoMachines:
    """Ray with one worker on each of two machines, whose answers come when the test says so."""

    exceptions = SimpleNamespace(RayTaskError=type("RayTaskError", (Exception,), {}), RayError=OSError)

    def __init__(self):
        self.at_work = {"a": {}, "b": {}}
        self._names = iter(self.at_work)

    def put(self, value):
        return value

    def nodes(self):
        return [{"NodeID": node} for node in self.at_work]

    def remote(self, **_):
        return lambda _: SimpleNamespace(remote=lambda: self._actor(next(self._names)))

    def answer(self, node, item, **reply):
        self.at_work[node].pop(item).set_result(Reply(**reply))

    def _actor(self, node):
        calls = {
            "hello": lambda: answered((node, node)),
            "start": lambda *_: answered(Reply(result=Worker(host=node))),
            "process": lambda item, _: self._process(node, item),
        }
        return SimpleNamespace(**{name: SimpleNamespace(remote=call) for name, call in calls.items()})

    def _process(self, node, item):
        future = self.at_work[node][item] = Future()
        if item == 0 and node == "a":
            self.answer(node, item, error=PlaceError("its disk is gone"))
        if item == 2:
            self.answer(node, item, result=item)
        return SimpleNamespace(future=lambda: future)


def answered(value):
    future = Future()
    future.set_result(value)
    return SimpleNamespace(future=lambda: future)


def test_a_machine_that_had_trouble_gets_nothing_new_until_another_one_tells_whose_fault_it_was():
    ray = TwoMachines()
    results = Crew(ray, {}, Task(), Bounds(least=2, most=2), lambda nodes: 2).work(range(7))
    assert next(results) == 2
    ray.answer("a", 1, result=1)
    assert next(results) == 1
    ray.answer("b", 0, result=0)
    assert next(results) == 0
    assert not ray.at_work["a"], "it was given something while it was under suspicion"
    ray.answer("b", 3, result=3)
    assert next(results) == 3
    assert set(ray.at_work["a"]) == {5, 6}
