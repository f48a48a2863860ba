"""The contract between a cohort and its engine."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from cxr_dicom.cohort.worker import Worker
from cxr_dicom.errors import PlaceError, SettingsError
from cxr_dicom.plugins import ENGINES

DEPTH = 2  # items that one worker has at once, where its memory has no bound
SMALL = 100  # entries; up to so many are processed in this process unless something else is asked for

_SPELLED = {
    "most_workers": "--workers A..B",
    "workers": "--workers",
    "address": "--address",
    "gpus_per_worker": "--gpus-per-worker",
}

Item = TypeVar("Item")
Result = TypeVar("Result")
Item_contra = TypeVar("Item_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineOptions:
    """What the command line says of workers. An engine refuses what it does not support, and ignores nothing."""

    workers: int | None = None  # how many; None: as the engine finds right
    most_workers: int | None = None  # more of them where there is room, up to so many
    address: str | None = None  # of a cluster that is there already
    gpus_per_worker: float | None = None  # GPUs of a worker, or a part of one

    def expect_only(self, engine: str, *supported: str) -> None:
        """Refuse an option that was given and is not ``supported``.

        Raises
        ------
        SettingsError
            Naming the option.
        """
        given = (name for name in _SPELLED if getattr(self, name) is not None)
        for name in given:
            if name not in supported:
                raise SettingsError(f"{_SPELLED[name]} is not for --engine {engine}")


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineDescription:
    """What ran where, for ``run.json``; None where an engine does not know, or has no such thing."""

    name: str
    workers: int | None = None
    threads_per_worker: int | None = None  # of the networks
    gpus_per_worker: float | None = None
    cores: int | None = None  # of this machine
    machines: int | None = None  # that had a worker
    crew: tuple[Worker, ...] = ()  # all workers that came, those that were refused too

    def as_dict(self) -> dict[str, object]:
        """Return what is known; of the workers only their number."""
        return {key: value for key, value in asdict(replace(self, crew=())).items() if value not in (None, ())}


class Task(Protocol[Item_contra, Result_co]):
    """The work, which an engine copies to each worker by pickling it before its first use.

    What is dear, the models above all, is built at the first call and kept until `close`. A worker may
    call it from two threads at once, so that one item is read while another one is in the networks.
    The answer to an item does not depend on the worker, on its neighbours or on the order.
    """

    def __call__(self, item: Item_contra, *, is_last: bool = True) -> Result_co:
        """Do one item, in a worker.

        An item that cannot be done is a result too. An error means that no item can be done, and ends the run;
        a `PlaceError` that it cannot be done here, and ends the run where there is no other place.
        A task that was killed at an item often enough answers at once that it gave it up.

        Parameters
        ----------
        is_last
            No other machine can be asked: what may be the fault of this one is the result.
        """

    def call_roll(self, items: Sequence[Item_contra]) -> None:
        """In the parent, before the task is copied: write down what every worker must see and have."""

    def end_roll(self) -> None:
        """In the parent, at the end: remove what was written for it."""

    def shared(self) -> AbstractContextManager[None]:
        """In the parent, around all its workers: keep what those of one machine have together."""

    def report(self) -> Worker:
        """In a worker, before its first item: build what is dear, and say what is here.

        Raises
        ------
        CxrDicomError
            If nothing can be done here.
        """

    def refusal(self, worker: Worker) -> str:
        """In the parent: say why a worker may not work; empty when it may."""

    def raise_if_here_too(self, error: PlaceError) -> None:
        """In the parent: raise trouble that a worker had, where it is not of its machine alone, as of a shared disk."""

    @property
    def stage_seconds(self) -> float:
        """How long a worker may be at one stage of an item; an engine with a parent ends one that takes longer."""

    @property
    def memory_mb(self) -> int | None:
        """Bound of a worker's address space, for engines whose workers are processes of their own; None for none."""

    def interrupt(self, item: Item_contra) -> None:
        """Hear, in the parent, that an item was stopped on purpose: this is no fault of its own."""

    def close(self) -> None:
        """Give memory back, in a worker. Called once, at the end."""


class Waiting(Generic[Item]):
    """Items that nobody was given yet, true as long as there are some; each is made when it is taken."""

    def __init__(self, items: Sequence[Item]) -> None:
        self._items = iter(items)
        self._left = len(items)

    def __bool__(self) -> bool:
        return self._left > 0

    def take(self) -> Item:
        """Return the next one."""
        self._left -= 1
        return next(self._items)


def depth(task: Task[Any, Any]) -> int:
    """Return how many items a worker has at once: only one where its memory is bounded.

    What fails for want of memory beside another item may be that one's victim.
    """
    return DEPTH if task.memory_mb is None else 1


class Engine(Protocol):
    """Workers. Their number, their location and their crashes change no result.

    It is built by ``build(options)``, refuses options that it does not support (`EngineOptions.expect_only`), and
    starts nothing before `process` is iterated.
    """

    def process(self, items: Sequence[Item], task: Task[Item, Result]) -> Generator[Result, None, None]:
        """Yield the result of each item as it finishes, in any order.

        An item whose worker died is given to another one, alone, again and again until the task answers.
        Closing the generator stops the workers at once.

        Raises
        ------
        CxrDicomError
            What the task raised.
        """

    @property
    def description(self) -> EngineDescription:
        """What ran where.

        Asked for at the start of a run, for a first word, and at its end.
        """


@runtime_checkable
class Machines(Protocol):
    """An engine with machines that can be asked before anything is done."""

    def roll_call(self, items: Sequence[Item], task: Task[Item, Result]) -> Sequence[Worker]:
        """Ask every machine once; ``refused`` says why one could not work."""


def default_engine(entries: int, options: EngineOptions) -> str:
    """Name the engine for so many entries: ``here`` for a few unless workers are asked for, else ``local``."""
    return "here" if entries <= SMALL and options.workers is None else "local"


def build_engine(name: str, options: EngineOptions) -> Engine:
    """Make the engine ``name``: one of those in ``engines/``, or of an installed package.

    Raises
    ------
    SettingsError
        For a name that does not exist, with the choices, or an option that the engine does not support.
    """
    engine: Engine = ENGINES.choose("engine", name).module.build(options)
    return engine
