"""How the scores of each finding are spread, and how often it is called present."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cxr_dicom.records import Presence
from cxr_dicom.results.cohort_report._numbers import Bins, Counts
from cxr_dicom.results.pages import number, share, words
from cxr_dicom.results.schema import Row
from cxr_dicom.results.svg import Drawn, Plot, drawing, line, path, points

_BINS = Bins(0.0, 1.0, 40)
_CALIBRATED = 0.5  # where a probability has its operating point


@dataclass(slots=True)
class _Spread:
    counts: Counts = field(default_factory=lambda: np.zeros(_BINS.number, np.int64))
    present: int = 0
    operating_point: float | None = None


class Scores:
    """Counts of the scores of each finding of each model."""

    def __init__(self) -> None:
        self._spreads: dict[tuple[str, str], _Spread] = {}  # by model and name

    def add(self, row: Row, line: int) -> None:
        """Count the scores of one row."""
        for name, score in row["scores"].items():
            spread = self._spreads.setdefault((score["model"], name), _Spread())
            spread.counts[_BINS.of(score["probability"])] += 1
            spread.present += score["call"] == Presence.PRESENT
            spread.operating_point = score["operating_point"]

    @property
    def names(self) -> list[str]:
        """Names of all scores, those of the first models before those that bear a model in their name."""
        return sorted({name for _, name in self._spreads}, key=lambda name: ("__" in name, name))

    def pointed(self, name: str) -> bool:
        """Whether a score has an operating point, so that it can be called present."""
        return any(spread.operating_point is not None for (_, own), spread in self._spreads.items() if own == name)

    def sections(self) -> list[dict[str, Any]]:
        """Return the panels of each model, the most often present first."""
        models = sorted({model for model, _ in self._spreads})
        return [{"model": model, "panels": self._panels(model)} for model in models]

    def _panels(self, model: str) -> list[dict[str, Any]]:
        own = [(name, spread) for (of, name), spread in self._spreads.items() if of == model]
        own.sort(key=lambda panel: (-panel[1].present / max(int(panel[1].counts.sum()), 1), panel[0]))
        return [_panel(name.partition("__")[0], spread) for name, spread in own]


def _panel(name: str, spread: _Spread) -> dict[str, Any]:
    total = int(spread.counts.sum())
    has_point = spread.operating_point is not None
    call = f"present {share(spread.present, total)}" if has_point else "no operating point"
    hint = f"{words(name)}: {number(total)} images, median {_BINS.quantile(spread.counts, 0.5):.2f}, {call}"
    return {
        "name": name,
        "present": share(spread.present, total) if has_point else None,
        "operating_point": spread.operating_point,
        "picture": _picture(spread.counts, hint, has_point=has_point),
    }


def _picture(counts: Counts, hint: str, *, has_point: bool) -> Drawn:
    plot = Plot(width=240, height=92, x=(0, 1), y=(0, float(max(counts.max(), 1))), left=6, right=6, top=4, bottom=18)
    middle = _BINS.of(_CALIBRATED) if has_point else _BINS.number
    edges = [_BINS.edge(place) for place in range(_BINS.number + 1)]
    parts = plot.axes([(0, "0"), (0.5, "0.5"), (1, "1")], [])
    parts.append(path(points(plot.steps(edges[: middle + 1], counts[:middle].tolist())) + "Z", "below", hint))
    if has_point:
        parts.append(path(points(plot.steps(edges[middle:], counts[middle:].tolist())) + "Z", "above", hint))
        parts.append(line(plot.at_x(0.5), plot.top, plot.at_x(0.5), plot.height - plot.bottom, "limit"))
    return drawing(parts, plot.width, plot.height, hint)
