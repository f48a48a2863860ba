"""What a run knows of the machines that its workers are on, and whom it gives what: decisions only.

Trouble with an item may be the fault of the item or of the machine. The item goes to another machine, which tells: when
that one can do it, the first machine was at fault. Until then a machine gets nothing new. One that was at fault
`MOST_FAULTS` times is no longer used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic

from cxr_dicom.cohort.engine import Item

MOST_FAULTS = 3  # of a machine, without an item in between that it could do; then it is no longer used
MOST_STILLBORN = 3  # workers of a machine that died before they were ready, where none ever was
MOST_PLACES = 3  # that an item is tried at before its trouble is its own


@dataclass(eq=False, kw_only=True, slots=True)
class Job(Generic[Item]):
    """An item on its way."""

    item: Item
    tried: set[str] = field(default_factory=set)  # machines that could not do it
    has_killed: bool = False  # a worker: then it is given to one that has nothing else
    cause: str = ""  # of the latest trouble
    is_last: bool = False  # it was given to somebody as to the last who could do it


@dataclass(kw_only=True, slots=True)
class Machine:
    """A machine, and what is held against it."""

    host: str
    faults: int = 0
    stillborn: int = 0
    had_workers: bool = False
    open: set[int] = field(default_factory=set)  # jobs whose trouble may be its fault, by identity
    barred: str = ""  # why it is no longer used


class Machines(Generic[Item]):
    """All machines, by the name that the engine has for them."""

    def __init__(self) -> None:
        self._all: dict[str, Machine] = {}

    def met(self, node: str, host: str) -> Machine:
        """Return a machine, which may be new."""
        return self._all.setdefault(node, Machine(host=host))

    @property
    def barred(self) -> dict[str, str]:
        """Machines that are no longer used, and why."""
        return {node: machine.barred for node, machine in self._all.items() if machine.barred}

    def bar(self, node: str, why: str) -> None:
        """Use a machine no longer."""
        self._all[node].barred = self._all[node].barred or why

    def ready(self, node: str) -> None:
        """Take note of a worker that is ready there."""
        self._all[node].had_workers = True

    def stillborn(self, node: str, cause: str) -> str:
        """Take note of a worker that died before it was ready; return why its machine is of no use, if it is not."""
        machine = self._all[node]
        machine.stillborn += 1
        if machine.had_workers or machine.stillborn < MOST_STILLBORN:
            return ""
        return f"{machine.stillborn} workers died there before they were ready: {cause}"

    def failed(self, node: str, job: Job[Item], cause: str, *, elsewhere: bool) -> None:
        """Take note of a job that a machine could not do; ``elsewhere``: another one may tell whose fault it is."""
        job.tried.add(node)
        job.cause = cause
        if elsewhere:
            self._all[node].open.add(id(job))

    def done(self, node: str, job: Job[Item]) -> dict[str, str]:
        """Take note of an answer; return the machines that are shown to be of no use by it, and why.

        What killed the workers of several machines, and was then answered, was given up: that is no machine's fault.
        """
        suspects = [other for other, machine in self._all.items() if id(job) in machine.open]
        for other in suspects:
            self._all[other].open.discard(id(job))
        if not job.tried:
            self._all[node].faults = 0
        if job.is_last or node in job.tried or (job.has_killed and len(job.tried) > 1):
            return {}
        useless = {}
        for other in suspects:
            machine = self._all[other]
            machine.faults += 1
            if machine.faults >= MOST_FAULTS:
                useless[other] = f"{machine.faults} studies failed there that another machine could do: {job.cause}"
        return useless

    def may_take_new(self, node: str) -> bool:
        """Whether nothing is open against a machine."""
        return not self._all[node].open

    def may_retry(self, node: str, job: Job[Item], usable: Iterable[str]) -> bool:
        """Whether this is the machine to try a job again, among those that are usable."""
        untried = {each for each in usable if each not in job.tried} if len(job.tried) < MOST_PLACES else set()
        if not untried:
            return True
        beyond_doubt = {each for each in untried if self.may_take_new(each)}
        return node in (beyond_doubt or untried)

    def is_last(self, job: Job[Item], node: str, usable: Iterable[str]) -> bool:
        """Whether a machine is to take trouble for the item's own: it is the only one, or all that are asked had it."""
        others = set(usable) - {node}
        return not others or len(job.tried) >= MOST_PLACES or others | {node} <= job.tried
