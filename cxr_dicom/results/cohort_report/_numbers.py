"""Numbers of many rows in little memory: counts in fine bins, sums of pairs."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite, sqrt

import numpy as np
from numpy.typing import NDArray

from cxr_dicom.results.schema import Row

Counts = NDArray[np.int64]


def measured(row: Row, name: str) -> float | None:
    """Return the value of a measurement, if it has one."""
    found = row["measurements"].get(name)
    value = found["value"] if found else None
    return float(value) if value is not None and isfinite(value) else None


def measured_area(row: Row, name: str) -> float | None:
    """Return an area in mm², if the image has a spacing."""
    found = row["measurements"].get(name)
    return measured(row, name) if found and found["unit"] == "mm2" else None


@dataclass(frozen=True, slots=True)
class Bins:
    """Equal bins from ``low`` to ``high``; what lies outside falls into the first or the last."""

    low: float
    high: float
    number: int

    def of(self, value: float) -> int:
        """Return the bin of ``value``."""
        place = int((value - self.low) / (self.high - self.low) * self.number)
        return min(max(place, 0), self.number - 1)

    def edge(self, number: float) -> float:
        """Return where bin ``number`` begins."""
        return self.low + (self.high - self.low) * number / self.number

    def quantile(self, counts: Counts, share: float) -> float:
        """Return the value below which ``share`` of the counted values lie, to a bin's width."""
        below = np.cumsum(counts)
        wanted = share * below[-1]
        place = int(np.searchsorted(below, wanted))
        before = below[place - 1] if place else 0
        return self.edge(place + (wanted - before) / max(int(counts[place]), 1))


@dataclass(slots=True)
class Pairs:
    """Sums over pairs of values: their correlation, and the mean and spread of second minus first."""

    number: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * 6)

    def add(self, first: float, second: float) -> None:
        """Count one pair."""
        difference = second - first
        self.number += 1
        for place, value in enumerate(
            (first, second, first * first, second * second, first * second, difference * difference)
        ):
            self.sums[place] += value

    @property
    def correlation(self) -> float | None:
        """Pearson's coefficient, -1 to 1; None where one side never varies."""
        x, y, xx, yy, xy, _ = (value / max(self.number, 1) for value in self.sums)
        spread = (xx - x * x) * (yy - y * y)
        return (xy - x * y) / sqrt(spread) if spread > 1e-18 else None

    @property
    def mean_difference(self) -> float:
        """Mean of second minus first."""
        return (self.sums[1] - self.sums[0]) / max(self.number, 1)

    @property
    def spread(self) -> float:
        """Standard deviation of second minus first."""
        if self.number < 2:
            return 0.0
        squares = self.sums[5] - self.number * self.mean_difference**2
        return sqrt(max(squares, 0.0) / (self.number - 1))

    @property
    def limits(self) -> tuple[float, float]:
        """Limits of agreement: mean difference ± 1.96 standard deviations (Bland and Altman 1986)."""
        return self.mean_difference - 1.96 * self.spread, self.mean_difference + 1.96 * self.spread
