"""The cardiothoracic ratio by view, and against age for women and men."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from cxr_dicom.measure import CARDIOTHORACIC_RATIO_LIMIT
from cxr_dicom.records import Outcome
from cxr_dicom.results.cohort_report._numbers import Bins, Counts, measured
from cxr_dicom.results.pages import number, share
from cxr_dicom.results.schema import Row
from cxr_dicom.results.svg import Drawn, Plot, drawing, line, path, points, rectangle, text

_FINE = Bins(0.2, 0.9, 350)
_SHOWN = (0.3, 0.7)  # of the ratio, for the pictures against age
_MIN_IN_CURVE = 30
_VIEWS = ("PA", "AP", "not stated")
_SEXES = {"F": "Women", "M": "Men"}
_AGES = 91  # years; 90 is all above 89
_MIN_IN_CELL = 5  # a cell that shows fewer people is left out
_MIN_IN_GROUP = 10
_MANY = 2000  # images, from which steps are fine


class Ratios:
    """Counts of the ratio in fine bins."""

    def __init__(self) -> None:
        self._views = np.zeros((len(_VIEWS), _FINE.number), np.int64)
        self._people = {sex: np.zeros((_AGES, _FINE.number), np.int64) for sex in _SEXES}

    def add(self, row: Row, line: int) -> None:
        """Count the ratio of one row; AP views, which magnify the heart, are left out of the ages."""
        ratio = measured(row, "cardiothoracic_ratio")
        if ratio is None or row["outcome"] != Outcome.PROCESSED:
            return
        view = row["view"] if row["view"] in _VIEWS else "not stated"
        self._views[_VIEWS.index(view), _FINE.of(ratio)] += 1
        age, sex = row["patient_age_years"], row["patient_sex"]
        if age is not None and sex in self._people and view != "AP":
            self._people[sex][min(age, _AGES - 1), _FINE.of(ratio)] += 1

    def views(self) -> list[dict[str, Any]]:
        """Return number, median and share above the limit for each view."""
        limit = _FINE.of(CARDIOTHORACIC_RATIO_LIMIT)
        return [
            {
                "view": view,
                "class": f"v{place + 1}",
                "count": int(counts.sum()),
                "median": _FINE.quantile(counts, 0.5),
                "middle": (_FINE.quantile(counts, 0.05), _FINE.quantile(counts, 0.95)),
                "above": share(int(counts[limit:].sum()), int(counts.sum())),
            }
            for place, (view, counts) in enumerate(zip(_VIEWS, self._views, strict=True))
            if counts.any()
        ]

    def histogram(self) -> Drawn | None:
        """Draw the share of each value, view by view; None for few images."""
        fine = 5 if self._views.sum() >= _MANY else 10  # bins in one step
        merged = self._views.reshape(len(_VIEWS), -1, fine).sum(axis=2)
        merged[merged.sum(axis=1) < _MIN_IN_CURVE] = 0
        if not merged.any():
            return None
        shares = merged / np.maximum(merged.sum(axis=1, keepdims=True), 1)
        plot = Plot(width=400, height=260, x=(0.2, 0.8), y=(0, float(shares.max()) * 1.08), left=14, top=18)
        edges = [_FINE.edge(place * fine) for place in range(merged.shape[1] + 1)]
        last = next(place for place, edge in enumerate(edges) if edge >= plot.x[1] - 1e-9)
        parts = plot.axes([(tick / 10, f"{tick / 10:.1f}") for tick in range(2, 9)], [], "cardiothoracic ratio")
        for place in reversed(range(len(_VIEWS))):
            if merged[place].any():
                outline = points(plot.steps(edges[: last + 1], shares[place, :last].tolist()))
                parts.append(
                    path(outline, f"curve v{place + 1}", f"{_VIEWS[place]}: {number(int(merged[place].sum()))}")
                )
        parts += _limit(plot, along_x=True)
        return drawing(parts, plot.width, plot.height, "Cardiothoracic ratio by view")

    def people(self) -> list[dict[str, Any]]:
        """Return one picture for each sex of which enough people are known."""
        width = 5 if sum(int(counts.sum()) for counts in self._people.values()) >= _MANY else 10
        return [
            {"title": _SEXES[sex], "count": int(counts.sum()), "picture": _against_age(counts, width, _SEXES[sex])}
            for sex, counts in self._people.items()
            if any(_groups(counts, width))
        ]


def _against_age(counts: Counts, width: int, title: str) -> Drawn:
    plot = Plot(width=400, height=260, x=(0, 95), y=_SHOWN, left=32, top=18)
    ticks = [(tick / 10, f"{tick / 10:.1f}") for tick in range(3, 8)]
    parts = plot.axes([(age, str(age)) for age in range(0, 91, 10)], ticks, "age in years")
    parts += _cells(plot, counts) if width < 10 else ()
    groups = list(_groups(counts, width))
    upper = [(plot.at_x(age), plot.at_y(high)) for age, _, _, high, _ in groups]
    lower = [(plot.at_x(age), plot.at_y(low)) for age, low, _, _, _ in groups]
    parts.append(path(points([*upper, *reversed(lower)]) + "Z", "band", "10% to 90%"))
    parts.append(path(points((plot.at_x(age), plot.at_y(median)) for age, _, median, _, _ in groups), "median"))
    for age, low, median, high, count in groups:
        x, y = plot.at_x(age), plot.at_y(median)
        hint = (
            f"about {age:.0f} years: {number(count)} images, median {median:.3f}, 10% to 90%: {low:.3f} to {high:.3f}"
        )
        parts.append(rectangle(x - 3, y - 3, 6, 6, "dot", hint, rx=3))
    parts += _limit(plot, along_x=False)
    return drawing(parts, plot.width, plot.height, f"Cardiothoracic ratio against age: {title}")


def _groups(counts: Counts, width: int) -> Iterator[tuple[float, float, float, float, int]]:
    """Yield middle age, 10%, median, 90% and number of each age group that is large enough."""
    for start in range(0, _AGES, width):
        group = counts[start : start + width].sum(axis=0)
        if (size := int(group.sum())) >= _MIN_IN_GROUP:
            low, median, high = (
                min(max(_FINE.quantile(group, part), _SHOWN[0]), _SHOWN[1]) for part in (0.1, 0.5, 0.9)
            )
            yield start + min(width, _AGES - start) / 2, low, median, high, size


def _cells(plot: Plot, counts: Counts) -> Iterator[Drawn]:
    """Draw how many people there are: the darker, the more."""
    years, fine = 2, 10
    aged = np.add.reduceat(counts, np.arange(0, _AGES, years), axis=0)
    cells = aged.reshape(len(aged), -1, fine).sum(axis=2)
    most = max(int(cells.max()), 1)
    for place, column in enumerate(cells):
        for level, count in enumerate(column):
            low, high = _FINE.edge(level * fine), _FINE.edge((level + 1) * fine)
            if count >= _MIN_IN_CELL and low >= _SHOWN[0] - 1e-9 and high <= _SHOWN[1] + 1e-9:
                x, y = plot.at_x(place * years), plot.at_y(high)
                box = plot.at_x(place * years + years) - x, plot.at_y(low) - y
                opacity = round(0.08 + 0.72 * float(np.sqrt(count / most)), 2)
                yield rectangle(x, y, *box, "cell", f"{number(int(count))} images", fill_opacity=opacity)


def _limit(plot: Plot, *, along_x: bool) -> list[Drawn]:
    words = f"{CARDIOTHORACIC_RATIO_LIMIT}"
    if along_x:
        x = plot.at_x(CARDIOTHORACIC_RATIO_LIMIT)
        return [line(x, plot.top, x, plot.height - plot.bottom, "limit"), text(x + 5, plot.top + 8, words)]
    y = plot.at_y(CARDIOTHORACIC_RATIO_LIMIT)
    return [line(plot.left, y, plot.width - plot.right, y, "limit")]
