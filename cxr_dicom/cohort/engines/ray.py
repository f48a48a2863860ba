"""Workers on Ray: on this machine, or on every machine of a cluster.

A worker is an actor. Ray says where it runs and when it died; what is done about it is as in ``local``:
its items are handed out again, each alone. Only items and results travel: the files are in shared folders.
"""

from __future__ import annotations

import logging
import os
import pickle
import secrets
import socket
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from logging.handlers import QueueHandler
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, Generic
from urllib.parse import urlsplit

from cxr_dicom import __version__
from cxr_dicom.cohort.engine import DEPTH, EngineDescription, EngineOptions, Item, Result, Task
from cxr_dicom.cohort.engines.local import cores
from cxr_dicom.errors import CxrDicomError, SettingsError, how_to_install
from cxr_dicom.system import telemetry
from cxr_dicom.system.limits import bound_memory
from cxr_dicom.system.watch import Watch, end_this_process_after

_MAX_CRASHES_IN_A_ROW = 10  # without an answer in between, per worker: then nothing works here
_MAX_STARTS = 3  # of a worker that dies before it is ready; then its place stays empty
_NEWS_TIMEOUT = 60.0  # seconds without news before the log says that no worker has found room
_END_TIMEOUT = 10.0  # seconds for a worker to end by itself
_OBJECT_STORE = 80 * 2**20  # bytes; about the least that Ray takes, for only small things travel


def build(options: EngineOptions) -> Ray:
    """Make the engine; Ray itself is imported when it works."""
    return Ray(options.workers, address=options.address, gpus_per_worker=options.gpus_per_worker)


class Ray:
    """Actors of a Ray cluster, each with its own models.

    Parameters
    ----------
    workers
        Number of actors; None: as many as find room.
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
        address: str | None = None,
        cpus_per_worker: int = 1,
        gpus_per_worker: float | None = None,
    ) -> None:
        if gpus_per_worker and not (gpus_per_worker <= 1 or gpus_per_worker % 1 == 0):  # nor NaN, nor infinity
            expected = "expected a part of one, or a whole number"
            raise SettingsError(f"engine ray: --gpus-per-worker {gpus_per_worker:g}: {expected}")
        self._workers = workers
        self._address = address
        self._cpus = cpus_per_worker
        self._gpus = gpus_per_worker or 0.0
        self._machines: set[str] = set()

    @property
    def description(self) -> EngineDescription:
        """What ran where; complete when the work is done."""
        return EngineDescription(
            name="ray",
            workers=self._workers,
            threads_per_worker=self._cpus,
            gpus_per_worker=self._gpus,
            machines=len(self._machines),
        )

    def process(self, items: Sequence[Item], task: Task[Item, Result]) -> Generator[Result, None, None]:
        """Yield the result of each item as it finishes; see `Engine`.

        Raises
        ------
        SettingsError
            If Ray is not installed, or no machine of it has room for one worker.
        CxrDicomError
            If the cluster cannot be reached, has another version of this package, or the task raised it.
        """
        if not items:
            return
        with _connected(self._address, (self._workers or 0) * self._cpus or cores()) as ray:
            room = self._room(ray.nodes())
            self._workers = self._workers or room
            options = {"num_cpus": self._cpus, "num_gpus": self._gpus, "runtime_env": _environment(self._cpus)}
            pool = _Pool(ray, options, task, min(self._workers, len(items)))
            try:
                yield from pool.work(items)
            finally:
                pool.end()
                self._machines = pool.machines

    def _room(self, nodes: Sequence[dict[str, Any]]) -> int:
        """Return how many workers the machines hold when nobody else uses them; a worker lies on one, not across."""
        offers = [node["Resources"] for node in nodes if node["Alive"]]
        machines = [(offer.get("CPU", 0.0), offer.get("GPU", 0.0)) for offer in offers]
        room = sum(self._on_one(*machine) for machine in machines)
        if room < 1:
            need = f"a worker needs {self._cpus} CPUs and {self._gpus:g} GPUs on one machine"
            found = ", ".join(f"{cpus:g} and {gpus:g}" for cpus, gpus in sorted(set(machines))) or "none"
            raise SettingsError(f"engine ray: {need}, those of the cluster have {found}")
        return room

    def _on_one(self, cpus: float, gpus: float) -> int:
        rooms = [have / need for have, need in ((cpus, self._cpus), (gpus, self._gpus)) if need]
        return int(min(rooms) + 1e-6)


def _environment(threads: int) -> dict[str, dict[str, str]]:
    """Make the networks of a worker use so many threads: these are read when torch is imported."""
    return {"env_vars": dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))}


# --- the connection ------------------------------------------------------------------------------


@contextmanager
def _connected(address: str | None, cpus: int) -> Iterator[Any]:
    """Give the module ``ray``, connected; what was started for it ends with the block."""
    ray = _import(is_local=address is None)
    if ray.is_initialized():
        yield ray
        return
    options = {"address": address or "local", "log_to_driver": False, "logging_level": logging.ERROR}
    with ExitStack() as stack:
        if address is None:
            options |= {"num_cpus": cpus, "object_store_memory": _OBJECT_STORE, "include_dashboard": False}
            options["_temp_dir"] = stack.enter_context(_session_folder())
        stack.callback(ray.shutdown)
        try:
            _expect_reachable(address or "")
            ray.init(**options)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            text = f"{lines[0]} {lines[-1].strip()}" if lines[0].endswith(":") else lines[0]
            raise CxrDicomError(f"Ray at {address or 'this machine'} cannot be reached: {text}") from error
        yield ray


def _import(*, is_local: bool) -> Any:
    """Import Ray with the settings that it reads only then."""
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".*")  # else it writes of dead workers to standard output
    if is_local:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # on Linux too: listen on loopback only
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else it keeps one in the home folder
    try:
        import ray
    except ImportError as error:
        raise SettingsError(f"engine ray: Ray is not installed; {how_to_install('ray')}") from error
    return ray


def _session_folder() -> TemporaryDirectory[str]:
    """Make a folder for Ray's sockets and logs, with the short path that sockets need."""
    parent = os.environ.get("RAY_TMPDIR") or ("/tmp" if os.name == "posix" else None)  # noqa: S108
    return TemporaryDirectory(prefix="cxr-dicom-", dir=parent, ignore_cleanup_errors=True)


