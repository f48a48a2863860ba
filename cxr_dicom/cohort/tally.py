"""Counts of a run, kept while it works."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

from cxr_dicom.cohort.finished import Done
from cxr_dicom.records import Skipped

_TIMELINE = 200  # points that are kept at most


class Tally:
    """What a run has done so far, in this session and in all sessions together."""

    def __init__(self, total: int) -> None:
        self.total = total  # entries of the manifest
        self.done = 0  # entries that are finished
        self.reused = 0  # of these, those that an earlier session had finished
        self.studies = 0
        self.objects = 0
        self.images: Counter[str] = Counter()  # by outcome
        self.reasons: Counter[tuple[str, str]] = Counter()  # outcome and reason
        self.models: dict[tuple[str, str, str | None], None] = {}  # name, version, digest
        self.by_host: Counter[str] = Counter()  # entries of this session, by the machine that did them
        self.devices: set[str] = set()  # that computed, as the workers say
        self.has_scores = False
        self.unfinished_parts: list[int] = []  # of a run in parts: for these the result files wait
        self.embeddings: dict[str, int] = {}  # models that gave vectors, and how long they are
        self.stages: dict[str, float] = {}  # seconds of this session
        self.computed = 0  # images of this session
        self._started = time.time()
        self._clock = time.monotonic()
        self._timeline: list[tuple[float, int]] = []

    @property
    def seconds(self) -> float:
        """Seconds since the start of this session."""
        return time.monotonic() - self._clock

    @property
    def rate(self) -> float:
        """Images per second of this session."""
        return self.computed / self.seconds if self.seconds else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the entries of this session; None before the first, and at the end."""
        worked, left = self.done - self.reused, self.total - self.done
        return left * self.seconds / worked if worked and left else None

    def add(self, done: Done) -> None:
        """Count a finished entry."""
        self.done += 1
        self.reused += done.is_reused
        self.studies += done.studies
        self.objects += done.objects
        self.models.update(dict.fromkeys(done.models))
        self.has_scores = self.has_scores or done.has_scores
        self.embeddings.update(done.embeddings)
        self.devices |= {done.device} - {""}
        add_seconds(self.stages, done.seconds)
        for (outcome, reason), count in done.outcomes.items():
            self._count(outcome, reason, count)
            self.computed += 0 if done.is_reused else count
        if not done.is_reused:
            self.by_host[done.host] += 1
            self._mark()

    def skip(self, skipped: Skipped) -> None:
        """Count an input that never became part of a study."""
        self._count(skipped.outcome, skipped.reason, 1)

    def session(self) -> dict[str, Any]:
        """Describe this session for ``run.json``."""
        return {
            "started": utc(self._started),
            "seconds": round(self.seconds, 3),
            "images": self.computed,
            "studies": self.done - self.reused,
            "seconds_per_stage": rounded(self.stages),
            "timeline": [[round(seconds, 3), images] for seconds, images in self._timeline],
        }

    def by_reason(self) -> Counter[str]:
        """Images by reason, whatever their outcome."""
        counts: Counter[str] = Counter()
        for (_, reason), count in self.reasons.items():
            counts[reason] += count
        return counts

    def _count(self, outcome: str, reason: str | None, count: int) -> None:
        self.images[str(outcome)] += count
        if reason:
            self.reasons[str(outcome), str(reason)] += count

    def _mark(self) -> None:
        self._timeline.append((self.seconds, self.computed))
        if len(self._timeline) > 2 * _TIMELINE:
            self._timeline = self._timeline[1::2]


def add_seconds(stages: dict[str, float], more: Mapping[str, float]) -> None:
    """Add ``more`` to ``stages``, stage by stage."""
    for stage, seconds in more.items():
        stages[stage] = stages.get(stage, 0.0) + seconds


def rounded(stages: Mapping[str, float]) -> dict[str, float]:
    """Return seconds to the millisecond."""
    return {stage: round(seconds, 3) for stage, seconds in stages.items()}


def utc(seconds: float | None = None) -> str:
    """Write a time, or the present."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
