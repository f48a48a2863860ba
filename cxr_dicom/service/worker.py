"""A worker process: claim a study, run the pipeline, record the outcome; again and again.

Models run in processes of their own, so that what kills one, say a codec or a lack of memory, takes
neither listener nor delivery with it. A worker ends with its parent, however that ends.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

from cxr_dicom.config import Settings
from cxr_dicom.config.routes import DEFAULT
from cxr_dicom.infer.base import Model
from cxr_dicom.records import InstanceResult, ModelInfo, Outcome, Reason, Skipped, Study, StudyResult, StudyState
from cxr_dicom.service.routes import dispatches
from cxr_dicom.store.audit import AuditTrail
from cxr_dicom.store.ledger import Claim, ClaimLostError, Ledger, LedgerError
from cxr_dicom.store.spool import Spool, SpoolFullError
from cxr_dicom.system import retry, telemetry

_MAY_PASS = (Reason.ENCODING_FAILED, Reason.INTERNAL_ERROR)
_WANTS = (
    "this machine lacks",
    "MemoryError",
    "OutOfMemoryError",
    "PermissionError",
)  # of this machine, no fault of a study


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


class _Chosen(NamedTuple):
    """What a study is processed with."""

    settings: Settings
    processor: Processor

    def infos(self, result: StudyResult) -> list[ModelInfo]:
        """Return the models that made a result; where images take routes, those that saw one of its images."""
        infos = [model.info for model in self.processor.models]
        analyses = [instance.analysis for instance in result.instances if instance.analysis]
        ran = {prediction.model.name for analysis in analyses for prediction in analysis.predictions}
        return [info for info in infos if info.name in ran] if self.settings.routes else infos


class Worker:
    """Processes the studies of one spool, one at a time."""

    def __init__(self, settings: Settings, processor: Processor, name: str, build: Build | None = None) -> None:
        self._settings = settings
        self._processor = processor
        self._build = build
        self._name = name
        self._spool = Spool(settings)
        self._ledger = Ledger(self._spool.folder)
        self._audit = AuditTrail(self._spool.folder)
        self._troubles = telemetry.Repeats()
        self._wants: dict[str, int] = {}  # how often a study wanted what this machine does not have now

    def step(self) -> bool:
        """Process one study; tell whether there was one. Without room on the disk none is taken."""
        if self._lacks_room():
            return False
        try:
            claim = self._ledger.studies.claim(self._name, max_interruptions=self._settings.service.max_interruptions)
        except LedgerError as error:  # locked for long: no study was taken, and the models stay loaded
            self._troubles.failed("worker_failed", str(error), level=logging.ERROR)
            return False
        if claim is None:
            return False
        try:
            self._process(claim)
        except ClaimLostError as error:
            telemetry.failure("study", error, study_instance_uid=claim.study.study_instance_uid)
        except Exception as error:  # not the study's fault, as far as we know: it counts as an attempt
            told = telemetry.safe_description(error)
            uid = claim.study.study_instance_uid
            self._troubles.failed("study_failed", told, level=logging.ERROR, study_instance_uid=uid)
            self._fail(claim, told)
        return True

    def close(self) -> None:
        """Give everything back."""
        self._processor.close()
        self._ledger.close()

    def _process(self, claim: Claim) -> None:
        with self._chosen(claim.models) as chosen:
            self._process_by(chosen, claim)

    def _process_by(self, chosen: _Chosen, claim: Claim) -> None:
        uid = claim.study.study_instance_uid
        if chosen.processor.job_key(claim.study) == claim.job_key:
            self._ledger.studies.keep_unchanged(claim)
            return
        with self._spool.workspace() as folder:
            result = chosen.processor.process(claim.study, folder)
            failed = [instance for instance in result.instances if instance.reason in _MAY_PASS]
            is_want = bool(failed) and self._is_want(instance.detail for instance in failed)
            if is_want or (failed and claim.attempts + 1 < retry.PROCESSING_ATTEMPTS):
                self._postpone(claim, result, is_want=is_want)
                return
            result = self._adopt(result)
        goes_to = list(dispatches(result, chosen.settings.by_route))
        shown = self._shown(result, chosen.settings)
        try:
            state = self._ledger.studies.finish(claim, result, chosen.infos(result), goes_to, shown)
        except ClaimLostError:
            self._delete_forgotten(result)
            raise
        self._wants.pop(uid, None)
        self._tell(result, state)

    @contextmanager
    def _chosen(self, models: Sequence[str]) -> Iterator[_Chosen]:
        """Give the pipeline of the settings, or one with the models that a person asked for, for this study only."""
        settings = self._settings.with_models(tuple(models)) if models else self._settings
        if settings == self._settings or self._build is None:
            yield _Chosen(self._settings, self._processor)
            return
        processor = self._build(settings)
        try:
            yield _Chosen(settings, processor)
        finally:
            processor.close()

    def _shown(self, result: StudyResult, settings: Settings) -> Path | None:
        """Keep what pages show of a study, where there are pages; no study fails for it."""
        if self._settings.web.port is None:
            return None
        from cxr_dicom.results import report, rows

        try:
            by_route = settings.by_route
            analyses = [instance.analysis for instance in result.instances if instance.analysis]
            content = {
                "rows": [
                    row
                    for instance in result.instances
                    for row in rows.study_rows(
                        replace(result, instances=(instance,)),
                        by_route[instance.route or DEFAULT],
                        self._spool.folder,
                    )
                ],
                "figures": {
                    analysis.image.instance.sop_instance_uid: report.figures(analysis) for analysis in analyses
                },
            }
            return self._spool.keep_shown(result.study_instance_uid, json.dumps(content))
        except Exception as error:
            telemetry.failure("pictures", error, study_instance_uid=result.study_instance_uid)
            return None

    def _adopt(self, result: StudyResult) -> StudyResult:
        made = [encoded for instance in result.instances for encoded in instance.objects]
        kept = iter(self._spool.adopt(result.study_instance_uid, made))
        instances = (replace(each, objects=tuple(islice(kept, len(each.objects)))) for each in result.instances)
        return replace(result, instances=tuple(instances))

    def _delete_forgotten(self, result: StudyResult) -> None:
        """Delete the objects of a study that a person deleted while it was at work."""
        with self._ledger.transaction():  # it cannot come back meanwhile
            if self._ledger.stories.state(result.study_instance_uid) is None:
                self._spool.delete(made.path for instance in result.instances for made in instance.objects)

    def _fail(self, claim: Claim, detail: str) -> None:
        """Record a failure of the study as a whole."""
        failed = (
            Skipped(path=i.path, reason=Reason.INTERNAL_ERROR, detail=detail, outcome=Outcome.FAILED, instance=i)
            for i in claim.study.instances
        )
        result = StudyResult(
            study_instance_uid=claim.study.study_instance_uid,
            job_key="",
            instances=tuple(map(InstanceResult.without, failed)),
        )
        is_want = self._is_want([detail])
        if is_want or claim.attempts + 1 < retry.PROCESSING_ATTEMPTS:
            self._postpone(claim, result, is_want=is_want)
        else:
            infos = [] if claim.models else _Chosen(self._settings, self._processor).infos(result)
            self._ledger.studies.finish(claim, result, infos)
            self._tell(result, StudyState.DEAD)

    def _postpone(self, claim: Claim, result: StudyResult, *, is_want: bool) -> None:
        """Try again later; what this machine lacks is no attempt, and is asked for without end."""
        uid = claim.study.study_instance_uid
        failures = claim.attempts
        if is_want:
            failures = self._wants[uid] = self._wants.get(uid, -1) + 1
        until = time.time() + retry.pause_after(failures + 3)  # from 2 s on
        self._ledger.studies.postpone(claim, result, until, counts=not is_want)
        self._tell(result, StudyState.COMPLETE)

    def _lacks_room(self) -> bool:
        try:
            self._spool.require_space()
        except SpoolFullError:
            return True
        return False

    def _is_want(self, details: Iterable[str]) -> bool:
        """Whether a failure came from a want of room, memory or permission."""
        is_bounded = self._settings.service.worker_memory_mb is not None  # then a study that needs more is at fault
        wants = [want for want in _WANTS if not (is_bounded and want == "MemoryError")]
        return self._lacks_room() or any(detail.startswith(tuple(wants)) for detail in details)

    def _tell(self, result: StudyResult, state: StudyState) -> None:
        made = {encoded.sop_instance_uid: encoded for instance in result.instances for encoded in instance.objects}
        for encoded in made.values():  # once each: a findings report belongs to every image of its study
            self._audit.object_made(result.study_instance_uid, encoded)
        reasons = sorted({str(instance.reason) for instance in result.instances if instance.reason})
        is_trouble = state in (StudyState.COMPLETE, StudyState.DEAD)  # it will be tried again, or needs a person
        write = self._audit.warn if is_trouble else self._audit.write
        write(
            "study_processed",
            study_instance_uid=result.study_instance_uid,
            state=state,
            reason=", ".join(reasons) or None,
            seconds=round(sum(result.seconds.values()), 3),
        )


def build_pipeline(settings: Settings) -> Processor:
    """Make the pipeline; torch is imported here, in the worker's process only.

    The clock may be read, for the ledger keeps the first bytes of a result, and sends those again.
    """
    if settings.routes:
        from cxr_dicom.service.routed import RoutedPipeline

        return RoutedPipeline(settings)
    from cxr_dicom.pipeline import Pipeline

    return Pipeline(settings.decided(service=True))
