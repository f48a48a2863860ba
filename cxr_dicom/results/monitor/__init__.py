"""Does it still work? The images of the last day and week against those of a reference period.

Watched: volume by sender and device, refusals by reason, calls, views, scores, the cardiothoracic ratio, anatomy that
is implausible, time to delivery, and the models themselves. The limits are set so that a year in which nothing
changes has a false alarm in one of twenty cases, whatever the number of tests (Bonferroni over tests and days).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from cxr_dicom.config.service import MonitorSettings
from cxr_dicom.results.monitor.watched import Change, Days, changes
from cxr_dicom.store.ledger import Ledger, Observation

__all__ = ["Alarm", "Change", "NotEnoughError", "Report", "monitor", "replay", "wanted"]

LOOK_BACK_DAYS = 28  # how far an alarm is followed back
WINDOWS = (1, 7)  # days
_DEFAULT = MonitorSettings()
REFERENCE_DAYS = _DEFAULT.reference_days  # eight of each day of the week


class NotEnoughError(ValueError):
    """There are too few days to compare."""


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """Something that changed, and since when."""

    what: str  # "score of pneumothorax"
    since: str  # first day, ISO 8601, on which it was seen and has been every day since
    window_days: int
    text: str  # in words
    p: float | None  # of the test; None where no test is needed, such as for another model
    psi: float | None  # population stability index, of distributions


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is watched, on one day."""

    day: str  # the last whole day, ISO 8601
    reference: tuple[str, str]  # first and last day
    reference_images: int
    images: dict[str, int]  # of the windows: "1" and "7" days
    tests: int
    limit: float  # of p, below which a change is an alarm
    alarms: list[Alarm] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)  # what was not tested, and why
    figures: list[dict[str, Any]] = field(default_factory=list)  # of every test: what, window, p, psi, then, now

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON knows it."""
        return asdict(self)


def monitor(
    observations: Sequence[Observation],
    settings: MonitorSettings = _DEFAULT,
    *,
    until: date | None = None,
    look_back: int = LOOK_BACK_DAYS,
) -> Report:
    """Compare the last whole day and week with a reference period.

    Parameters
    ----------
    observations
        Images, from the reference period on.
    settings
        The period in which all was well; default: the first 56 days.
    until
        The day after the last one that is compared; default: today (UTC).
    look_back
        Days that an alarm is followed back.

    Raises
    ------
    NotEnoughError
        If the period is not over, or has no images.
    """
    days = Days(observations)
    end = until or datetime.now(UTC).date()
    period = settings.period(days.first_second)
    if period is None:
        raise NotEnoughError("no image was observed yet")
    begin, over = period
    if end < over + timedelta(days=1):
        raise NotEnoughError(f"the reference period ends on {over - timedelta(days=1)}; a day after it is needed")
    reference = days.part(begin, over)
    if not reference:
        raise NotEnoughError(f"no image was observed from {begin} to {over - timedelta(days=1)}")
    found = list(_on(days, begin, over, end))
    tests, limit = _limit(found)
    alarms = [_alarm(change, days, begin, over, end, limit, look_back) for change in found if _is_alarm(change, limit)]
    return Report(
        day=str(end - timedelta(days=1)),
        reference=(str(begin), str(over - timedelta(days=1))),
        reference_images=len(reference),
        images={str(window): len(days.part(end - timedelta(days=window), end)) for window in WINDOWS},
        tests=tests,
        limit=limit,
        alarms=_shortest(alarms),
        skipped={f"{change.what}, {change.window} d": change.skipped for change in found if change.skipped},
        figures=[
            {"what": c.what, "window_days": c.window, "p": c.p, "psi": c.psi, "then": c.then, "now": c.now}
            for c in found
            if not c.skipped
        ],
    )


def wanted(
    ledger: Ledger,
    settings: MonitorSettings = _DEFAULT,
    *,
    until: date | None = None,
    look_back: int = LOOK_BACK_DAYS,
) -> list[Observation]:
    """Read of a ledger what `monitor` needs for the same arguments: the reference, and the last weeks."""
    period = settings.period(ledger.observations.first())
    if period is None:
        return []
    begin, over = period
    end = until or datetime.now(UTC).date()
    recent = max(over, end - timedelta(days=look_back + max(WINDOWS)))
    between = ledger.observations.between
    return [*between(_second(begin), _second(over)), *between(_second(recent), _second(end))]


def replay(
    observations: Sequence[Observation], settings: MonitorSettings = _DEFAULT, *, stop: date | None = None
) -> Iterator[tuple[date, list[str]]]:
    """Yield each day after the reference with what alarms on it, as a monitor that runs once a day says it."""
    days = Days(observations)
    period = settings.period(days.first_second)
    if period is None or days.last is None:
        return
    begin, over = period
    end = over + timedelta(days=1)
    while end <= (stop or days.last + timedelta(days=1)):
        found = list(_on(days, begin, over, end))
        _, limit = _limit(found)
        yield end - timedelta(days=1), sorted({change.what for change in found if _is_alarm(change, limit)})
        end += timedelta(days=1)


def _second(day: date) -> float:
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _on(days: Days, begin: date, over: date, end: date) -> Iterator[Change]:
    for window in WINDOWS:
        start = end - timedelta(days=window)
        if start >= over:
            yield from changes(days, begin, over, start, end)


def _limit(found: Sequence[Change]) -> tuple[int, float]:
    tests = sum(change.p is not None for change in found)
    return tests, 0.05 / (365 * max(1, tests))


def _is_alarm(change: Change, limit: float) -> bool:
    if change.skipped:
        return False
    return change.is_certain or (change.p is not None and change.p < limit and change.is_large)


def _alarm(change: Change, days: Days, begin: date, over: date, end: date, limit: float, look_back: int) -> Alarm:
    """Follow a change back to the first day on which it was seen and has been since."""
    since = end - timedelta(days=1)
    for _ in range(look_back):
        earlier = (
            [
                other
                for other in _on(days, begin, over, since)
                if (other.what, other.window) == (change.what, change.window) and _is_alarm(other, limit)
            ]
            if since > over
            else []
        )
        if not earlier:
            break
        since -= timedelta(days=1)
    return Alarm(
        what=change.what, since=str(since), window_days=change.window, text=change.text, p=change.p, psi=change.psi
    )


def _shortest(alarms: list[Alarm]) -> list[Alarm]:
    """One alarm for each thing that changed: that of the week where both see it, for it has more images."""
    kept: dict[str, Alarm] = {}
    for alarm in sorted(alarms, key=lambda alarm: alarm.window_days):
        earlier = kept.get(alarm.what)
        kept[alarm.what] = alarm if earlier is None or alarm.since <= earlier.since else earlier
    return list(kept.values())
