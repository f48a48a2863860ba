"""Queries archives for new studies, and fetches only the instances that are missing.

A watermark per archive, the newest Study Date of the last finished round, says where the next round
begins: some days before it, because studies arrive late and grow. What the ledger knows is not fetched
again, so an interrupted round is simply repeated. No decision depends on this machine's clock alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial

from cxr_dicom.config import Settings
from cxr_dicom.errors import CxrDicomError, FetchError
from cxr_dicom.ingest.archive import Archive, RemoteInstance, RemoteStudy, StudyQuery, build_archive
from cxr_dicom.ingest.intake import Intake, Refusal, RefusedError
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.ledger.places import Place
from cxr_dicom.system import telemetry
from cxr_dicom.system.network import ConnectionFailedError


@dataclass
class Round:
    """The outcome of one round at one archive."""

    archive: str
    studies: int = 0  # that had something new
    instances: int = 0  # fetched
    refused: int = 0  # by us: not an image that we accept
    failed: int = 0  # not delivered by the archive
    error: str = ""


class Polling:
    """The poller of one service.

    Parameters
    ----------
    today
        The date on this machine.
    """

    def __init__(
        self, settings: Settings, ledger: Ledger, intake: Intake, today: Callable[[], date] = date.today
    ) -> None:
        self._settings = settings.poller
        self._archives = [build_archive(archive, settings.listener) for archive in settings.poller.archives]
        self._sop_classes = frozenset(settings.listener.sop_classes)
        self._ledger = ledger
        self._intake = intake
        self._today = today

    def run(self, stop: threading.Event) -> None:
        """Make a round every ``poller.interval_seconds`` until ``stop``."""
        while not stop.is_set():
            self.once(stop=stop)
            stop.wait(self._settings.interval_seconds)

    def once(self, queries: Sequence[StudyQuery] = (), stop: threading.Event | None = None) -> list[Round]:
        """Make one round over every archive; an error at one is recorded and does not stop the others.

        Parameters
        ----------
        wanted
            Studies to fetch instead of what is new.
        """
        rounds = []
        for archive in self._archives:
            made = Round(archive=archive.name)
            try:
                self._round(archive, made, queries, stop or threading.Event())
            except CxrDicomError as error:
                made.error = str(error)
                telemetry.failure("poll", error, archive=archive.name)
                if isinstance(error, ConnectionFailedError) and error.retry_after and stop:
                    stop.wait(min(error.retry_after, 3600))
            except Exception as error:  # an answer that nobody foresaw: the next round may succeed
                made.error = telemetry.safe_description(error)
                telemetry.failure("poll", error, archive=archive.name)
            telemetry.event("poll_done", archive=archive.name, studies=made.studies, files=made.instances)
            if made.error:
                self._ledger.places.failed(Place.ARCHIVE, archive.name, made.error)
            else:
                self._ledger.places.answered(Place.ARCHIVE, archive.name)
            rounds.append(made)
        return rounds

    def _round(self, archive: Archive, made: Round, queries: Sequence[StudyQuery], stop: threading.Event) -> None:
        newest = self._ledger.polls.watermark(archive.name)
        for query in queries or (StudyQuery(since=self._since(newest)),):
            for study in archive.studies(query, self._settings.modalities):
                if stop.is_set():
                    return
                if study.instances is None or study.instances != self._known(archive, study):
                    self._study(archive, study, made)
                newest = max(newest or "", study.study_date)
        if not queries and newest:
            today = f"{self._today():%Y%m%d}"  # a study that says it is of next year must not hide this year's
            self._ledger.polls.set_watermark(archive.name, min(newest, today))

    def _known(self, archive: Archive, study: RemoteStudy) -> int | None:
        return self._ledger.polls.instances(archive.name, study.study_instance_uid)

    def _study(self, archive: Archive, study: RemoteStudy, made: Round) -> None:
        """Fetch what is missing of a study, and close it: the archive has no more."""
        missing = list(self._missing(archive.instances(study, self._settings.modalities)))
        failed_before = made.failed
        for instance in missing:
            self._fetch(archive, instance, made)
        if missing:
            made.studies += 1
            self._ledger.studies.complete(study.study_instance_uid)
        if study.instances is not None and made.failed == failed_before:
            self._ledger.polls.set_instances(archive.name, study.study_instance_uid, study.instances)

    def _fetch(self, archive: Archive, instance: RemoteInstance, made: Round) -> None:
        """Fetch one instance; what the archive does not deliver is requested again while the study is in the window."""
        refused_before = made.refused
        try:
            archive.fetch(instance, lambda chunks, about: self._store(archive, chunks, about, made))
            if made.refused == refused_before and not self._ledger.studies.knows(instance.sop_instance_uid):
                raise FetchError(f"expected {instance.sop_instance_uid}, the archive said success and sent nothing")
            made.instances += 1
        except FetchError as error:
            made.failed += 1
            telemetry.failure("fetch", error, archive=archive.name, sop_instance_uid=instance.sop_instance_uid)

    def _missing(self, found: Iterable[RemoteInstance]) -> Iterable[RemoteInstance]:
        for instance in found:
            is_accepted = not instance.sop_class_uid or instance.sop_class_uid in self._sop_classes
            if is_accepted and not self._ledger.studies.knows(instance.sop_instance_uid):
                yield instance

    def _store(self, archive: Archive, chunks: Iterable[bytes], instance: RemoteInstance, made: Round) -> None:
        try:
            receive = partial(self._intake.spool.write_part, chunks)
            self._intake.store(receive, sender=archive.name, sop_instance_uid=instance.sop_instance_uid)
        except RefusedError as error:
            if error.refusal is Refusal.NO_SPACE:
                raise
            made.refused += 1  # it would be refused again: the audit trail has the reason

    def _since(self, watermark: str | None) -> str:
        """Return the Study Date where a round begins."""
        try:
            newest = datetime.strptime(watermark or "", "%Y%m%d").date()
        except ValueError:
            return f"{self._today() - timedelta(days=self._settings.start_days):%Y%m%d}"
        return f"{newest - timedelta(days=self._settings.lookback_days):%Y%m%d}"
