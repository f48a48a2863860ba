"""Workers on Ray: on this machine, or on every machine of a cluster.

A worker is an actor. Only items and results travel: the files are in shared folders, and before its first item each
worker shows that it sees them (`roll_call`).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from cxr_dicom.cohort.cluster.connection import connected
from cxr_dicom.cohort.cluster.crew import Bounds, Crew
from cxr_dicom.cohort.cluster.inquiry import asked
from cxr_dicom.cohort.engine import EngineDescription, EngineOptions, Item, Result, Task
from cxr_dicom.cohort.engines.local import cores
from cxr_dicom.cohort.worker import Worker
from cxr_dicom.errors import SettingsError


def build(options: EngineOptions) -> Ray:
    """Make the engine; Ray itself is imported when it works."""
    return Ray(
        options.workers,
        most_workers=options.most_workers,
        address=options.address,
        gpus_per_worker=options.gpus_per_worker,
    )


class Ray:
    """Actors of a Ray cluster, each with its own models.

    Parameters
    ----------
    workers
        Number of actors; None: as many as find room, also on machines that join later.
    most_workers
        More than ``workers`` are started where there is room, up to so many. With 0 workers, machines are waited for
        that can hold one.
    address
        Of a cluster: ``auto`` (the one that this machine belongs to), ``host:port`` or ``ray://host:port``.
        None starts Ray on this machine, for as long as the work lasts. A program that is
        connected to Ray already keeps its connection.
    cpus_per_worker
        CPUs that an actor reserves, and threads of its networks.
    gpus_per_worker
        GPUs that an actor reserves: 0.25 puts four on a GPU. One that reserves none sees none.

    Raises
    ------
    SettingsError
        If an actor would reserve one GPU and a part of another, which Ray does not give.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        most_workers: int | None = None,
        address: str | None = None,
        cpus_per_worker: int = 1,
        gpus_per_worker: float | None = None,
    ) -> None:
        if gpus_per_worker and not (gpus_per_worker <= 1 or gpus_per_worker % 1 == 0):  # nor NaN, nor infinity
            expected = "expected a part of one, or a whole number"
            raise SettingsError(f"engine ray: --gpus-per-worker {gpus_per_worker:g}: {expected}")
        self._bounds = Bounds(least=workers or 0, most=most_workers or workers)
        self._waits = workers == 0
        self._address = address
        self._cpus = cpus_per_worker
        self._gpus = gpus_per_worker or 0.0
        self._seen: Sequence[Worker] = ()

    @property
    def description(self) -> EngineDescription:
        """What ran where; complete when the work is done."""
        at_work = [worker for worker in self._seen if not worker.refused]
        return EngineDescription(
            name="ray",
            workers=len(at_work) or self._bounds.least or None,
            threads_per_worker=self._cpus,
            gpus_per_worker=self._gpus,
            machines=len({worker.node for worker in at_work}),
            crew=tuple(self._seen),
        )

    def process(self, items: Sequence[Item], task: Task[Item, Result]) -> Generator[Result, None, None]:
        """Yield the result of each item as it finishes; see `Engine`.

        Raises
        ------
        SettingsError
            If Ray is not installed, or no machine of it has room for one worker.
        CxrDicomError
            If the cluster cannot be reached, no machine can work, or the task raised it.
        """
        if not items:
            return
        with connected(self._address, self._own_cpus()) as ray:
            self._expect_room(ray.nodes())
            task.call_roll(items)
            crew = Crew(ray, self._options(), task, self._bounds, self._room)
            self._seen = crew.seen
            try:
                for result in crew.work(items):
                    self._seen = crew.seen
                    yield result
            finally:
                self._seen = crew.seen
                crew.end()
                task.end_roll()

    def roll_call(self, items: Sequence[Item], task: Task[Item, Result]) -> Sequence[Worker]:
        """Ask every machine once, and let nobody work.

        Raises
        ------
        CxrDicomError
            As `process`, but for machines that cannot work: these say so.
        """
        with connected(self._address, self._own_cpus()) as ray:
            task.call_roll(items)
            try:
                return asked(ray, self._options(), task)
            finally:
                task.end_roll()

    def _own_cpus(self) -> int:
        least, most = self._bounds.least, self._bounds.most or 0
        return max(least * self._cpus, min(most * self._cpus, cores())) or cores()

    def _options(self) -> dict[str, Any]:
        return {"num_cpus": self._cpus, "num_gpus": self._gpus, "runtime_env": _environment(self._cpus)}

    def _expect_room(self, nodes: Sequence[dict[str, Any]]) -> None:
        """Refuse what no machine can ever give; a cluster that has no machine for workers yet is waited for.

        Raises
        ------
        SettingsError
            If a worker finds room on no machine, nobody said that others come, and this is not a head alone.
        """
        machines = [_offer(node) for node in nodes if node["Alive"]]
        if self._room(nodes) or self._waits or (machines and not any(cpus for cpus, _ in machines)):
            return
        need = f"a worker needs {self._cpus} CPUs and {self._gpus:g} GPUs on one machine"
        found = ", ".join(f"{cpus:g} and {gpus:g}" for cpus, gpus in sorted(set(machines))) or "none"
        raise SettingsError(
            f"engine ray: {need}, those of the cluster have {found}; --workers 0..N waits for others to join"
        )

    def _room(self, nodes: Sequence[dict[str, Any]]) -> int:
        """Return how many workers the machines hold when nobody else uses them; a worker lies on one, not across."""
        return sum(self._on_one(*_offer(node)) for node in nodes if node["Alive"])

    def _on_one(self, cpus: float, gpus: float) -> int:
        rooms = [have / need for have, need in ((cpus, self._cpus), (gpus, self._gpus)) if need]
        return int(min(rooms) + 1e-6)


def _offer(node: dict[str, Any]) -> tuple[float, float]:
    return node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0)


def _environment(threads: int) -> dict[str, dict[str, str]]:
    """Make the networks of a worker use so many threads: these are read when torch is imported."""
    return {"env_vars": dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))}
