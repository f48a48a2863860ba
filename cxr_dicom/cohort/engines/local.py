"""Worker processes on this machine.

What kills a worker, a codec or a lack of memory, takes only what was at work there with it: another
worker gets those items again, each alone, so that only the one that kills is lost.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from typing import Any, Generic

import psutil

from cxr_dicom.cohort.engine import DEPTH, EngineDescription, EngineOptions, Item, Result, Task, Waiting, depth
from cxr_dicom.cohort.worker import Worker
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.system import telemetry
from cxr_dicom.system.limits import bound_memory
from cxr_dicom.system.watch import Watch

_THREADS = 1  # of the networks of a worker
_MEMORY = 2 * 2**30  # bytes that a worker may need
_LOOK_SECONDS = 1.0  # between looks at what takes too long
_MAX_CRASHES_IN_A_ROW = 6  # without an answer, per worker: more than what two items that kill can cause in each
_MAX_STILLBORN = 3  # workers that died before they were ready, where none ever was


def build(options: EngineOptions) -> Local:
    """Make the engine."""
    options.expect_only("local", "workers")
    return Local(options.workers)


class Local:
    """Worker processes, each with its own models.

    Each computes on one thread: the last bits of a network's answer depend on the number of its
    threads, and results must not depend on the number of workers. It is also the faster way.

    Parameters
    ----------
    workers
        Number of processes; None: one for each core, if the memory is enough.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers or max(1, min(cores(), psutil.virtual_memory().available // _MEMORY))
        self._crew: list[Worker] = []
        self._crashes = 0  # since the last answer

    @property
    def description(self) -> EngineDescription:
        """What ran where."""
        return EngineDescription(
            name="local", workers=self._workers, threads_per_worker=_THREADS, cores=cores(), crew=tuple(self._crew)
        )

    def process(self, items: Sequence[Item], task: Task[Item, Result]) -> Generator[Result, None, None]:
        """Yield the result of each item as it finishes; see `Engine`."""
        if items:
            with task.shared():
                yield from self._process(items, task)

    def _process(self, items: Sequence[Item], task: Task[Item, Result]) -> Generator[Result, None, None]:
        crew = [_Worker(task) for _ in range(min(self._workers, len(items)))]
        waiting, suspects = Waiting(items), deque[Item]()
        self._crew, self._crashes = [], 0
        try:
            while True:
                for worker in crew * depth(task):
                    worker.take_on(waiting, suspects)
                if not (waiting or suspects or any(worker.at_work for worker in crew)):
                    break
                busy = {worker.connection: worker for worker in crew if worker.at_work or not worker.is_ready}
                for connection in wait(list(busy), timeout=_LOOK_SECONDS):
                    worker = busy[connection]  # type: ignore[index]  # wait gives back what it was given
                    try:
                        if not worker.is_ready:
                            self._crew.append(worker.meet())
                            continue
                        yield worker.take()
                        self._crashes = 0
                    except EOFError:
                        self._expect_use(worker, len(crew))
                        suspects.extend(worker.at_work.values())
                        worker.end()
                        crew[crew.index(worker)] = _Worker(task)
                for worker in crew:
                    worker.end_if_overdue(task.stage_seconds)
        finally:
            for worker in crew:
                worker.end()
                for item in worker.at_work.values():
                    task.interrupt(item)

    def _expect_use(self, dead: _Worker[Any, Any], size: int) -> None:
        """Give up where workers die one after the other."""
        self._crashes += 1
        if not self._crew and self._crashes >= _MAX_STILLBORN:
            when = "before they have loaded the models"
        elif self._crashes > _MAX_CRASHES_IN_A_ROW * size:
            when = "whatever they are given"
        else:
            return
        raise CxrDicomError(f"worker processes die, {when}: {dead.cause_of_death()}") from None


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# --- a worker, seen from the parent --------------------------------------------------------------


class _Worker(Generic[Item, Result]):
    def __init__(self, task: Task[Item, Result]) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.at_work: dict[int, Item] = {}
        self.is_ready = False
        self._is_alone = False
        self._depth = depth(task)
        self._given = 0
        self._watch = Watch(DEPTH)
        arguments = (theirs, task, self._watch, telemetry.configuration())
        self._process = context.Process(target=_serve, args=arguments, name="cxr-dicom-worker", daemon=True)
        self._process.start()
        theirs.close()

    def take_on(self, waiting: Waiting[Item], suspects: deque[Item]) -> None:
        """Give it one more item if it has room; a suspect goes to a worker that has nothing else."""
        if not self.is_ready:
            return
        if suspects and not self.at_work:
            self._is_alone = True
            self._give(suspects.popleft())
        elif waiting and not self._is_alone and len(self.at_work) < self._depth:
            self._give(waiting.take())

    def meet(self) -> Worker:
        """Hear that it is ready, or raise why it cannot be; EOFError when the process is dead."""
        _, worker = self._heard()
        self.is_ready = True
        return worker  # type: ignore[no-any-return]

    def take(self) -> Result:
        """Return one result, or raise what the task raised; EOFError when the process is dead."""
        number, result = self._heard()
        del self.at_work[number]
        self._is_alone = False
        return result  # type: ignore[no-any-return]

    def cause_of_death(self) -> str:
        """Say how the process ended."""
        self._process.join(_LOOK_SECONDS)
        code = self._process.exitcode
        return f"killed by {signal.Signals(-code).name}" if code and code < 0 else f"ended with code {code}"

    def _heard(self) -> tuple[int, Any]:
        try:
            number, result, error = self.connection.recv()
        except OSError as broken:  # it died while it wrote
            raise EOFError from broken
        if error is not None:
            raise error
        return number, result

    def end_if_overdue(self, seconds: float) -> None:
        """Kill a process that is at one stage for longer; the next `take` sees that it is dead."""
        if self._watch.seconds() > seconds and self._process.is_alive():
            telemetry.event("worker_overdue", level=logging.WARNING, seconds=seconds)
            self._process.kill()

    def end(self) -> None:
        """Let an idle process close its task; kill one that is busy."""
        if self.at_work or not self.is_ready:
            self._process.kill()
        self.connection.close()
        self._process.join()

    def _give(self, item: Item) -> None:
        self._given += 1
        self.at_work[self._given] = item
        try:
            self.connection.send((self._given, item))
        except OSError:  # it is dead, which the next `take` reports
            return


# --- the worker process --------------------------------------------------------------------------


def _serve(parent: Connection, task: Task[Any, Any], watch: Watch, log: tuple[int, bool] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends its workers
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(_THREADS)  # before torch is imported
    telemetry.configure_as(log)
    bound_memory(task.memory_mb)
    answering = threading.Lock()
    at_work: set[int] = set()

    parent.send((0, *_attempt(task.report)))

    def answer(number: int, item: Any) -> None:
        with watch.item():
            result, error = _attempt(lambda: task(item))
        with answering:
            at_work.discard(number)
            parent.send((number, result, error))

    with ThreadPoolExecutor(DEPTH) as pool:
        while message := _next(parent):
            at_work.add(message[0])
            pool.submit(answer, *message)
        if at_work:  # nobody waits for it any more
            os._exit(1)
    task.close()


def _attempt(do: Callable[[], Any]) -> tuple[Any, CxrDicomError | None]:
    try:
        return do(), None
    except CxrDicomError as error:
        return None, error
    except Exception as error:  # a programming error; its text may hold patient data
        return None, CxrDicomError(telemetry.safe_description(error))


def _next(parent: Connection) -> tuple[int, Any] | None:
    """Wait for an item; None when the parent has no more, or is gone."""
    try:
        return parent.recv()  # type: ignore[no-any-return]
    except (EOFError, OSError):
        return None
