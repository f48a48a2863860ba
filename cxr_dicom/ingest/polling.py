"""Queries archives for new studies, and fetches only the instances that are missing.

A watermark per archive, the newest Study Date of the last finished round, says where the next round
begins: some days before it, because studies arrive late and grow. What the ledger knows is not fetched
again, so an interrupted round is simply repeated. No decision depends on this machine's clock alone.

A study is compared by its instances, for one that is replaced leaves their number as it was. A study that the archive
cannot give is put off, with pauses that grow, and remembered by its UID until it is given; the others go on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial

from cxr_dicom.config import Settings
from cxr_dicom.errors import ConnectionFailedError, CxrDicomError, FetchError
from cxr_dicom.ingest.archive import (
    Archive,
    IncompleteAnswerError,
    RemoteInstance,
    RemoteStudy,
    StudyQuery,
    build_archive,
)
from cxr_dicom.ingest.intake import Intake, Refusal, RefusedError
from cxr_dicom.store.ledger import Ledger
from cxr_dicom.store.ledger.places import Place
from cxr_dicom.store.ledger.polls import PutOff
from cxr_dicom.system import retry, telemetry

_LONGEST_PAUSE = retry.LONGEST_ASKED_PAUSE  # between two attempts at a study that the archive does not give
_REST = 0.1  # of the time in which a study stayed the same, until it is compared again
_NOBODY_THERE = frozenset({"UNREACHABLE", "REJECTED"})
_NOT_AN_ANSWER = frozenset({Refusal.UNREADABLE, Refusal.INVALID_UID, Refusal.UID_MISMATCH})


@dataclass
class Round:
    """The outcome of one round at one archive."""

    archive: str
    studies: int = 0  # that had something new
    instances: int = 0  # fetched
    refused: int = 0  # by us: not an image that we accept
    failed: int = 0  # images, or studies as a whole, that the archive did not give
    put_off: int = 0  # studies that it did not give before, and whose time has not come
    error: str = ""
    asked: str = field(default="", compare=False)  # for what, in the words of the standard, without the patient's
    found: int = field(default=0, compare=False)  # studies that the archive says match
    missing: list[StudyQuery] = field(default_factory=list, compare=False)  # queries to which it has no study


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
        self._troubles = {archive.name: telemetry.Repeats() for archive in self._archives}
        self._unchanged: dict[tuple[str, str], tuple[float, float]] = {}  # since when, and when it was compared last

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
                if isinstance(error, ConnectionFailedError) and error.retry_after and stop:
                    stop.wait(min(error.retry_after, 3600))
            except Exception as error:  # an answer that nobody foresaw: the next round may succeed
                made.error = telemetry.safe_description(error)
            self._tell(made)
            if made.error:
                self._ledger.places.failed(Place.ARCHIVE, archive.name, made.error)
            else:
                self._ledger.places.answered(Place.ARCHIVE, archive.name)
            rounds.append(made)
        return rounds

    def _tell(self, made: Round) -> None:
        """Log a round: what came, and the same trouble of the same archive once."""
        troubles = self._troubles[made.archive]
        if made.error:
            troubles.failed("poll_failed", made.error, level=logging.ERROR, archive=made.archive)
        elif not made.failed and not made.put_off:
            troubles.ended("poll_recovered", archive=made.archive)
        level = logging.INFO if made.instances else logging.DEBUG
        telemetry.event("poll_done", level=level, archive=made.archive, studies=made.studies, files=made.instances)

    def _round(self, archive: Archive, made: Round, queries: Sequence[StudyQuery], stop: threading.Event) -> None:
        newest = self._ledger.polls.watermark(archive.name)
        asked = tuple(queries) or (StudyQuery(since=self._since(newest)),)
        made.asked = _in_words(asked, self._settings.modalities)
        waiting = {} if queries else self._ledger.polls.put_off(archive.name)
        seen: set[str] = set()
        problem = None
        for query in asked:
            has_study = False
            try:
                for study in archive.studies(query, self._settings.modalities):
                    if stop.is_set():
                        return
                    has_study = True
                    seen.add(study.study_instance_uid)
                    made.found = len(seen)
                    self._try(archive, study, made, waiting.get(study.study_instance_uid), is_wanted=bool(queries))
                    newest = max(newest or "", study.study_date)
            except IncompleteAnswerError as error:
                problem = error  # the rest is asked for all the same
            else:
                made.missing += [] if has_study else [query]
        for uid in waiting.keys() - seen:
            if stop.is_set():
                return
            self._try_again(archive, uid, made, waiting[uid])
        if problem:
            raise problem
        if not queries and newest:
            today = f"{self._today():%Y%m%d}"  # a study that says it is of next year must not hide this year's
            self._ledger.polls.set_watermark(archive.name, min(newest, today))

    def _try_again(self, archive: Archive, uid: str, made: Round, before: PutOff) -> None:
        """Try a study that was put off and is not among those of this round, perhaps because it is too old by now."""
        if not self._has_come(before, made):
            return
        found: list[RemoteStudy] = []
        with self._its_own_trouble(archive, uid, made, before):
            found += archive.studies(StudyQuery(study_instance_uid=uid), self._settings.modalities)
            if not found:
                telemetry.event("study_gone", level=logging.WARNING, archive=archive.name, study_instance_uid=uid)
        for study in found:
            self._try(archive, study, made, before)

    def _try(
        self, archive: Archive, study: RemoteStudy, made: Round, before: PutOff | None, *, is_wanted: bool = False
    ) -> None:
        """Fetch what is missing of a study, if its time has come."""
        if not self._has_come(before, made) or not (is_wanted or before or self._is_due(archive, study)):
            return
        with self._its_own_trouble(archive, study.study_instance_uid, made, before):
            self._study(archive, study, made)

    def _has_come(self, before: PutOff | None, made: Round) -> bool:
        """Whether a study is not put off, or no longer."""
        is_waiting = before is not None and not retry.is_due(before.next_attempt_at, time.time())
        made.put_off += is_waiting
        return not is_waiting

    @contextmanager
    def _its_own_trouble(self, archive: Archive, uid: str, made: Round, before: PutOff | None) -> Iterator[None]:
        """Put a study off that the archive cannot give; raise only if nobody is there at all, or the fault is ours."""
        failed_before = made.failed
        try:
            yield
        except Exception as error:
            is_ours = isinstance(error, CxrDicomError) and not isinstance(error, (FetchError, ConnectionFailedError))
            if is_ours or (isinstance(error, ConnectionFailedError) and error.status in _NOBODY_THERE):
                raise
            if isinstance(error, ConnectionFailedError):
                archive.check()
            made.failed = max(made.failed, failed_before + 1)
            self._put_off(archive, uid, before, error)
        else:
            if before:
                self._ledger.polls.set_put_off(archive.name, uid, None)

    def _put_off(self, archive: Archive, uid: str, before: PutOff | None, error: Exception) -> None:
        """Leave a study for later: at first to the next round, then for twice as long each time."""
        attempts = before.attempts + 1 if before else 1
        pause = 0.0 if attempts == 1 else min(self._settings.interval_seconds * 2.0 ** (attempts - 2), _LONGEST_PAUSE)
        asked = error.retry_after if isinstance(error, ConnectionFailedError) else None
        pause = max(pause, min(asked or 0.0, _LONGEST_PAUSE))
        told = telemetry.safe_description(error)
        waiting = PutOff(attempts=attempts, next_attempt_at=time.time() + pause, reason=told)
        self._ledger.polls.set_put_off(archive.name, uid, waiting)
        self._troubles[archive.name].failed(
            "study_put_off",
            told,
            level=logging.WARNING,
            archive=archive.name,
            study_instance_uid=uid,
            seconds=pause,
        )

    def _is_due(self, archive: Archive, study: RemoteStudy) -> bool:
        """Whether a study is compared now: when its size changed, else the less often the longer it stayed the same."""
        polls = self._ledger.polls
        if study.instances is None or study.instances != polls.instances(archive.name, study.study_instance_uid):
            return True
        since, last = self._unchanged.get((archive.name, study.study_instance_uid), (0.0, 0.0))
        return time.monotonic() - last >= _REST * (last - since)

    def _study(self, archive: Archive, study: RemoteStudy, made: Round) -> None:
        """Fetch what is missing of a study, and close it: the archive has no more.

        Raises
        ------
        FetchError
            If something was not given, after all that was.
        """
        missing: dict[str, RemoteInstance] = {}
        problem: CxrDicomError | None = None
        try:
            for instance in self._missing(archive, archive.instances(study, self._settings.modalities)):
                missing[instance.sop_instance_uid] = instance  # what is listed before an error is fetched
        except (FetchError, ConnectionFailedError) as error:
            problem = error
        failed_before = made.failed
        try:
            for instance in missing.values():
                self._fetch(archive, instance, made)
        except ConnectionFailedError as error:
            problem = error
        if missing:
            made.studies += 1
            self._ledger.studies.complete(study.study_instance_uid)
        if problem:
            raise problem
        if failed := made.failed - failed_before:
            raise FetchError(f"{failed} of {len(missing)} images were not given")
        now, key = time.monotonic(), (archive.name, study.study_instance_uid)
        self._unchanged[key] = (now if missing else self._unchanged.get(key, (now, now))[0], now)
        if study.instances is not None:
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
            self._troubles[archive.name].failed(
                "fetch_failed",
                str(error),
                level=logging.ERROR,
                archive=archive.name,
                sop_instance_uid=instance.sop_instance_uid,
            )

    def _missing(self, archive: Archive, found: Iterable[RemoteInstance]) -> Iterable[RemoteInstance]:
        for instance in found:
            is_accepted = not instance.sop_class_uid or instance.sop_class_uid in self._sop_classes
            uid = instance.sop_instance_uid
            if (
                is_accepted
                and not self._ledger.studies.knows(uid)
                and not self._ledger.polls.is_unwanted(archive.name, uid)
            ):
                yield instance

    def _store(self, archive: Archive, chunks: Iterable[bytes], instance: RemoteInstance, made: Round) -> None:
        try:
            receive = partial(self._intake.spool.write_part, chunks)
            self._intake.store(
                receive,
                sender=archive.name,
                sop_instance_uid=instance.sop_instance_uid,
                study_instance_uid=instance.study_instance_uid,
            )
        except RefusedError as error:
            if error.refusal is Refusal.NO_SPACE:
                raise
            if error.refusal in _NOT_AN_ANSWER:  # not what was asked for: a page of text, another image
                raise FetchError(str(error)) from error
            made.refused += 1  # it would be refused again: the audit trail has the reason
            self._ledger.polls.set_unwanted(archive.name, instance.sop_instance_uid, instance.study_instance_uid)

    def _since(self, watermark: str | None) -> str:
        """Return the Study Date where a round begins."""
        try:
            newest = datetime.strptime(watermark or "", "%Y%m%d").date()
        except ValueError:
            return f"{self._today() - timedelta(days=self._settings.start_days):%Y%m%d}"
        return f"{newest - timedelta(days=self._settings.lookback_days):%Y%m%d}"


def _in_words(queries: Sequence[StudyQuery], modalities: Sequence[str]) -> str:
    """Say what is asked for; of a list its length, for an accession number is about a patient."""
    ways = Counter(
        key if key != "StudyDate" else f"{key}={value}" for each in queries for key, value in each.keys().items()
    )
    told = [way if way.startswith("StudyDate") else f"{count} {way}" for way, count in ways.items()]
    return f"{', '.join(told)}, ModalitiesInStudy={' or '.join(modalities)}"
