"""Tasks that tests give to engines; workers import them from here."""

import ctypes
import os
import signal
import time
from contextlib import nullcontext
from pathlib import Path

from cxr_dicom.cohort.worker import this_machine
from cxr_dicom.errors import WeightsError
from cxr_dicom.system import watch

GIVES_UP_AFTER = 3


class Squares:
    """Squares numbers, and writes down what became of it in a folder."""

    stage_seconds = 600.0
    memory_mb = None

    def __init__(self, folder, killers=(), bad=(), slow=()):
        self.folder = Path(folder)
        self.killers = killers  # numbers that kill the worker
        self.bad = bad  # numbers at which nothing can go on
        self.slow = slow  # numbers that take their time

    def __call__(self, number, *, is_last=True):
        attempts = len(list(self.folder.glob(f"begun-{number}-*")))
        if attempts >= GIVES_UP_AFTER:
            return number, "gave up"
        (self.folder / f"begun-{number}-{attempts}").touch()
        if number in self.killers:
            os.kill(os.getpid(), signal.SIGKILL)
        if number in self.bad:
            raise WeightsError("weights are missing")
        if number in self.slow:
            self.hang()
        return number, number**2

    def call_roll(self, numbers):
        pass

    def end_roll(self):
        pass

    def shared(self):
        return nullcontext()

    def report(self):
        self._note("built")
        return this_machine()

    def refusal(self, worker):
        return ""

    def raise_if_here_too(self, error):
        pass

    def hang(self):
        time.sleep(60)

    def interrupt(self, number):
        self._note(f"interrupted-{number}")

    def close(self):
        self._note("closed")

    def pids(self, word):
        return {int(path.name.rpartition("-")[2]) for path in self.folder.glob(f"{word}-*")}

    def interrupted(self):
        return {int(path.name.split("-")[1]) for path in self.folder.glob("interrupted-*")}

    def _note(self, word):
        (self.folder / f"{word}-{os.getpid()}").touch()


class Hanging(Squares):
    """Hangs at a number, once two stages of other items were quick, and holds Python's lock as foreign code may."""

    stage_seconds = 1.5

    def __call__(self, number, *, is_last=True):
        for _ in range(4):
            watch.begin()
            time.sleep(0.1)
        return super().__call__(number, is_last=is_last)

    def hang(self):
        ctypes.PyDLL(None).sleep(60)


class Greedy(Squares):
    """Asks at some numbers for more memory than its worker has, beside whatever is at work there."""

    stage_seconds = 5.0
    memory_mb = 10_000

    def __init__(self, folder, greedy=(), sleepy=(), holding=()):
        super().__init__(folder)
        self.greedy, self.sleepy, self.holding = greedy, sleepy, holding

    def __call__(self, number, *, is_last=True):
        if (self.folder / f"begun-{number}").exists():
            return number, "gave up"
        (self.folder / f"begun-{number}").touch()
        (beside := self.folder / f"at-work-{os.getpid()}-{number}").touch()
        if number in self.sleepy:
            time.sleep(120)  # on code without the limit this is an answer, and the test fails
        if number in self.holding:
            ctypes.PyDLL(None).sleep(120)
        time.sleep(0.05)
        try:
            said = len(list(self.folder.glob(f"at-work-{os.getpid()}-*")))
            bytes((12 if number in self.greedy else 0) << 30)  # no page of it is touched
        except MemoryError:
            said = "too much"
        beside.unlink()
        return number, said


class Clumsy(Squares):
    """Has a programming error, whose text quotes a patient."""

    def __call__(self, number, *, is_last=True):
        raise KeyError("Doe^Jane")


class Deadly(Squares):
    """Kills every worker, and never gives up."""

    def __call__(self, number, *, is_last=True):
        os.kill(os.getpid(), signal.SIGKILL)