def _expect_reachable(address: str) -> None:
    """Fail at once where an address leads nowhere; Ray itself would try for minutes."""
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.port:
        socket.create_connection((place.hostname or "", place.port), timeout=10).close()


# --- the workers, seen from here -----------------------------------------------------------------


class _Pool(Generic[Item, Result]):
    def __init__(self, ray: Any, options: dict[str, Any], task: Task[Item, Result], size: int) -> None:
        self.machines: set[str] = set()
        self._ray = ray
        self._options = options
        self._task = task
        self._pickled = ray.put(pickle.dumps(task))
        self._workers = [self._new_worker() for _ in range(size)]
        self._suspects = deque[Item]()
        self._crash_count = 0

    def work(self, items: Sequence[Item]) -> Iterator[Result]:
        """Yield the result of each item as it finishes."""
        waiting = deque(items)
        while waiting or self._suspects or any(worker.at_work for worker in self._workers):
            for worker in self._workers * DEPTH:
                worker.take_on(waiting, self._suspects)
            worker, news = self._next_news()
            was_ready = worker.is_ready
            try:
                answer = worker.listen(news)
            except self._ray.exceptions.RayTaskError as error:  # outside of the task: something cannot be pickled
                raise CxrDicomError(f"a Ray worker failed: {type(error.cause).__name__}") from None
            except self._ray.exceptions.RayError:
                self._replace(worker)
                continue
            if not was_ready:
                self.machines.add(answer)
                continue
            self._crash_count = 0
            yield answer

    def end(self) -> None:
        """Stop the workers; a busy one is stopped at once."""
        for worker in self._workers:
            worker.end()
        for worker in self._workers:
            for item in worker.at_work.values():
                self._task.interrupt(item)

    def _new_worker(self) -> _Worker[Item]:
        return _Worker(self._ray, self._options, self._pickled)

    def _next_news(self) -> tuple[_Worker[Item], Any]:
        """Wait for a worker that is ready, has an answer, or died."""
        expected = {ref: worker for worker in self._workers for ref in worker.expected}
        while True:
            news, _ = self._ray.wait(list(expected), timeout=_NEWS_TIMEOUT)
            if news:
                return expected[news[0]], news[0]
            if not any(worker.is_ready for worker in self._workers):
                telemetry.event("ray_has_no_room_yet", level=logging.WARNING)

    def _replace(self, dead: _Worker[Item]) -> None:
        question = f"is cxr-dicom {__version__} installed on every machine?"
        dead.end()
        if not dead.is_ready and dead.starts >= _MAX_STARTS:
            telemetry.event("ray_worker_given_up", level=logging.WARNING)
            self._workers.remove(dead)
            if not self._workers:
                raise CxrDicomError(f"Ray workers die before they are ready; {question}")
            return
        if dead.is_ready:
            self._crash_count += 1
            if self._crash_count > _MAX_CRASHES_IN_A_ROW * len(self._workers):
                raise CxrDicomError(f"Ray workers die, whatever they are given; {question}")
        self._suspects.extend(dead.at_work.values())
        new = self._new_worker()
        new.starts = 1 if dead.is_ready else dead.starts + 1
        self._workers[self._workers.index(dead)] = new


