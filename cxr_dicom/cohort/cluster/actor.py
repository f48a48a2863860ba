"""A worker, in its own process on some machine."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from logging.handlers import QueueHandler
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from cxr_dicom.cohort.engine import DEPTH
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.system import telemetry
from cxr_dicom.system.limits import bound_memory
from cxr_dicom.system.watch import Watch, end_this_process_after


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """Errors are answers: Ray writes the text of an exception, which may hold patient data, to its logs."""

    result: Any = None
    error: CxrDicomError | None = None
    log: Sequence[logging.LogRecord] = ()


def actor_class() -> type:
    """Make the class of an actor. It travels whole and needs nothing of ours: a machine may have another, or none."""

    class Worker:
        def hello(self) -> tuple[str, str]:
            import socket

            import ray

            return str(ray.get_runtime_context().get_node_id()), socket.gethostname()

        def start(self, version: str, folder: str, task: bytes, log: Any) -> Any:
            try:
                import cxr_dicom

                if cxr_dicom.__version__ != version:
                    return f"expected cxr-dicom {version}, as here, found {cxr_dicom.__version__}"
                from cxr_dicom.cohort.cluster.actor import Actor
            except Exception as error:
                return f"cxr-dicom cannot be used there ({type(error).__name__})"
            self._actor = Actor(log)
            return self._actor.start(folder, task)

        def process(self, item: Any, is_last: bool) -> Any:
            return self._actor.process(item, is_last=is_last)

        def close(self) -> None:
            self._actor.close()

        def leave(self) -> None:
            import os

            os._exit(0)

    return Worker


class Actor:
    """What an actor is, once it is known to be of this version."""

    def __init__(self, log: tuple[int, bool] | None) -> None:
        telemetry.configure_as(log or (0, False))  # without one too, for it silences the libraries
        self._watch = Watch(DEPTH)
        self._log: SimpleQueue[logging.LogRecord] = SimpleQueue()
        logging.getLogger("cxr_dicom").handlers = [QueueHandler(self._log)]  # it is written where the run was started

    def start(self, folder: str, task: bytes) -> Reply:
        """Load what is dear; the result is a `Worker`."""
        if not Path(folder).is_dir():
            return Reply(error=CxrDicomError(f"it has no {folder}; start the run in a shared folder"))
        os.chdir(folder)  # paths may be relative
        return self._attempt(lambda: self._begin(task))

    def process(self, item: Any, *, is_last: bool) -> Reply:
        """Do one item."""
        with self._watch.item():
            return self._attempt(lambda: self._task(item, is_last=is_last))

    def close(self) -> None:
        """Give memory back."""
        self._task.close()

    def _begin(self, task: bytes) -> Any:
        self._task = pickle.loads(task)  # noqa: S301  # from the process that started this one
        bound_memory(self._task.memory_mb)
        end_this_process_after(self._watch, self._task.stage_seconds)  # the parent is on another machine
        return self._task.report()

    def _attempt(self, do: Any) -> Reply:
        try:
            return Reply(result=do(), log=self._new_records())
        except CxrDicomError as error:
            return Reply(error=error, log=self._new_records())
        except Exception as error:  # a programming error; its text may hold patient data
            return Reply(error=CxrDicomError(telemetry.safe_description(error)), log=self._new_records())

    def _new_records(self) -> list[logging.LogRecord]:
        records = []
        with suppress(Empty):
            while True:
                records.append(self._log.get_nowait())
        return records
