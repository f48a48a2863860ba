"""What a run has done so far, and ``run.json``, which says it to those who come later."""

from __future__ import annotations

import json
import platform
import time
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cxr_dicom import __version__
from cxr_dicom.cohort_task import Done
from cxr_dicom.config import RESULT_TABLES, Settings
from cxr_dicom.ingest.manifest import Manifest
from cxr_dicom.records import Outcome, Skipped
from cxr_dicom.results import open_atomically

_LIBRARIES = ("torch", "torchxrayvision", "pydicom", "highdicom", "numpy")
_TIMELINE = 200  # points that are kept at most


class Tally:
    """Counts of a run, by what was done in this session and by all sessions together."""

    def __init__(self, total: int) -> None:
        self.total = total  # entries of the manifest
        self.done = 0  # entries that are finished
        self.reused = 0  # of these, those that an earlier session had finished
        self.studies = 0
        self.objects = 0
        self.images: Counter[str] = Counter()  # by outcome
        self.reasons: Counter[tuple[str, str]] = Counter()  # outcome and reason
        self.models: dict[tuple[str, str, str | None], None] = {}  # name, version, digest
        self.has_scores = False
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
        """Estimate from the entries of this session; None before the first."""
        worked = self.done - self.reused
        return (self.total - self.done) * self.seconds / worked if worked else None

    def add(self, done: Done) -> None:
        """Count a finished entry."""
        self.done += 1
        self.reused += done.is_reused
        self.studies += done.studies
        self.objects += done.objects
        self.models.update(dict.fromkeys(done.models))
        self.has_scores = self.has_scores or done.has_scores
        _add(self.stages, done.seconds)
        for (outcome, reason), count in done.outcomes.items():
            self._count(outcome, reason, count)
            self.computed += 0 if done.is_reused else count
        if not done.is_reused:
            self._mark()

    def skip(self, skipped: Skipped) -> None:
        """Count an input that never became part of a study."""
        self._count(skipped.outcome, skipped.reason, 1)

    def session(self) -> dict[str, Any]:
        """Describe this session for ``run.json``."""
        return {
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._started)),
            "seconds": round(self.seconds, 3),
            "images": self.computed,
            "studies": self.done - self.reused,
            "timeline": [[round(seconds, 3), images] for seconds, images in self._timeline],
        }

    def _count(self, outcome: str, reason: str | None, count: int) -> None:
        self.images[str(outcome)] += count
        if reason:
            self.reasons[str(outcome), str(reason)] += count

    def _mark(self) -> None:
        self._timeline.append((self.seconds, self.computed))
        if len(self._timeline) > 2 * _TIMELINE:
            self._timeline = self._timeline[1::2]


def write(
    path: Path, tally: Tally, manifest: Manifest, settings: Settings, engine: dict[str, object]
) -> dict[str, Any]:
    """Write ``run.json``, with the sessions of an earlier one, and return its content."""
    earlier = _earlier_sessions(path)
    stages = dict(tally.stages)
    for each in earlier:
        _add(stages, each.get("seconds_per_stage", {}))
    session = tally.session() | {"seconds_per_stage": _rounded(tally.stages)}
    content: dict[str, Any] = {
        "package_version": __version__,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}},
        "platform": {"system": platform.system(), "machine": platform.machine()},
        "device": settings.models.device,
        "engine": engine,
        "models": [{"name": n, "version": v, "weights_sha256": digest} for n, v, digest in tally.models],
        "settings": settings.model_dump(
            mode="json", include=set(RESULT_TABLES), exclude={"models": {"folder", "mirror"}}
        ),
        "settings_digest": settings.digest,
        "manifest": {"kind": manifest.kind, "digest": manifest.digest, "entries": len(manifest.entries)},
        "totals": {
            **{str(outcome): tally.images[outcome] for outcome in Outcome},
            "objects": tally.objects,
            "studies": tally.studies,
        },
        "reasons": dict(sorted(_by_reason(tally).items())),
        "sessions": [*earlier, session],
        "seconds_per_stage": _rounded(stages),
    }
    with open_atomically(path) as file:
        json.dump(content, file, indent=1)
    return content


def _earlier_sessions(path: Path) -> list[dict[str, Any]]:
    try:
        return list(json.loads(path.read_text(encoding="utf-8"))["sessions"])
    except (OSError, ValueError, TypeError, KeyError):
        return []


def _by_reason(tally: Tally) -> Counter[str]:
    counts: Counter[str] = Counter()
    for (_, reason), count in tally.reasons.items():
        counts[reason] += count
    return counts


def _add(stages: dict[str, float], more: Mapping[str, float]) -> None:
    for stage, seconds in more.items():
        stages[stage] = stages.get(stage, 0.0) + seconds


def _rounded(stages: Mapping[str, float]) -> dict[str, float]:
    return {stage: round(seconds, 3) for stage, seconds in stages.items()}
