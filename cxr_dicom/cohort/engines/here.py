"""In this process: for a few studies, and for those who call the library."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from cxr_dicom.cohort.engine import DEPTH, EngineDescription, EngineOptions, Item, Result, Task
from cxr_dicom.cohort.worker import Worker


def build(options: EngineOptions) -> Here:
    """Make the engine."""
    options.expect_only("here")
    return Here()


class Here:
    """No other process. What kills a worker ends the program."""

    def __init__(self) -> None:
        self._crew: tuple[Worker, ...] = ()

    @property
    def description(self) -> EngineDescription:
        """What ran where."""
        return EngineDescription(name="here", crew=self._crew)

    def process(self, items: Sequence[Item], task: Task[Item, Result]) -> Generator[Result, None, None]:
        """Yield the result of each item, in order; see `Engine`."""
        if not items:
            task.close()
            return
        with task.shared():
            self._crew = (task.report(),)
            yield from self._process(items, task)
            task.close()

    def _process(self, items: Sequence[Item], task: Task[Item, Result]) -> Generator[Result, None, None]:
        waiting = iter(items)
        at_work: deque[tuple[Item, Future[Result]]] = deque()
        try:
            with ThreadPoolExecutor(DEPTH) as pool:
                try:
                    while True:
                        while len(at_work) < DEPTH and (item := next(waiting, None)) is not None:
                            at_work.append((item, pool.submit(task, item)))
                        if not at_work:
                            break
                        try:
                            result = at_work[0][1].result()
                        except Exception:
                            yield from _finished_beside(at_work)  # what is finished is kept
                            raise
                        at_work.popleft()
                        yield result
                finally:
                    for _, future in at_work:
                        future.cancel()
        finally:
            for item, _ in at_work:  # whose results nobody takes any more
                task.interrupt(item)


def _finished_beside(at_work: deque[tuple[Item, Future[Result]]]) -> Iterator[Result]:
    """Yield the results of what is at work beside an item that ends the run."""
    for item, future in list(at_work)[1:]:
        if not future.cancel() and future.exception() is None:
            at_work.remove((item, future))
            yield future.result()
