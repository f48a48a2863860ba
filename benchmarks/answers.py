"""What the driver of a run needs for one answer, with many workers against few.

Stand-ins take the place of the workers: pipes whose other end is here for ``local``, one actor that is all of them for
``ray``. Exactly one answers at a time, and nothing is computed, so that the processor time of this process is what the
engine itself needs to hear it and to give the next item.
"""

from __future__ import annotations

import asyncio
import importlib.util
import multiprocessing
import os
import random
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from benchmarks._harness import ROOT, Missing, Plan, Row, in_turn, ratios
from cxr_dicom.cohort.cluster import connection, crew
from cxr_dicom.cohort.cluster.actor import Reply
from cxr_dicom.cohort.engines.local import Local
from cxr_dicom.cohort.worker import Worker

FEW, MANY, ANSWERS = 10, 1000, 300
_NODE = "node"


def measure(plan: Plan) -> Iterator[Row]:
    """Yield a row for each engine with a parent."""
    many, answers = (FEW + 2, 5) if plan.is_quick else (MANY, ANSWERS)
    for name, needed, goal in (("local", local, {}), ("ray", ray, {"at_most": 1.5})):
        row = f"answers: processor time of the driver for one, engine {name}, {many} workers against {FEW}"
        if name == "ray" and (plan.is_quick or importlib.util.find_spec("ray") is None):
            yield Missing(row, "a quick run starts no cluster" if plan.is_quick else "Ray is not installed")
            continue
        ways = [partial(plan.apart, needed, workers, answers) for workers in (many, FEW)]
        yield ratios(row, in_turn(*ways, plan.repeats), **goal)


class Task:
    """Work that nobody does."""

    memory_mb = None
    stage_seconds = 3600.0

    def refusal(self, worker: Worker) -> str:
        """Let everybody work."""
        return ""

    def shared(self) -> nullcontext[None]:
        """Have nothing together."""
        return nullcontext()

    def interrupt(self, item: int) -> None:
        """Have nothing to forget."""


def local(workers: int, answers: int) -> float:
    """Return the seconds for an answer of one of so many processes."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    pipes: list[Any] = []

    class Process:
        """Is ready at once; the first one has answered its first item already."""

        exitcode = None

        def __init__(self, *, args: tuple[Any, ...], **_: object) -> None:
            self._pipe = args[0]
            duplicate = os.dup(self._pipe.fileno())  # the engine closes the other one
            pipes.append(type(self._pipe)(duplicate))

        def start(self) -> None:
            pipes[-1].send((0, Worker(host="host"), None))
            if len(pipes) == 1:
                pipes[-1].send((1, None, None))

        def is_alive(self) -> bool:
            return True

        def kill(self) -> None:
            pass

        def join(self, _: float | None = None) -> None:
            pass

    def reply(worker: int) -> None:
        number, item = pipes[worker].recv()
        pipes[worker].send((number, item, None))

    context = multiprocessing.get_context("spawn")
    stand_in = SimpleNamespace(Pipe=context.Pipe, Array=context.Array, Process=Process)
    with patch("cxr_dicom.cohort.engines.local.multiprocessing.get_context", lambda _: stand_in):
        results = Local(workers).process(range(answers + 2 * workers + 1), Task())  # type: ignore[arg-type]
        next(results)
        pipes[0].recv()  # is answered already
        return _seconds(results, reply, workers, answers)


def ray(workers: int, answers: int) -> float:
    """Return the seconds for an answer of one of so many actors."""
    os.environ["PYTHONPATH"] = str(ROOT)
    with connection.connected(None, 1) as real:
        one = real.remote(max_concurrency=4 * workers)(_All).remote()
        asked: list[list[int]] = []

        def process(worker: int, item: int, is_last: bool) -> Any:
            asked[worker].append(item)
            return one.process.remote(item)

        def actor() -> Any:
            worker = len(asked)
            asked.append([])
            calls = {"hello": one.hello.remote, "start": one.start.remote, "process": partial(process, worker)}
            calls["close"] = calls["leave"] = partial(real.put, None)
            return SimpleNamespace(**{name: SimpleNamespace(remote=call) for name, call in calls.items()})

        stand_in = SimpleNamespace(
            **{name: getattr(real, name) for name in ("wait", "put", "exceptions")},
            kill=lambda _: None,
            nodes=lambda: [{"NodeID": _NODE}],
            remote=lambda **_: lambda _: SimpleNamespace(remote=actor),
        )

        def reply(worker: int) -> None:
            real.get(one.answer.remote(asked[worker].pop(0)))

        bounds = crew.Bounds(least=workers, most=workers)
        working = crew.Crew(stand_in, {}, Task(), bounds, lambda _: workers)  # type: ignore[arg-type]
        one.answer.remote(0)
        results = working.work(range(answers + 2 * workers + 1))
        next(results)
        asked[next(number for number, items in enumerate(asked) if 0 in items)].remove(0)
        needed = _seconds(results, reply, workers, answers)
        working.end()
        return needed


class _All:
    """An actor that is all workers."""

    def __init__(self) -> None:
        self._answers: dict[int, asyncio.Event] = {}

    async def hello(self) -> tuple[str, str]:
        return _NODE, "host"

    async def start(self, *_: object) -> Reply:
        return Reply(result=Worker(host="host"))

    async def process(self, item: int) -> Reply:
        await self._event(item).wait()
        return Reply(result=item)

    async def answer(self, item: int) -> None:
        self._event(item).set()

    def _event(self, item: int) -> asyncio.Event:
        return self._answers.setdefault(item, asyncio.Event())


def _seconds(results: Iterator[Any], reply: Callable[[int], None], workers: int, answers: int) -> float:
    chosen: Sequence[int] = random.Random(1).choices(range(workers), k=answers)
    needed = 0.0
    for worker in chosen:
        reply(worker)
        begun = time.process_time()
        next(results)
        needed += time.process_time() - begun
    return needed / answers