class _Worker(Generic[Item]):
    def __init__(self, ray: Any, options: dict[str, Any], task: Any) -> None:
        actor_class = ray.remote(
            **options,
            max_restarts=0,  # Ray would give it the same items again, together
            max_task_retries=0,
            max_concurrency=DEPTH + 1,  # the last thread is for the word to end
        )(_Actor)
        self.at_work: dict[Any, Item] = {}
        self._ray = ray
        self._actor = actor_class.remote(telemetry.configuration())
        self._start = self._actor.start.remote(__version__, str(Path.cwd()), task)
        self.is_ready = False
        self.starts = 1  # in its place, since a worker was ready there
        self._is_alone = False

    @property
    def expected(self) -> list[Any]:
        """Requests that it has not answered yet."""
        return list(self.at_work) if self.is_ready else [self._start]

    def take_on(self, waiting: deque[Item], suspects: deque[Item]) -> None:
        """Give it one more item if it has room; a suspect goes to a worker that has nothing else."""
        if not self.is_ready:
            return
        if suspects and not self.at_work:
            self._is_alone = True
            self._give(suspects.popleft())
        elif waiting and not self._is_alone and len(self.at_work) < DEPTH:
            self._give(waiting.popleft())

    def listen(self, news: Any) -> Any:
        """Return an answer, or raise what the task raised; RayError when the worker is dead."""
        answer: _Reply = self._ray.get(news)
        for record in answer.log:
            logging.getLogger(record.name).handle(record)
        if answer.error is not None:
            raise answer.error
        self.is_ready = True
        self._is_alone = False
        self.at_work.pop(news, None)
        return answer.result

    def end(self) -> None:
        """Let an idle actor close its task; stop a busy one, and wait until it has ended."""
        if self.is_ready:
            word = self._actor.leave if self.at_work else self._actor.close
            self._ray.wait([word.remote()], timeout=_END_TIMEOUT)
        self._ray.kill(self._actor)

    def _give(self, item: Item) -> None:
        self.at_work[self._actor.process.remote(item)] = item


# --- a worker, in its own process ----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Reply:
    result: Any = None
    error: CxrDicomError | None = None
    log: Sequence[logging.LogRecord] = ()


class _Actor:
    """Errors are answers here: Ray writes the text of an exception, which may hold patient data, to its logs."""

    def __init__(self, log: tuple[int, bool] | None) -> None:
        telemetry.configure_as(log or (0, False))  # without one too, for it silences the libraries
        self._watch = Watch(DEPTH)
        self._log: SimpleQueue[logging.LogRecord] = SimpleQueue()
        logging.getLogger("cxr_dicom").handlers = [QueueHandler(self._log)]  # it is written where the run was started

    def start(self, version: str, folder: str, task: bytes) -> _Reply:
        if not Path(folder).is_dir():
            text = f"{folder} is not on every machine of the Ray cluster; start the run in a shared folder"
            return _Reply(error=CxrDicomError(text))
        os.chdir(folder)  # paths may be relative
        if version != __version__:
            text = f"a machine of the Ray cluster has cxr-dicom {__version__}, this one has {version}"
            return _Reply(error=CxrDicomError(text))
        return self._attempt(self._begin, task)

    def process(self, item: Any) -> _Reply:
        with self._watch.item():
            return self._attempt(self._task, item)

    def close(self) -> None:
        self._task.close()

    def leave(self) -> None:
        os._exit(0)

    def _begin(self, task: bytes) -> str:
        import ray

        self._task = pickle.loads(task)  # noqa: S301  # from the process that started this one
        bound_memory(self._task.memory_mb)
        end_this_process_after(self._watch, self._task.stage_seconds)  # the parent is on another machine
        return str(ray.get_runtime_context().get_node_id())

    def _attempt(self, do: Any, argument: Any) -> _Reply:
        try:
            return _Reply(result=do(argument), log=self._new_records())
        except CxrDicomError as error:
            return _Reply(error=error, log=self._new_records())
        except Exception as error:  # a programming error; its text may hold patient data
            return _Reply(error=CxrDicomError(telemetry.safe_description(error)), log=self._new_records())

    def _new_records(self) -> list[logging.LogRecord]:
        records = []
        with suppress(Empty):
            while True:
                records.append(self._log.get_nowait())
        return records
