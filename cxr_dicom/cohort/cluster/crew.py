"""The workers of a run: as many as find room within bounds, replaced when they die, each given what it may do."""

from __future__ import annotations

import logging
import pickle
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from typing import Any, Generic

from cxr_dicom import __version__
from cxr_dicom.cohort.cluster.proxy import Proxy, cause_of_death
from cxr_dicom.cohort.engine import Item, Result, Task, Waiting, depth
from cxr_dicom.cohort.machines import Job, Machines
from cxr_dicom.cohort.worker import Worker
from cxr_dicom.errors import CxrDicomError, PlaceError, WantError
from cxr_dicom.system import telemetry

MAX_CRASHES_IN_A_ROW = 6  # without an answer, per worker: more than what two items that kill can cause in each
MAX_STARTS = 3  # of a worker that dies before it is ready; then its place stays empty
_LOOK_SECONDS = 5.0  # between looks at what the cluster offers
_SILENCE_SECONDS = 60.0  # without a worker before the log says that none has found room
_GATHER_SECONDS = 30.0  # for which machines that have not come yet are waited for, before one is taken for the only one


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """How many workers a run has."""

    least: int  # asked for, whether there is room or not
    most: int | None  # None: as many as find room

    def target(self, room: int, items: int) -> int:
        """Return how many there are to be, where there is room for ``room``, and so many items are left."""
        found = max(self.least, room, 1)
        return min(found, items, self.most or found)


