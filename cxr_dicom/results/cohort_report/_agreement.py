"""Whether two models agree where they report the same thing.

A row keeps the value of the first model under its name, and that of another one under the name, two
underscores and the model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cxr_dicom.measure import CARDIOTHORACIC_RATIO_LIMIT
from cxr_dicom.records import Presence
from cxr_dicom.results.cohort_report._numbers import Bins, Counts, Pairs, measured
from cxr_dicom.results.pages import number, share
from cxr_dicom.results.schema import Row
from cxr_dicom.results.svg import Drawn, Plot, drawing, line, rectangle, text

RATIO = "cardiothoracic_ratio"
_MEANS = Bins(0.3, 0.7, 40)
_DIFFERENCES = Bins(-0.2, 0.2, 40)
_CALLED = (Presence.PRESENT, Presence.ABSENT)

Key = tuple[str, str, str]  # name, first model, second model


@dataclass(slots=True)
class _Finding:
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    scores: Pairs = field(default_factory=Pairs)


@dataclass(slots=True)
class _Measured:
    unit: str
    pairs: Pairs = field(default_factory=Pairs)
    plane: Counts = field(default_factory=lambda: np.zeros((_MEANS.number, _DIFFERENCES.number), np.int64))
    crossed: int = 0  # one says above the limit, the other does not


class Agreement:
    """Counts over all pairs of models."""

    def __init__(self) -> None:
        self._findings: dict[Key, _Finding] = {}
        self._measured: dict[Key, _Measured] = {}

    def add(self, row: Row, line: int) -> None:
        """Compare the models of one row."""
        for name, second in row["scores"].items():
            if first := row["scores"].get(_base(name)):
                pair = self._findings.setdefault((_base(name), first["model"], second["model"]), _Finding())
                pair.calls[first["call"], second["call"]] += 1
                pair.scores.add(first["probability"], second["probability"])
        for name, of_second in row["measurements"].items():
            of_first = row["measurements"].get(_base(name))
            if of_first and of_first["unit"] == of_second["unit"]:
                self._measure(row, name, (_base(name), of_first["model"], of_second["model"]), of_first["unit"])

    def _measure(self, row: Row, name: str, key: Key, unit: str) -> None:
        first, second = measured(row, key[0]), measured(row, name)
        if first is None or second is None:
            return
        pair = self._measured.setdefault(key, _Measured(unit))
        pair.pairs.add(first, second)
        if key[0] == RATIO:
            pair.plane[_MEANS.of((first + second) / 2), _DIFFERENCES.of(second - first)] += 1
            pair.crossed += (first > CARDIOTHORACIC_RATIO_LIMIT) != (second > CARDIOTHORACIC_RATIO_LIMIT)

    def findings(self) -> list[dict[str, Any]]:
        """Return the agreement on each finding, the least first."""
        compared = [_compared(key, pair) for key, pair in self._findings.items()]
        return sorted(compared, key=lambda finding: (finding["kappa"] is None, finding["kappa"], finding["name"]))

    def measurements(self) -> list[dict[str, Any]]:
        """Return mean difference and limits of agreement of each measurement."""
        return [
            {
                "name": key[0],
                "models": key[1:],
                "unit": pair.unit,
                "count": pair.pairs.number,
                "difference": pair.pairs.mean_difference,
                "limits": pair.pairs.limits,
                "correlation": pair.pairs.correlation,
            }
            for key, pair in sorted(self._measured.items())
        ]

    def ratios(self) -> list[dict[str, Any]]:
        """Return a Bland-Altman plot of the cardiothoracic ratio for each pair of models."""
        return [
            {
                "models": key[1:],
                "picture": _bland_altman(pair),
                "crossed": pair.crossed,
                "crossed_share": share(pair.crossed, pair.pairs.number),
            }
            for key, pair in sorted(self._measured.items())
            if key[0] == RATIO
        ]


def kappa(both: int, first_only: int, second_only: int, neither: int) -> float | None:
    """Return Cohen's kappa, -1 to 1; None where both always say the same one thing, or nothing."""
    total = both + first_only + second_only + neither
    if not total:
        return None
    observed = (both + neither) / total
    first, second = (both + first_only) / total, (both + second_only) / total
    expected = first * second + (1 - first) * (1 - second)
    return (observed - expected) / (1 - expected) if expected < 1 else None


def _base(name: str) -> str:
    base, mark, _ = name.partition("__")
    return base if mark else ""


def _compared(key: Key, pair: _Finding) -> dict[str, Any]:
    both, first_only, second_only, neither = (pair.calls[a, b] for a in _CALLED for b in _CALLED)
    called = both + first_only + second_only + neither
    parts = (("both", both), ("first", first_only), ("second", second_only), ("neither", neither))
    return {
        "name": key[0],
        "models": key[1:],
        "count": called,
        "agreement": share(both + neither, called),
        "kappa": kappa(both, first_only, second_only, neither),
        "correlation": pair.scores.correlation,
        "parts": [
            {"class": name, "width": 100 * count / called if called else 0, "count": count} for name, count in parts
        ],
    }


def _bland_altman(pair: _Measured) -> Drawn:
    plot = Plot(width=520, height=270, x=(0.3, 0.7), y=(-0.2, 0.2), left=44, right=106, top=10)
    parts = plot.axes(
        [(tick / 10, f"{tick / 10:.1f}") for tick in range(3, 8)],
        [(tick / 10, f"{tick / 10:+.1f}".replace("-", "−") if tick else "0") for tick in range(-2, 3)],
        "mean of both ratios",
    )
    most = max(int(pair.plane.max()), 1)
    for place, level in np.argwhere(pair.plane):
        count = int(pair.plane[place, level])
        x, y = plot.at_x(_MEANS.edge(place)), plot.at_y(_DIFFERENCES.edge(level + 1))
        box = plot.at_x(_MEANS.edge(place + 1)) - x, plot.at_y(_DIFFERENCES.edge(level)) - y
        opacity = round(0.12 + 0.78 * float(np.sqrt(count / most)), 2)
        parts.append(rectangle(x, y, *box, "cell", f"{number(count)} images", fill_opacity=opacity))
    low, high = pair.pairs.limits
    for value, words in ((high, "+1.96 SD"), (pair.pairs.mean_difference, "mean"), (low, "−1.96 SD")):
        y = plot.at_y(min(max(value, plot.y[0]), plot.y[1]))
        parts.append(line(plot.left, y, plot.width - plot.right, y, "median" if words == "mean" else "limit"))
        parts.append(
            text(plot.width - plot.right + 5, y + 4, f"{words} {value:+.3f}".replace("-", "−"), class_="t tiny")
        )
    return drawing(parts, plot.width, plot.height, "Difference of two models' cardiothoracic ratios against their mean")
