"""A worker process: claim a study, run the pipeline, record the outcome; again and again.

Models run in processes of their own, so that what kills one, say a codec or a lack of memory, takes
neither listener nor delivery with it. A worker ends with its parent, however that ends.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from cxr_dicom import retry, telemetry
from cxr_dicom.audit import AuditTrail
from cxr_dicom.config import Settings
from cxr_dicom.config_service import Rules
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.infer._base import Model
from cxr_dicom.ingest.spool import Spool
from cxr_dicom.ledger import Claim, ClaimLostError, Ledger, Route, owner
from cxr_dicom.records import (
    Call,
    InstanceResult,
    ModelInfo,
    Outcome,
    Reason,
    Study,
    StudyResult,
)

_PAUSE = 0.3  # seconds between looks at an empty queue
_MAY_PASS = (Reason.ENCODING_FAILED, Reason.INTERNAL_ERROR)  # a full disk, a lack of memory
_STOP = "stop"


class Processor(Protocol):
    """What a worker needs of `pipeline.Pipeline`."""

    @property
    def models(self) -> Sequence[Model]:
        """The models at work."""

    def job_key(self, study: Study) -> str:
        """Identify what the result of a study depends on."""

    def process(self, study: Study, folder: Path) -> StudyResult:
        """Process a study and write its objects to a folder."""

    def close(self) -> None:
        """Give memory back."""


Build = Callable[[Settings], Processor]


class Worker:
    """Processes the studies of one spool, one at a time."""

    def __init__(self, settings: Settings, processor: Processor, name: str) -> None:
        self._settings = settings
        self._processor = processor
        self._name = name
        self._spool = Spool(settings)
        self._ledger = Ledger(self._spool.folder)
        self._audit = AuditTrail(self._spool.folder)

    def step(self) -> bool:
        """Process one study; tell whether there was one."""
        claim = self._ledger.studies.claim(self._name, max_interruptions=self._settings.service.max_interruptions)
        if claim is None:
            return False
        try:
            self._process(claim)
        except ClaimLostError as error:
            telemetry.failure("study", error, study_instance_uid=claim.study.study_instance_uid)
        except Exception as error:  # not the study's fault, as far as we know: it counts as an attempt
            telemetry.failure("study", error, study_instance_uid=claim.study.study_instance_uid)
            self._fail(claim, telemetry.safe_description(error))
        return True

    def close(self) -> None:
        """Give everything back."""
        self._processor.close()
        self._ledger.close()

    def _process(self, claim: Claim) -> None:
        uid = claim.study.study_instance_uid
        if self._processor.job_key(claim.study) == claim.job_key:
            self._ledger.studies.keep_unchanged(claim)
            return
        with self._spool.workshop() as folder:
            result = self._processor.process(claim.study, folder)
            if claim.attempts + 1 < retry.PROCESSING_ATTEMPTS and any(i.reason in _MAY_PASS for i in result.instances):
                self._postpone(claim, result)
                return
            result = replace(result, instances=tuple(self._adopt(uid, each) for each in result.instances))
        routes = list(_routes(result, self._settings))
        state = self._ledger.studies.finish(claim, result, self._infos(), routes)
        self._tell(result, str(state))

    def _infos(self) -> list[ModelInfo]:
        return [model.info for model in self._processor.models]

    def _adopt(self, uid: str, result: InstanceResult) -> InstanceResult:
        return replace(result, objects=tuple(self._spool.adopt(uid, made) for made in result.objects))

    def _fail(self, claim: Claim, detail: str) -> None:
        """Record a failure of the study as a whole."""
        result = StudyResult(
            study_instance_uid=claim.study.study_instance_uid,
            job_key="",
            instances=tuple(
                InstanceResult(
                    path=i.path, outcome=Outcome.FAILED, instance=i, reason=Reason.INTERNAL_ERROR, detail=detail
                )
                for i in claim.study.instances
            ),
        )
        if claim.attempts + 1 < retry.PROCESSING_ATTEMPTS:
            self._postpone(claim, result)
        else:
            self._ledger.studies.finish(claim, result, self._infos())
            self._tell(result, "DEAD")

    def _postpone(self, claim: Claim, result: StudyResult) -> None:
        until = time.time() + retry.pause_after(claim.attempts + 3)  # 2 to 8 s
        self._ledger.studies.postpone(claim, result, until)
        self._tell(result, "COMPLETE")

    def _tell(self, result: StudyResult, state: str) -> None:
        made = {each.sop_instance_uid: each for instance in result.instances for each in instance.objects}
        for each in made.values():  # once each: a findings report belongs to every image of its study
            self._audit.object_made(result.study_instance_uid, each)
        reasons = sorted({str(each.reason) for each in result.instances if each.reason})
        self._audit.write(
            "study_processed",
            study_instance_uid=result.study_instance_uid,
            state=state,
            reason=", ".join(reasons) or None,
            seconds=round(sum(result.seconds.values()), 3),
        )


# --- where a study goes --------------------------------------------------------------------------


def _routes(result: StudyResult, settings: Settings) -> Iterator[Route]:
    processed = [each for each in result.instances if each.outcome is Outcome.PROCESSED]
    for destination in settings.destinations:
        if _applies(destination.rules, processed):
            yield Route(
                destination=destination.name,
                verify=destination.verify != "none",
                kinds=frozenset(destination.rules.kinds),
            )


def _applies(rules: Rules, processed: Sequence[InstanceResult]) -> bool:
    """Whether a study of these processed images passes every rule."""
    modalities = {str(each.analysis.image.header.get("Modality", "")) for each in processed if each.analysis}
    senders = {each.instance.sender for each in processed if each.instance}
    called = {name for each in processed for name in _called_present(each)}
    wanted = ((rules.modalities, modalities), (rules.senders, senders), (rules.findings, called))
    return all(not names or bool(set(names) & found) for names, found in wanted)


def _called_present(result: InstanceResult) -> Iterator[str]:
    for prediction in result.analysis.predictions if result.analysis else ():
        calls = {each.name: each.call for each in prediction.findings}
        calls |= {each.name: each.call for each in prediction.statements}
        yield from (name for name, call in calls.items() if call is Call.PRESENT)


# --- the process ---------------------------------------------------------------------------------


class WorkerProcess:
    """A worker in a process of its own, seen from the service.

    Parameters
    ----------
    build
        Makes the pipeline, in the new process; must be importable there.
    """

    def __init__(self, settings: Settings, build: Build) -> None:
        self.owner = owner()
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        arguments = (settings, build, self.owner, theirs, telemetry.configuration())
        self._process = context.Process(target=_work, args=arguments, name="cxr-dicom-worker", daemon=True)
        self._process.start()
        theirs.close()

    def wait_until_ready(self) -> None:
        """Wait until the models are loaded.

        Raises
        ------
        CxrDicomError
            If they cannot be.
        """
        try:
            problem = self._connection.recv()
        except EOFError:
            problem = f"the worker process died while it loaded the models (exit code {self._join(5)})"
        if problem:
            raise CxrDicomError(problem)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.is_alive()

    def ask_to_stop(self) -> None:
        """Let it finish the study at work, and no other."""
        try:
            self._connection.send(_STOP)
        except OSError:  # it is gone already
            return

    def stop(self, seconds: float) -> None:
        """Wait so long for its end, then kill it."""
        if self._join(seconds) is None:
            self._process.kill()
            self._join(10)
        self._connection.close()

    def _join(self, seconds: float) -> int | None:
        self._process.join(seconds)
        return self._process.exitcode


def _work(settings: Settings, build: Build, name: str, parent: Connection, log: tuple[int, bool] | None) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    telemetry.configure_as(log)
    stop = threading.Event()
    threading.Thread(target=_listen, args=(parent, stop), daemon=True).start()
    try:
        worker = Worker(settings, build(settings), name)
    except CxrDicomError as error:
        telemetry.failure("worker", error)  # the service asks its first workers only
        parent.send(str(error))
        return
    parent.send(None)
    while not stop.is_set():
        try:
            busy = worker.step()
        except Exception as error:  # a locked ledger: the claim is taken back when this process ends
            telemetry.failure("worker", error)
            raise SystemExit(1) from error
        if not busy:
            stop.wait(_PAUSE)
    worker.close()


def _listen(parent: Connection, stop: threading.Event) -> None:
    """Wait for the word to stop; end at once when the parent is gone, for its successor owns the studies."""
    try:
        parent.recv()
    except (EOFError, OSError):
        os._exit(1)
    stop.set()


def build_pipeline(settings: Settings) -> Processor:
    """Make the pipeline; torch is imported here, in the worker's process only.

    The clock may be read, for the ledger keeps the first bytes of a result, and sends those again.
    """
    from cxr_dicom.pipeline import Pipeline

    return Pipeline(settings.with_content_time("now"))
