"""What `serve` starts: listener, assembly, workers, couriers and poller around one spool, and their end."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial

from cxr_dicom.config import Settings
from cxr_dicom.deliver import build_destination
from cxr_dicom.errors import CxrDicomError, SettingsError
from cxr_dicom.ingest.archive import StudyQuery
from cxr_dicom.ingest.assembly import Assembly
from cxr_dicom.ingest.intake import Intake
from cxr_dicom.ingest.polling import Polling, Round
from cxr_dicom.records import StudyState
from cxr_dicom.scp import Listener
from cxr_dicom.service import health, recovery
from cxr_dicom.service.courier import Courier
from cxr_dicom.service.drift import DriftWatch
from cxr_dicom.service.health import Figure, Problem, Problems
from cxr_dicom.service.metrics import MetricsServer
from cxr_dicom.service.pages import open_pages
from cxr_dicom.service.process import Bells, WorkerProcess, ready
from cxr_dicom.service.receipts import on_commitment
from cxr_dicom.service.reload import Reload
from cxr_dicom.service.retention import housekeep
from cxr_dicom.service.routes import unasked
from cxr_dicom.service.worker import Build, build_pipeline
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.ledger.actions import Person
from cxr_dicom.store.spool import Spool
from cxr_dicom.system import telemetry

_TICK_SECONDS = 0.25
_HOUSEKEEPING_SECONDS = 3600.0
_FORGOTTEN_SECONDS = 30.0  # a worker that has no study any more is ended when it is busy for so long
_SIGNAL = "SIGHUP"  # which does not say who sent it
_WORKER_PAUSE_SECONDS = 5.0  # before a worker that died is replaced


class Service:
    """Everything between the network and the network, for one set of settings.

    The caller holds the lock of the spool.

    Parameters
    ----------
    build
        Makes the pipeline in a worker process.
    polls
        Whether archives are polled by themselves.

    Raises
    ------
    CxrDicomError
        If a part cannot start; then none is left running.
    """

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        *,
        build: Build = build_pipeline,
        polls: bool = True,
    ) -> None:
        self.settings = settings
        self.refused_settings = ""  # why others were not taken when they were read again
        self._spool = spool
        self._build = build
        self._polls = polls
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._workers: list[WorkerProcess] = []
        self._couriers: list[Courier] = []
        self._bells = Bells()
        self._replace_at = 0.0
        self._housekeeping_at = 0.0
        self._troubles = telemetry.Repeats()
        with ExitStack() as parts:
            self.ledger = Ledger(spool.folder)
            parts.callback(self.ledger.close)
            self._audit = AuditTrail(spool.folder)
            self._recover()
            self.assembly = Assembly(settings.assembly)
            self.intake = Intake(spool, self.ledger, self.assembly, self._audit, settings.listener.sop_classes)
            parts.callback(self._stop_workers)
            self._start_workers()
            self._listener = self._listen()
            if self._listener:
                parts.callback(self._listener.stop, 5.0)
            self.polling = Polling(settings, self.ledger, self.intake)
            self._drift = DriftWatch(self.ledger, settings.monitor)
            self._metrics = self._measure()
            if self._metrics:
                parts.callback(self._metrics.stop)
            self.pages = open_pages(settings, self.intake, self.problems)
            if self.pages:
                parts.callback(self.pages.stop)
            parts.callback(self._stop_threads)
            self._start_threads()
            self._parts = parts.pop_all()
        telemetry.event("service_started")

    def tick(self) -> None:
        """Do what is to be done every now and then; called from one thread."""
        for uid in self.assembly.due(self.ledger.studies.uids(StudyState.RECEIVING)):
            if self.ledger.studies.complete(uid):
                self._bells.study.ring()
                telemetry.event("study_complete", level=logging.DEBUG, study_instance_uid=uid)
        self._end_overdue_workers()
        self._replace_dead_workers()
        if time.monotonic() >= self._housekeeping_at:
            self._housekeeping_at = time.monotonic() + _HOUSEKEEPING_SECONDS
            housekeep(self.settings, self._spool, self.ledger)

    def run(self, until: threading.Event) -> None:
        """Tick until the event is set; a locked ledger, a full disk or a lack of memory does not end it."""
        while not until.is_set():
            try:
                self.tick()
                self.assembly.wait(_TICK_SECONDS)
            except (CxrDicomError, OSError) as error:
                self._troubles.failed("tick_failed", telemetry.safe_description(error), level=logging.ERROR)
                until.wait(_TICK_SECONDS)

    def is_idle(self) -> bool:
        """Whether nothing is under way: no study before its end, no delivery due."""
        moving = (StudyState.RECEIVING, StudyState.COMPLETE, StudyState.RUNNING)
        if any(self.ledger.studies.uids(state) for state in moving):
            return False
        return not any(
            self.ledger.deliveries.due(destination.name, limit=1) for destination in self.settings.destinations
        )

    def problems(self) -> Problems:
        """Say which parts do not work, and what a person must look at."""
        found = {}
        if not all(worker.is_alive for worker in self._workers):
            found["workers"] = Problem(text="a worker process died and is not yet replaced", is_fatal=True)
        parts = {"listener": self._listener, "pages": self.pages}
        stopped = [name for name, part in parts.items() if part and not part.is_alive]
        stopped += [thread.name for thread in self._threads if not thread.is_alive()]
        found |= dict.fromkeys(stopped, Problem(text="stopped", is_fatal=True))
        if self._listener and (problem := self._listener.problem()):
            found.setdefault("listener", Problem(text=problem))
        if self.refused_settings:
            found["settings"] = Problem(text=f"those that were read again are not used: {self.refused_settings}")
        found |= health.storage(self._spool, self._audit)
        try:
            found |= health.problems(self.ledger, self.settings)
        except CxrDicomError as error:
            found["ledger"] = Problem(text=str(error))
        return found

    def stop(self) -> None:
        """Stop all parts: no new image, the study at work is finished or released, receipts are kept."""
        self._stop.set()
        for worker in self._workers:
            worker.ask_to_stop()
        self._parts.close()
        telemetry.event("service_stopped")

    # --- parts -----------------------------------------------------------------------------------

    def _recover(self) -> None:
        """Put right what a crash left behind."""
        back = self.ledger.studies.take_back()
        found = recovery.recover(self._spool, self.ledger, self._audit)
        telemetry.event("recovered", studies=len(back), files=found.taken_in)
        for name, objects in self._held().items():
            telemetry.event("destination_missing", level=logging.WARNING, destination=name, objects=objects)

    def _held(self) -> dict[str, int]:
        """Count what waits for destinations that the settings do not name."""
        named = {destination.name for destination in self.settings.destinations}
        return {name: count for name, count in self.ledger.deliveries.open().items() if name not in named}

    def _listen(self) -> Listener | None:
        if not self.settings.listener.enabled:
            return None

        hear_commitment = partial(
            on_commitment, self.ledger, self._audit, give_up_after=self.settings.retry.give_up_hours * 3600
        )
        listener = Listener(self.settings.listener, self.intake, self.assembly, hear_commitment)
        listener.start()
        return listener

    def _measure(self) -> MetricsServer | None:
        port = self.settings.service.metrics_port
        return MetricsServer(port, self._figures, self.problems) if port else None

    def _figures(self) -> list[Figure]:
        known = health.figures(self.ledger, self.settings)
        return [*self.ledger.stories.figures(), *known, *self._drift.figures()]

    def _start_threads(self) -> None:
        for described in self.settings.destinations:
            open_commitment = partial(self.ledger.deliveries.open_commitment, destination=described.name)
            carrier = Courier(
                build_destination(described, open_commitment),
                self.ledger,
                self._audit,
                self._spool,
                give_up_after=self.settings.retry.give_up_hours * 3600,
                unasked=unasked(described, self.settings.by_route),
            )
            self._couriers.append(carrier)
            self._threads.append(
                threading.Thread(target=carrier.run, args=(self._stop,), name=f"courier {described.name}", daemon=True)
            )
        if self._polls and self.settings.poller.archives:
            self._threads.append(
                threading.Thread(target=self.polling.run, args=(self._stop,), name="poller", daemon=True)
            )
        self._threads.append(threading.Thread(target=self._drift.run, args=(self._stop,), name="drift", daemon=True))
        self._threads.append(threading.Thread(target=self._hear_results, name="results", daemon=True))
        for thread in self._threads:
            thread.start()

    def _hear_results(self) -> None:
        """Wake the couriers when a worker has something for them."""
        while not self._stop.is_set():
            if self._bells.result.wait(_TICK_SECONDS):
                self._wake_couriers()

    def _wake_couriers(self) -> None:
        for carrier in self._couriers:
            carrier.wake()

    def _stop_threads(self) -> None:
        self._stop.set()
        self._bells.result.ring()
        self._wake_couriers()
        for thread in self._threads:
            thread.join(self.settings.service.stop_seconds)

    # --- workers ---------------------------------------------------------------------------------

    def _start_workers(self) -> None:
        make = partial(WorkerProcess, self.settings, self._build, self._bells)
        self._workers += [make() for _ in range(self.settings.service.workers)]
        for number, worker in enumerate(self._workers):
            self._workers[number] = ready(worker, make)

    def _end_overdue_workers(self) -> None:
        """End a worker that is at one stage for too long, or whose study was forgotten."""
        for worker in self._workers:
            seconds = worker.seconds_at_stage()
            if seconds > self.settings.service.study_seconds or (
                seconds > _FORGOTTEN_SECONDS and not self.ledger.studies.is_claimed_by(worker.owner)
            ):
                telemetry.event("worker_overdue", level=logging.WARNING, seconds=round(seconds, 1))
                worker.kill()

    def _replace_dead_workers(self) -> None:
        for number, worker in enumerate(self._workers):
            if worker.is_alive or time.monotonic() < self._replace_at:
                continue
            self._replace_at = time.monotonic() + _WORKER_PAUSE_SECONDS
            for uid in self.ledger.studies.take_back(worker.owner) or (None,):
                telemetry.event("worker_died", level=logging.WARNING, study_instance_uid=uid)
            self._spool.clear_workspaces(worker.process_id)
            self._workers[number] = WorkerProcess(self.settings, self._build, self._bells)

    def _stop_workers(self) -> None:
        until = time.monotonic() + self.settings.service.stop_seconds
        for worker in self._workers:
            worker.ask_to_stop()
        for worker in self._workers:
            worker.stop(max(0.0, until - time.monotonic()))
            with telemetry.told("stop", CxrDicomError):  # a full disk: the next start takes its study back
                self.ledger.studies.take_back(worker.owner, is_interruption=False)


def serve(load: Callable[[], Settings], *, build: Build = build_pipeline) -> None:
    """Run the service until SIGTERM or SIGINT; SIGHUP reads the settings again.

    They are tried first, while the service runs on: those that cannot be used are told by log and health, and change
    nothing.

    Raises
    ------
    CxrDicomError
        If the settings are wrong, the spool is in use, or a part cannot start.
    """
    stop, again, wake = threading.Event(), threading.Event(), threading.Event()

    def on_reload(number: int, frame: object) -> None:
        again.set()
        wake.set()

    def on_stop(number: int, frame: object) -> None:
        stop.set()
        wake.set()

    signal.signal(signal.SIGTERM, on_stop)
    signal.signal(signal.SIGINT, on_stop)
    if hasattr(signal, "SIGHUP"):  # not on Windows, where the lock of the spool says what is missing
        signal.signal(signal.SIGHUP, on_reload)
    settings = load()
    spool = Spool(settings)
    spool.lock()
    try:
        service = Service(settings, spool, build=build)
        try:
            reload: Reload | None = None
            while True:
                service.run(wake)
                wake.clear()  # first: a signal from here on is seen below or by the next turn
                if stop.is_set():
                    return
                if reload and not reload.is_alive():
                    service.refused_settings = reload.problem
                    if reload.problem:
                        AuditTrail(spool.folder).write("reload_refused", error=reload.problem, via=_SIGNAL)
                    if reload.settings:
                        service = _exchanged(service, reload.settings, spool, build)
                    reload = None
                if again.is_set() and not reload:
                    again.clear()
                    reload = Reload(load, service.settings, build, wake)
                    reload.start()
        finally:
            service.stop()
    finally:
        spool.unlock()


def _exchanged(service: Service, settings: Settings, spool: Spool, build: Build) -> Service:
    """Replace a service by one with other settings, or by one with the same when that cannot start after all."""
    service.stop()
    try:
        new = Service(settings, spool, build=build)
    except CxrDicomError as error:
        telemetry.failure("reload", error)
        AuditTrail(spool.folder).write("reload_refused", error=str(error), via=_SIGNAL)
        new = Service(service.settings, spool, build=build)
        new.refused_settings = str(error)
    else:
        AuditTrail(spool.folder).write("reloaded", via=_SIGNAL)
    return new


def polling_only(settings: Settings) -> Settings:
    """Return settings of a service that receives nothing by itself, except what C-MOVE asks for."""
    if not settings.poller.archives:
        raise SettingsError("poller.archives: expected at least one archive to poll, found none")
    moves = any(archive.kind == "query-retrieve" and archive.retrieve == "move" for archive in settings.poller.archives)
    listener = settings.listener.model_copy(update={"enabled": settings.listener.enabled and moves})
    return settings.model_copy(update={"listener": listener})


def poll_once(
    settings: Settings,
    study_instance_uids: Sequence[str] = (),
    accession_numbers: Sequence[str] = (),
    *,
    person: Person | None = None,
    build: Build = build_pipeline,
) -> list[Round]:
    """Make one round, or fetch what is listed, process and deliver what came, and end when nothing more is due.

    The audit trail says which ``person`` asked.

    Raises
    ------
    CxrDicomError
        As `serve`.
    """
    queries = [StudyQuery(study_instance_uid=uid) for uid in study_instance_uids]
    queries += [StudyQuery(accession_number=number) for number in accession_numbers]
    spool = Spool(settings)
    spool.lock()
    try:
        service = Service(polling_only(settings), spool, build=build, polls=False)
        if person:
            AuditTrail(spool.folder).write(
                "archives_polled", studies=len(queries) or None, by=person.name, via=person.via
            )
        try:
            rounds = service.polling.once(queries)
            while not service.is_idle():
                service.tick()
                service.assembly.wait(_TICK_SECONDS)
        finally:
            service.stop()
    finally:
        spool.unlock()
    return rounds
