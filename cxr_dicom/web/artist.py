"""What pages show of pixels is made when it is asked for, in a process of its own, one after the other.

Codecs are foreign code, and a file may be anybody's: what ends the process, fills its memory or takes too long takes
one picture with it, and neither the pages nor the listener.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, ParamSpec, TypeVar, cast

from cxr_dicom.errors import CxrDicomError
from cxr_dicom.system import telemetry
from cxr_dicom.system.limits import bound_memory
from cxr_dicom.web.answers import BUSY, NotAnsweredError

P = ParamSpec("P")
T = TypeVar("T")

_SECONDS = 30.0  # for what is asked for
_IDLE_SECONDS = 120.0  # after which the process ends by itself
_MOST_WAITING = 2  # requests; each holds one of the few threads of the pages
_MEMORY_MB = 4096


class Artist:
    """Calls functions of modules in another process, which begins with the first of them.

    Parameters
    ----------
    niceness
        Of the process (nice(2)): how far others come first.
    """

    def __init__(self, niceness: int = 0) -> None:
        self._niceness = niceness
        self._turn = threading.Lock()
        self._waiting = threading.BoundedSemaphore(_MOST_WAITING)
        self._process: BaseProcess | None = None
        self._connection: Connection | None = None

    def ask(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what a function returns.

        Raises
        ------
        NotAnsweredError
            If it takes too long, ends its process or cannot do what it should, or others wait for their answer.
        """
        if not self._waiting.acquire(blocking=False):
            raise NotAnsweredError(BUSY, "Other pictures are being made. Ask again in a moment.")
        try:
            with self._turn:
                return cast(T, self._answer((function, args, kwargs)))
        finally:
            self._waiting.release()

    def close(self) -> None:
        """End the process."""
        with self._turn:
            self._end()

    def _answer(self, question: tuple[Any, ...]) -> object:
        connection = self._send(question)
        try:
            if not connection.poll(_SECONDS):
                self._end()
                raise NotAnsweredError(422, f"This picture was not made within {_SECONDS:.0f} seconds.")
            is_made, answer = connection.recv()
        except (EOFError, OSError) as error:
            has_idled = self._exit_code() == 0
            self._end()
            if has_idled:
                return self._answer(question)
            raise NotAnsweredError(422, "The pixels of this image cannot be read here.") from error
        if not is_made:
            raise NotAnsweredError(422, f"This picture cannot be made: {answer}.")
        return answer

    def _send(self, question: tuple[Any, ...]) -> Connection:
        """Send a question, to a new process where there is none any more."""
        if self._connection is not None and self._process is not None and self._process.is_alive():
            with suppress(OSError):
                self._connection.send(question)
                return self._connection
        self._end()
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_work, args=(theirs, self._niceness), name="cxr-dicom-artist", daemon=True
        )
        self._process.start()
        theirs.close()
        self._connection.send(question)
        return self._connection

    def _exit_code(self) -> int | None:
        if self._process is None:
            return None
        self._process.join(5)
        return self._process.exitcode

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join(5)
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


def _work(parent: Connection, niceness: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    logging.disable()  # what pydicom says quotes values of patients
    warnings.simplefilter("ignore")
    bound_memory(_MEMORY_MB)
    with suppress(OSError, AttributeError):  # not on Windows
        os.nice(niceness)
    with suppress(EOFError, OSError):  # the parent is gone
        while parent.poll(_IDLE_SECONDS):
            function, args, kwargs = parent.recv()
            try:
                answer = True, function(*args, **kwargs)
            except CxrDicomError as error:
                answer = False, str(error)
            except Exception as error:  # of a file of somebody else; its text may hold what must not be told
                answer = False, telemetry.safe_description(error)
            parent.send(answer)
