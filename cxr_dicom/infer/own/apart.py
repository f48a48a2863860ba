"""The process apart, in which networks of the user's are loaded and run: one for each process that uses any.

It has no network and no path that it could write to, where the platform can take them away (`system.confinement`); and
it is the same in `run`, in each worker of every engine and of the service, in the checks, and for whoever calls the
library. What may stand in a file is decided before anything runs it; this is the wall behind that. Files are
identified, and their results interpreted, on this side.

A process that dies, killed by a network or for want of memory, takes no worker along: it is made again, once for the
same image.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.errors import CxrDicomError, ModelError, SettingsError, WeightsError
from cxr_dicom.infer.own import messages

if TYPE_CHECKING:
    from cxr_dicom.config import ModelSettings
    from cxr_dicom.config.own import OwnModel
    from cxr_dicom.records import ModelInfo

_Answer: TypeAlias = tuple[dict[str, Any], dict[str, NDArray[Any]]]

_TRIES = 2  # of one thing, in new processes
_ERRORS = {error.__name__: error for error in (ModelError, SettingsError, WeightsError)}
_LONGEST_TEXT = 2000
_LONGEST_VERSION = 100  # of what runs a network


class Network:
    """A network that is loaded apart; its memory goes with this object."""

    def __init__(self, table: OwnModel, info: ModelInfo, path: Path, models: ModelSettings, device: str) -> None:
        """Load it.

        Raises
        ------
        SettingsError, WeightsError, ModelError
            As `infer.own.network.load`.
        """
        import torch

        self._name = info.name
        given = (table, info, path.absolute(), models, device, torch.get_num_threads())
        self._packed = np.frombuffer(pickle.dumps(given), np.uint8)
        self._process, self._number, (said, arrays) = _this_process().load(self._name, self._packed)
        weakref.finalize(self, self._process.forget, self._number)
        runtime, batch = said.get("runtime"), said.get("batch")
        if not isinstance(runtime, str) or not runtime.isprintable() or len(runtime) > _LONGEST_VERSION:
            raise ModelError(f"{self._name}: the process of the network gives no version")
        self.runtime = runtime  # what runs it and how, behind its version; empty where that is PyTorch
        self.batch = batch if isinstance(batch, int) else None  # see `network.Loaded`
        self.weight: NDArray[Any] | None = arrays.get("weight")  # of the linear layer of class activation maps

    def __call__(self, pixels: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Compute: of (1, 1, size, size), -1024 to 1024, its outputs by name.

        Raises
        ------
        ModelError
            If it fails, or its process dies twice.
        """
        return self._process.compute(self._name, self._number, self._packed, pixels)


class _Process:
    """The other process, seen from here; several threads may ask."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._asking = threading.Lock()
        self._started: subprocess.Popen[bytes] | None = None
        self._loaded: set[int] = set()  # what the process that is there has
        self._left: deque[int] = deque()  # what nobody needs any more
        self._count = 0

    def load(self, name: str, packed: NDArray[Any]) -> tuple[_Process, int, _Answer]:
        with self._asking:
            self._count += 1
            number = self._count
            return self, number, self._with_tries(name, lambda: self._load(number, packed))

    def compute(
        self, name: str, number: int, packed: NDArray[Any], pixels: NDArray[np.float32]
    ) -> dict[str, NDArray[Any]]:
        def ask() -> _Answer:
            if number not in self._loaded:
                self._load(number, packed)
            return self._exchange({"do": "compute", "number": number}, {"pixels": pixels})

        with self._asking:
            return self._with_tries(name, ask)[1]

    def forget(self, number: int) -> None:
        """Give memory back: now, or where somebody is asking, perhaps this very thread, before the next question."""
        self._left.append(number)
        if self.owner == os.getpid() and self._asking.acquire(blocking=False):
            try:
                self._forget()
            except messages.BrokenMessageError:
                pass  # it is gone, and all it had
            finally:
                self._asking.release()

    def end(self) -> None:
        """Kill it."""
        started, self._started, self._loaded = self._started, None, set()
        if started is not None:
            started.kill()
            started.communicate()

    def _with_tries(self, name: str, ask: Callable[[], _Answer]) -> _Answer:
        for tries in range(_TRIES):
            try:
                return ask()
            except messages.BrokenMessageError as error:
                cause = self._cause_of_death()
                if tries == _TRIES - 1:
                    raise ModelError(f"{name}: the process of the network {cause}, {_TRIES} times") from error
        raise AssertionError

    def _load(self, number: int, packed: NDArray[Any]) -> _Answer:
        answer = self._exchange({"do": "load", "number": number}, {"packed": packed})
        self._loaded.add(number)
        return answer

    def _forget(self) -> None:
        while self._left:
            number = self._left.popleft()
            if number in self._loaded:
                self._loaded.discard(number)
                self._ask({"do": "forget", "number": number}, {})

    def _exchange(self, said: Mapping[str, Any], arrays: messages.Arrays) -> _Answer:
        self._forget()
        return self._ask(said, arrays)

    def _ask(self, said: Mapping[str, Any], arrays: messages.Arrays) -> _Answer:
        if self._started is None:
            self._started = _started()
        assert self._started.stdin is not None  # noqa: S101  a pipe was asked for
        assert self._started.stdout is not None  # noqa: S101
        try:
            messages.send(self._started.stdin, said, arrays)
            heard, found = messages.receive(self._started.stdout)
        except OSError as error:
            raise messages.BrokenMessageError from error
        except messages.BrokenMessageError:
            raise
        except BaseException:  # half a question is worse than none
            self.end()
            raise
        if (kind := heard.get("error")) is not None:
            raise _error(str(kind), str(heard.get("text", "")))
        return heard, found

    def _cause_of_death(self) -> str:
        started = self._started
        if started is None:
            return "ended"
        try:
            code = started.wait(1)
        except subprocess.TimeoutExpired:
            code = None
        self.end()
        if code is None:
            return "gave no answer that can be read"
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


_lock = threading.Lock()
_process: _Process | None = None


def _this_process() -> _Process:
    """Return the process apart of this process; one that was forked has another one than its parent."""
    global _process
    with _lock:
        if _process is None or _process.owner != os.getpid():
            _process = _Process()
            atexit.register(_process.end)
        return _process


def _started() -> subprocess.Popen[bytes]:
    """Start one that finds the same packages, and has nothing else of ours: no descriptor, no standard error."""
    paths = os.pathsep.join(str(Path(path).absolute()) for path in sys.path)
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "cxr_dicom.infer.own.inside"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
        )
    except OSError as error:
        raise SettingsError(f"models.own: no process can be started for it ({error.strerror})") from error


def _error(kind: str, text: str) -> CxrDicomError:
    printable = "".join(letter if letter.isprintable() else " " for letter in text[:_LONGEST_TEXT])
    return _ERRORS.get(kind, ModelError)(printable)
