"""A worker, seen from the run: where it is, what it was given, what is expected from it."""

from __future__ import annotations

import logging
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic

from cxr_dicom import __version__
from cxr_dicom.cohort.cluster.actor import Reply, actor_class
from cxr_dicom.cohort.engine import DEPTH, Item
from cxr_dicom.cohort.machines import Job
from cxr_dicom.cohort.worker import Worker
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.system import telemetry

_END_TIMEOUT = 10.0  # seconds for a worker to end by itself
_TOLD = (  # what Ray's text of a death says, and what we say
    ("memory monitor", "killed by Ray for want of memory"),
    ("out of memory", "killed by Ray for want of memory"),
    ("node has died", "its machine is gone"),
    ("its node", "its machine is gone"),
    ("runtime_env", "its environment could not be made"),
    ("intended", "it ended by itself"),
    ("worker process has died", "its process was killed, as by a crash or the system's want of memory"),
)


class Proxy(Generic[Item]):
    """One worker. It comes (until it has said where it is), starts, and is ready.

    Ray tells of each answer by itself, through a future: waiting for one of many would ask for all of them each time.
    """

    def __init__(self, ray: Any, options: dict[str, Any], task: Any, *, starts: int = 1) -> None:
        made = ray.remote(
            **options,
            max_restarts=0,  # Ray would give it the same items again, together
            max_task_retries=0,
            max_concurrency=DEPTH + 1,  # the last thread is for the word to end
        )(actor_class())
        self.at_work: dict[Future[Any], Job[Item]] = {}
        self.node = ""  # empty until it has said where it is
        self.host = ""
        self.is_ready = False
        self.is_alone = False
        self.starts = starts  # in its place, since a worker was ready there
        self._ray = ray
        self._task = task
        self._actor = made.remote()
        self._first: Future[Any] = self._actor.hello.remote().future()  # then that of its start

    @property
    def expected(self) -> list[Future[Any]]:
        """What it has not answered yet."""
        return list(self.at_work) if self.is_ready else [self._first]

    def came(self, news: Future[Any]) -> None:
        """Hear where it is, and let it start."""
        self.node, self.host = news.result()
        arguments = __version__, str(Path.cwd()), self._task, telemetry.configuration()
        self._first = self._actor.start.remote(*arguments).future()

    def started(self, news: Future[Any]) -> Worker:
        """Hear who it is.

        Raises
        ------
        CxrDicomError
            If it cannot work.
        """
        answer = news.result()
        if isinstance(answer, str):
            raise CxrDicomError(answer)
        worker: Worker = self._heard(answer)
        self.is_ready = True
        return replace(worker, host=self.host, node=self.node)

    def give(self, job: Job[Item]) -> Future[Any]:
        """Give it a job; return its answer to come."""
        self.is_alone = job.has_killed
        request: Future[Any] = self._actor.process.remote(job.item, job.is_last).future()
        self.at_work[request] = job
        return request

    def answered(self, news: Future[Any]) -> Any:
        """Return an answer, or raise what the task raised; RayError when the worker is dead."""
        answer = news.result()
        del self.at_work[news]
        self.is_alone = False
        return self._heard(answer)

    def end(self) -> None:
        """Let an idle actor close its task; stop a busy one, and wait until it has ended."""
        if self.is_ready:
            word = self._actor.leave if self.at_work else self._actor.close
            self._ray.wait([word.remote()], timeout=_END_TIMEOUT)
        self._ray.kill(self._actor)

    def _heard(self, answer: Reply) -> Any:
        for record in answer.log:
            logging.getLogger(record.name).handle(record)
        if answer.error is not None:
            raise answer.error
        return answer.result


def cause_of_death(error: BaseException) -> str:
    """Say why a worker died, in words of ours: Ray's may quote anything."""
    text = str(error).lower()
    return next((said for told, said in _TOLD if told in text), type(error).__name__)
