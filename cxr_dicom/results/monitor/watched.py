"""What is watched, and the test for each: two samples, the reference and a window of days."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import scipy  # which loads its statistics when they are first used
from numpy.typing import NDArray

from cxr_dicom.records import Outcome, Presence
from cxr_dicom.store.ledger import Observation

FEWEST = 30  # images in a window, for shares and distributions
FEWEST_REFERENCE = 200
FEWEST_EXPECTED = 5  # images that a window of a sender should have
LARGE_PSI = 0.1  # population stability index from which a shift counts (Siddiqi 2006: 0.1 moderate, 0.25 large)
LARGE_SHARE = 0.02  # change of a share that counts
MOST_NAMES = 20  # senders or devices that are watched one by one
RATIO = "cardiothoracic_ratio"

Values = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """The result of one test."""

    what: str
    window: int  # days
    text: str = ""  # in words
    then: float | None = None
    now: float | None = None
    p: float | None = None
    psi: float | None = None
    is_large: bool = True  # large enough to matter, whatever its p
    is_certain: bool = False  # needs no test
    skipped: str = ""  # why it was not tested


class Days:
    """Images by day (UTC) of their result; of each study the first image only, so that they are independent."""

    def __init__(self, observations: Sequence[Observation]) -> None:
        self._all = sorted(observations, key=lambda image: image.observed_at)
        self._days = [datetime.fromtimestamp(image.observed_at, UTC).date() for image in self._all]
        seen: set[str] = set()
        self._is_first = []
        for image in self._all:
            self._is_first.append(image.study_instance_uid not in seen)
            seen.add(image.study_instance_uid)

    @property
    def first_second(self) -> float | None:
        """When the first image was observed, in seconds since 1970."""
        return self._all[0].observed_at if self._all else None

    @property
    def last(self) -> date | None:
        """The last day with an image."""
        return self._days[-1] if self._days else None

    def part(self, begin: date, end: date) -> list[Observation]:
        """Images from ``begin`` to before ``end``, one of each study."""
        low, high = bisect_left(self._days, begin), bisect_left(self._days, end)
        return [
            image for image, is_first in zip(self._all[low:high], self._is_first[low:high], strict=True) if is_first
        ]

    def counts(self, begin: date, end: date) -> Counter[date]:
        """Number of images of each day."""
        return Counter(self._days[bisect_left(self._days, begin) : bisect_left(self._days, end)])


def changes(days: Days, begin: date, over: date, start: date, end: date) -> Iterator[Change]:
    """Test everything that is watched: from ``begin`` to before ``over`` against ``start`` to before ``end``."""
    then, now = days.part(begin, over), days.part(start, end)
    window = (end - start).days
    yield from _volumes(then, now, begin, over, start, window)
    yield from _shares(then, now, window)
    yield from _distributions(then, now, window)
    yield from _models(then, now, window)


# --- volume --------------------------------------------------------------------------------------


def _volumes(
    then: Sequence[Observation], now: Sequence[Observation], begin: date, over: date, start: date, window: int
) -> Iterator[Change]:
    """Count images by sender and device: those of the same days of the week, given both counts, are binomial."""
    weeks = (over - begin).days // 7
    weekdays = {(start.toordinal() + number) % 7 for number in range(window)}
    for kind, name_of in (("sender", _sender), ("device", _device)):
        before = [image for image in then if _day(image).toordinal() % 7 in weekdays]
        for name, _ in Counter(map(name_of, then)).most_common(MOST_NAMES):
            if not name:
                continue
            mine = [_day(image) for image in before if name_of(image) == name]
            current = sum(name_of(image) == name for image in now)
            expected = len(mine) / weeks
            what = f"volume of {kind} {name}"
            if expected < FEWEST_EXPECTED:
                yield Change(what=what, window=window, skipped=f"{expected:.1f} images expected, 5 are needed")
                continue
            spread = _overdispersion([_day(image) for image in then if name_of(image) == name], begin, weeks)
            total, seen = round((len(mine) + current) / spread), current / spread
            share = 1 / (weeks + 1)
            images = scipy.stats.binom(total, share)
            p = min(1.0, 2 * min(images.cdf(round(seen)), images.sf(round(seen) - 1)))
            yield Change(
                what=what,
                window=window,
                then=expected,
                now=current,
                p=float(p),
                is_large=not 0.5 < current / expected < 2,
                text=f"{kind} {name}: {current} images in {_days(window)}, {expected:.0f} expected",
            )


def _overdispersion(found: Sequence[date], begin: date, weeks: int) -> float:
    """Variance of daily counts over their mean, by day of the week; 1 where they are Poisson's, never less."""
    counts = np.zeros((weeks, 7))
    for day in found:
        number = (day - begin).days
        counts[number // 7, number % 7] += 1
    mean = counts.mean(axis=0)
    known = mean > 0
    if weeks < 2 or not known.any():
        return 1.0
    statistic = ((counts[:, known] - mean[known]) ** 2 / mean[known]).sum()
    return max(1.0, float(statistic / ((weeks - 1) * known.sum())))


# --- shares --------------------------------------------------------------------------------------


def _shares(then: Sequence[Observation], now: Sequence[Observation], window: int) -> Iterator[Change]:
    reasons = sorted({image.reason for image in (*then, *now)} - {""})
    for reason in reasons:
        yield _share(f"refused as {reason}", then, now, window, lambda image, reason=reason: image.reason == reason)  # type: ignore[misc]
    done = [[image for image in part if image.outcome == Outcome.PROCESSED] for part in (then, now)]
    for view in sorted({image.view for part in done for image in part}):
        name = f"view {view or 'not stated'}"
        yield _share(name, done[0], done[1], window, lambda image, view=view: image.view == view)  # type: ignore[misc]
    for finding in sorted({name for part in done for image in part for name in image.scores}):
        scored = [
            [e for e in part if finding in e.scores and e.scores[finding][1] != Presence.INDETERMINATE] for part in done
        ]
        yield _share(
            f"{finding} called present",
            scored[0],
            scored[1],
            window,
            lambda image, finding=finding: image.scores[finding][1] == Presence.PRESENT,  # type: ignore[misc]
        )
    looked = [[image for image in part if image.plausible is not None] for part in (then, now)]
    yield _share("implausible anatomy", looked[0], looked[1], window, lambda image: not image.plausible)


def _share(
    what: str,
    then: Sequence[Observation],
    now: Sequence[Observation],
    window: int,
    has: Callable[[Observation], bool],
) -> Change:
    """Compare two shares by Fisher's exact test."""
    if len(then) < FEWEST_REFERENCE or len(now) < FEWEST:
        return Change(what=what, window=window, skipped=_few(then, now))
    before, current = sum(map(has, then)), sum(map(has, now))
    a, b = before / len(then), current / len(now)
    return Change(
        what=what,
        window=window,
        then=a,
        now=b,
        p=float(scipy.stats.fisher_exact([[before, len(then) - before], [current, len(now) - current]]).pvalue),
        is_large=abs(a - b) >= LARGE_SHARE,
        text=f"{what}: {b:.1%} of {len(now)} images in {_days(window)}, {a:.1%} before",
    )


# --- distributions -------------------------------------------------------------------------------


def _distributions(then: Sequence[Observation], now: Sequence[Observation], window: int) -> Iterator[Change]:
    names = sorted({name for part in (then, now) for image in part for name in image.scores})
    measures: dict[str, Callable[[Observation], float | None]] = {
        f"score of {name}": lambda image, name=name: image.scores[name][0] if name in image.scores else None  # type: ignore[misc]
        for name in names
    }
    measures["cardiothoracic ratio"] = lambda image: image.measurements.get(RATIO)
    measures["time to delivery"] = lambda image: (
        None if image.delivered_at is None else image.delivered_at - image.received_at
    )
    for what, measure in measures.items():
        before, current = (np.array([v for v in map(measure, part) if v is not None]) for part in (then, now))
        if before.size < FEWEST_REFERENCE or current.size < FEWEST:
            if before.size or current.size:
                yield Change(what=what, window=window, skipped=_few(before, current))
            continue
        a, b = float(np.median(before)), float(np.median(current))
        stability = psi(before, current)
        is_time = what == "time to delivery"
        yield Change(
            what=what,
            window=window,
            then=a,
            now=b,
            p=float(scipy.stats.ks_2samp(before, current, method="asymp").pvalue),
            psi=stability,
            is_large=b > 2 * a + 1 if is_time else stability >= LARGE_PSI,
            text=f"{what}: median {b:.3g} of {current.size} images in {_days(window)}, {a:.3g} before;"
            f" population stability index {stability:.2f}",
        )


def psi(before: Values, current: Values, bins: int = 10) -> float:
    """Population stability index over the deciles of the reference; half an image is added to each bin."""
    edges = np.unique(np.quantile(before, np.linspace(0, 1, bins + 1)[1:-1]))
    a, b = (
        np.bincount(np.searchsorted(edges, part, side="right"), minlength=edges.size + 1) + 0.5
        for part in (before, current)
    )
    a, b = a / a.sum(), b / b.sum()
    return float(np.sum((b - a) * np.log(b / a)))


# --- models --------------------------------------------------------------------------------------


def _models(then: Sequence[Observation], now: Sequence[Observation], window: int) -> Iterator[Change]:
    """Another version or other weights need no test."""
    known: Mapping[tuple[str, str, str], int] = Counter(model for image in then for model in image.models)
    for model, count in sorted(Counter(model for image in now for model in image.models).items()):
        if model not in known:
            name, version, digest = model
            yield Change(
                what=f"model {name}",
                window=window,
                now=count,
                is_certain=True,
                text=f"model {name} {version}, weights {digest[:12] or 'none'}: not in the reference,"
                f" {count} images in {_days(window)}",
            )


# --- words ---------------------------------------------------------------------------------------


def _sender(image: Observation) -> str:
    return image.sender


def _device(image: Observation) -> str:
    return " ".join(filter(None, (image.device, image.station)))


def _day(image: Observation) -> date:
    return datetime.fromtimestamp(image.observed_at, UTC).date()


def _days(window: int) -> str:
    return "a day" if window == 1 else f"{window} days"


def _few(then: Sequence[object] | Values, now: Sequence[object] | Values) -> str:
    return f"{len(now)} images and {len(then)} in the reference, {FEWEST} and {FEWEST_REFERENCE} are needed"