class Crew(Generic[Item, Result]):
    """The workers of a run.

    Parameters
    ----------
    room
        Tells how many workers the machines hold that Ray describes.
    """

    def __init__(
        self,
        ray: Any,
        options: dict[str, Any],
        task: Task[Item, Result],
        bounds: Bounds,
        room: Callable[[Sequence[dict[str, Any]]], int],
    ) -> None:
        self.seen: list[Worker] = []  # all that came, with what became of them
        self._ray = ray
        self._options = options
        self._task = task
        self._bounds = bounds
        self._room = room
        self._pickled = ray.put(pickle.dumps(task))
        self._machines = Machines[Item]()
        self._proxies: dict[Proxy[Item], None] = {}  # in the order in which they were started
        self._nodes: Counter[str] = Counter()  # of the proxies; "" of those that have not come
        self._idle: dict[Proxy[Item], None] = {}  # have room, and there was nothing that they may do
        self._expected: dict[Future[Any], Proxy[Item]] = {}
        self._news: SimpleQueue[Future[Any]] = SimpleQueue()
        self._retries: list[Job[Item]] = []
        self._waiting = Waiting[Item](())
        self._left = 0
        self._given_up = 0  # places that stay empty
        self._crash_count = 0
        self._began = self._looked_at = self._heard_at = time.monotonic()
        self._errors: dict[str, CxrDicomError] = {}  # by host

    def work(self, items: Sequence[Item]) -> Iterator[Result]:
        """Yield the result of each item as it finishes."""
        self._waiting = Waiting(items)
        self._left = len(items)
        self._fill()
        while self._left:
            if time.monotonic() - self._looked_at > _LOOK_SECONDS:
                self._fill()
            self._hand_out(self._proxies if self._retries else tuple(self._idle))
            for news in self._next_news():
                proxy = self._expected.pop(news, None)
                if proxy is not None and proxy in self._proxies:
                    yield from self._hear(proxy, news)
                    self._hand_out([proxy] if proxy in self._proxies else ())

    def end(self) -> None:
        """Stop the workers; a busy one is stopped at once."""
        for proxy in self._proxies:
            proxy.end()
        for proxy in self._proxies:
            for job in proxy.at_work.values():
                self._task.interrupt(job.item)

    # --- how many ---

    def _fill(self) -> None:
        """Start workers where there is room for more, and call those off that wait for room that is gone."""
        self._looked_at = time.monotonic()
        try:
            nodes = [node for node in self._ray.nodes() if node["NodeID"] not in self._machines.barred]
        except Exception as error:  # Ray has many
            raise CxrDicomError(f"the Ray cluster does not answer any more: {type(error).__name__}") from error
        if self._machines.barred and not self._room(nodes):
            raise self._nobody_left()
        target = self._bounds.target(self._room(nodes), self._left) - self._given_up
        if target < 1:
            raise self._nobody_left()
        for _ in range(target - len(self._proxies)):
            self._start()
        for proxy in [proxy for proxy in self._proxies if not proxy.node][: max(0, len(self._proxies) - target)]:
            self._dismiss(proxy)

    def _start(self, starts: int = 1) -> None:
        barred = self._machines.barred
        elsewhere = {"label_selector": {"ray.io/node-id": f"!in({','.join(sorted(barred))})"}} if barred else {}
        proxy = Proxy[Item](self._ray, self._options | elsewhere, self._pickled, starts=starts)
        self._proxies[proxy] = None
        self._nodes[proxy.node] += 1
        self._expect(proxy, *proxy.expected)

    def _expect(self, proxy: Proxy[Item], *requests: Future[Any]) -> None:
        for request in requests:
            self._expected[request] = proxy
            request.add_done_callback(self._news.put)

    def _dismiss(self, proxy: Proxy[Item]) -> None:
        del self._proxies[proxy]
        self._idle.pop(proxy, None)
        self._nodes[proxy.node] -= 1
        for request in proxy.expected:
            self._expected.pop(request, None)
        proxy.end()

    # --- who is given what ---

    def _hand_out(self, proxies: Iterable[Proxy[Item]]) -> None:
        usable = {node for node, count in self._nodes.items() if node and count}
        is_gathered = time.monotonic() - self._began > _GATHER_SECONDS or not self._nodes[""]
        deep = depth(self._task)
        for _ in range(deep):
            for proxy in proxies:
                if not (self._waiting or self._retries):
                    return
                if proxy.is_ready and not proxy.is_alone and len(proxy.at_work) < deep:
                    self._give(proxy, usable, is_gathered=is_gathered)

    def _give(self, proxy: Proxy[Item], usable: set[str], *, is_gathered: bool) -> None:
        job = self._next_job(proxy, usable, is_gathered=is_gathered)
        if job is None:
            self._idle[proxy] = None
        else:
            self._idle.pop(proxy, None)
            job.is_last = is_gathered and self._machines.is_last(job, proxy.node, usable)
            self._expect(proxy, proxy.give(job))

    def _next_job(self, proxy: Proxy[Item], usable: set[str], *, is_gathered: bool) -> Job[Item] | None:
        for job in self._retries:
            is_early = not is_gathered and not usable - job.tried
            if is_early or not self._machines.may_retry(proxy.node, job, usable):
                continue
            if job.has_killed and proxy.at_work:
                return None  # it takes nothing new until it has nothing else
            self._retries.remove(job)
            return job
        if self._waiting and self._machines.may_take_new(proxy.node):
            return Job(item=self._waiting.take())
        return None

    # --- what they say ---

    def _next_news(self) -> Sequence[Future[Any]]:
        """Wait for workers that came, are ready, have an answer, or died; all that did."""
        news: list[Future[Any]] = []
        with suppress(Empty):
            news.append(self._news.get(timeout=_LOOK_SECONDS))
            while True:
                news.append(self._news.get_nowait())
        now = time.monotonic()
        if news or any(proxy.is_ready for proxy in self._proxies):
            self._heard_at = now
        elif now - self._heard_at > _SILENCE_SECONDS:
            self._heard_at = now
            telemetry.event("ray_has_no_room_yet", level=logging.WARNING)
        return news

    def _hear(self, proxy: Proxy[Item], news: Future[Any]) -> Iterator[Result]:
        try:
            if not proxy.node:
                proxy.came(news)
                self._arrived(proxy)
            elif not proxy.is_ready:
                self._admit(proxy, news)
            else:
                yield from self._answer(proxy, news)
        except self._ray.exceptions.RayTaskError as error:  # outside of the task: something cannot be pickled
            raise CxrDicomError(f"a Ray worker failed: {type(error.cause).__name__}") from None
        except self._ray.exceptions.RayError as error:
            self._died(proxy, cause_of_death(error))

    def _arrived(self, proxy: Proxy[Item]) -> None:
        self._nodes.subtract([""])
        self._nodes[proxy.node] += 1
        self._machines.met(proxy.node, proxy.host)
        if proxy.node in self._machines.barred:
            self._dismiss(proxy)
        else:
            self._expect(proxy, *proxy.expected)

    def _admit(self, proxy: Proxy[Item], news: Future[Any]) -> None:
        try:
            worker = proxy.started(news)
            why = self._task.refusal(worker)
            error = CxrDicomError(why) if why else None
        except CxrDicomError as refused:
            worker, error = Worker(host=proxy.host, node=proxy.node), refused
        self.seen.append(worker)
        if error is None:
            self._machines.ready(proxy.node)
            telemetry.event("worker_ready", host=proxy.host, processor=worker.instruction_set)
        else:
            self._bar(proxy.node, error)

    def _answer(self, proxy: Proxy[Item], news: Future[Any]) -> Iterator[Result]:
        job = proxy.at_work[news]
        try:
            answer = proxy.answered(news)
        except PlaceError as error:
            self._crash_count = 0
            self._could_not(proxy, job, error)
            return
        self._crash_count = 0
        self._left -= 1
        for node, why in self._machines.done(proxy.node, job).items():
            self._bar(node, PlaceError(why))
        yield answer

    def _could_not(self, proxy: Proxy[Item], job: Job[Item], error: PlaceError) -> None:
        """Trouble of a place: the job goes elsewhere. What no place can have is trouble of the run."""
        self._retries.append(job)
        self._task.raise_if_here_too(error)
        self._machines.failed(proxy.node, job, str(error), elsewhere=not job.is_last)
        telemetry.event("worker_could_not", level=logging.WARNING, host=proxy.host, error=str(error))
        if job.is_last or isinstance(error, WantError):
            self._bar(proxy.node, error)

    def _bar(self, node: str, error: CxrDicomError) -> None:
        """Use a machine no longer; what its workers are at goes to others."""
        if node in self._machines.barred:
            return
        there = [proxy for proxy in self._proxies if proxy.node == node]
        host = there[0].host if there else next(worker.host for worker in self.seen if worker.node == node)
        self._machines.met(node, host)
        self._machines.bar(node, str(error))
        self._errors[host] = error
        self.seen = [replace(each, refused=str(error)) if each.node == node else each for each in self.seen]
        telemetry.event("machine_refused", level=logging.WARNING, host=host, error=str(error))
        for proxy in there:
            self._dismiss(proxy)
            for job in proxy.at_work.values():
                self._task.interrupt(job.item)
                self._retries.append(job)
        self._fill()

    def _died(self, dead: Proxy[Item], cause: str) -> None:
        self._dismiss(dead)
        telemetry.event("worker_died", level=logging.WARNING, host=dead.host or None, error=cause)
        if dead.is_ready:
            self._crash_count += 1
            if self._crash_count > MAX_CRASHES_IN_A_ROW * (len(self._proxies) + 1):
                raise CxrDicomError(f"Ray workers die, whatever they are given ({cause}); {_QUESTION}")
        elif dead.node and (why := self._machines.stillborn(dead.node, cause)):
            self.seen.append(Worker(host=dead.host, node=dead.node))
            self._bar(dead.node, CxrDicomError(f"{why}; {_QUESTION}"))
            return
        elif dead.starts >= MAX_STARTS:
            telemetry.event("ray_worker_given_up", level=logging.WARNING, host=dead.host or None, error=cause)
            self._errors.setdefault(dead.host or "a machine", CxrDicomError(f"its workers die: {cause}; {_QUESTION}"))
            self._given_up += 1
            self._fill()
            return
        has_others = len({proxy.node for proxy in self._proxies if proxy.node} - {dead.node}) > 0
        for number, job in enumerate(dead.at_work.values()):
            job.has_killed = True
            self._machines.failed(dead.node, job, cause, elsewhere=has_others and number == 0)  # one death is one fault
            self._retries.append(job)
        self._start(1 if dead.is_ready else dead.starts + 1)

    def _nobody_left(self) -> CxrDicomError:
        if len(self._errors) == 1 and len({worker.node for worker in self.seen}) == 1:
            return next(iter(self._errors.values()))
        kinds = {type(error) for error in self._errors.values()}
        kind = kinds.pop() if len(kinds) == 1 else CxrDicomError
        return kind("no machine can work: " + "; ".join(f"{host}: {why}" for host, why in self._errors.items()))


_QUESTION = f"is cxr-dicom {__version__} installed on every machine?"
