"""What the benchmarks share: ratios with their goals, two ways measured in turn, processes of their own.

A benchmark is a file here without a leading underscore. It has one function, ``measure(plan)``,
which yields `Ratio` and `Missing` rows. Only ratios leave it, never bare times.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, TypeVar

ROOT = Path(__file__).parent.parent
T = TypeVar("T")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much to measure."""

    repeats: int = 3
    is_quick: bool = False  # sizes so small that the figures mean nothing: does it run at all?

    def spares(self, backend: str) -> str:
        """Say why a backend is not measured: OpenVINO needs ten seconds for a large network, however small the rest."""
        return "a quick run compiles no large network" if self.is_quick and backend != "torch" else ""

    def apart(self, function: Callable[..., T], *arguments: object, threads: int | None = None) -> T:
        """Call a function of a benchmark in a process of its own; arguments and result travel as JSON.

        A quick run stays in this process, for importing PyTorch would be most of its time.

        Parameters
        ----------
        threads
            Of PyTorch and what lies below it; None: as many as the machine has cores.
        """
        call = (function.__module__, function.__qualname__, json.dumps(arguments))
        if self.is_quick:
            return _called(*call)
        environment = {name: value for name, value in os.environ.items() if name not in _THREADS}
        if threads:
            environment |= dict.fromkeys(_THREADS, str(threads))
        command = [sys.executable, "-c", "from benchmarks._harness import answer; answer()", *call]
        finished = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT)
        return json.loads(finished.stdout.splitlines()[-1])


@dataclass(frozen=True)
class Ratio:
    """One row: the same ratio, once for each pair of measurements."""

    row: str
    values: tuple[float, ...]
    at_least: float | None = None  # the goal; neither: no goal is set
    at_most: float | None = None

    @property
    def median(self) -> float:
        """The figure of this row."""
        return median(self.values)

    @property
    def goal(self) -> str:
        """The goal as text."""
        if self.at_least is not None:
            return f"≥ {self.at_least:g}"
        return f"≤ {self.at_most:g}" if self.at_most is not None else ""

    @property
    def is_met(self) -> bool | None:
        """Whether the median meets the goal; None without one."""
        if self.at_least is not None:
            return self.median >= self.at_least
        return self.median <= self.at_most if self.at_most is not None else None


@dataclass(frozen=True)
class Missing:
    """A row that cannot be measured on this machine."""

    row: str
    why: str


Row = Ratio | Missing


def ratios(row: str, pairs: list[tuple[float, float]], **goal: float) -> Ratio:
    """Divide the first figure of each pair by the second."""
    return Ratio(row, tuple(first / second for first, second in pairs), **goal)


def in_turn(first: Callable[[], T], second: Callable[[], T], repeats: int) -> list[tuple[T, T]]:
    """Measure two ways side by side: first second, second first, first second, ...

    What slows the machine down for a while, or a cache that one way fills, then meets both alike.
    """
    pairs = []
    for number in range(repeats):
        if number % 2:
            of_second = second()
            pairs.append((first(), of_second))
        else:
            pairs.append((first(), second()))
    return pairs


def answer() -> None:
    """Be the other process of `Plan.apart`."""
    print(json.dumps(_called(*sys.argv[1:])))


def _called(module: str, name: str, arguments: str) -> Any:
    return getattr(importlib.import_module(module), name)(*json.loads(arguments))


def seconds(act: Callable[[], T]) -> tuple[float, T]:
    """Do something; return how long it took, and its result."""
    start = perf_counter()
    result = act()
    return perf_counter() - start, result


@contextmanager
def folder() -> Iterator[Path]:
    """Give an empty folder on the disk of the working copy, for /tmp may be in memory."""
    with tempfile.TemporaryDirectory(prefix=".bench-", dir=ROOT) as name:
        yield Path(name)
