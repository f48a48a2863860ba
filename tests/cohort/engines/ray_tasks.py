"""Tasks that look at the worker they are in."""

import logging
import os
import signal
import time

from cxr_dicom.errors import PlaceError, WantError
from cxr_dicom.system import telemetry
from tests.cohort.engines.tasks import Squares


class Gathering(Squares):
    """Answers when so many workers are at work at once."""

    def __init__(self, folder, workers):
        super().__init__(folder)
        self.workers = workers

    def __call__(self, number, *, is_last=True):
        until = time.monotonic() + 120
        while len(self.pids("built")) < self.workers and time.monotonic() < until:
            time.sleep(0.05)
        return os.environ.get("CUDA_VISIBLE_DEVICES")


class Environment(Squares):
    """Answers with a variable of the worker's environment."""

    def __call__(self, name, *, is_last=True):
        return os.environ.get(name)


class Talking(Squares):
    """Writes a line to the log."""

    def __call__(self, number, *, is_last=True):
        telemetry.event("squared", level=logging.WARNING, files=number)
        return number


class Stillborn(Squares):
    """Kills the worker that unpickles it, so many times."""

    def __init__(self, folder, times):
        super().__init__(folder)
        self.times = times

    def __setstate__(self, state):
        self.__dict__.update(state)
        self._note("started")
        if len(self.pids("started")) <= self.times:
            os.kill(os.getpid(), signal.SIGKILL)


class Troubled(Squares):
    """Has trouble that may be of its machine, wherever another one could be asked."""

    def __call__(self, number, *, is_last=True):
        if not is_last:
            raise PlaceError("UNREADABLE: expected the file that was listed, found none")
        return number, number**2


class Full(Squares):
    """Finds no room on its machine."""

    def __call__(self, number, *, is_last=True):
        raise WantError("this machine lacks room on its disk")


class Refused(Squares):
    """Is refused by its parent."""

    def refusal(self, worker):
        return f"it does not see the input of {worker.host}" if worker.node else ""
