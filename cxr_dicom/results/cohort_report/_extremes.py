"""The images at the ends of a cohort, where models fail first and where people should look first."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from cxr_dicom.records import Outcome
from cxr_dicom.results.cohort_report._numbers import measured, measured_area
from cxr_dicom.results.pages import words
from cxr_dicom.results.schema import Row

_OF_EACH = 6
_OF_A_FINDING = 3
_MAX_FINDINGS = 24


@dataclass(slots=True)
class _Top:
    """The rows with the highest keys; of equal ones the first."""

    number: int
    held: list[tuple[float, int, Row, str]] = field(default_factory=list)

    def add(self, key: float, line: int, row: Row, shown: str) -> None:
        heapq.heappush(self.held, (key, -line, row, shown))
        if len(self.held) > self.number:
            heapq.heappop(self.held)

    def ranked(self) -> Iterator[tuple[int, Row, str]]:
        for _, line, row, shown in sorted(self.held, key=lambda extreme: extreme[:2], reverse=True):
            yield -line, row, shown


class Extremes:
    """Keeps the few rows that are shown."""

    def __init__(self) -> None:
        titles = (
            "Largest cardiothoracic ratio",
            "Smallest cardiothoracic ratio",
            "Largest lungs",
            "Smallest lungs",
            "Most asymmetric lungs",
        )
        self._tops = {title: _Top(_OF_EACH) for title in titles}
        self._findings: dict[str, _Top] = {}

    def add(self, row: Row, line: int) -> None:
        """Look at one row."""
        if row["outcome"] != Outcome.PROCESSED:
            return
        ratio = measured(row, "cardiothoracic_ratio")
        if ratio is not None:
            self._tops["Largest cardiothoracic ratio"].add(ratio, line, row, f"{ratio:.2f}")
            self._tops["Smallest cardiothoracic ratio"].add(-ratio, line, row, f"{ratio:.2f}")
        self._add_lungs(row, line)
        for name, score in row["scores"].items():
            top = self._findings.setdefault(name, _Top(_OF_A_FINDING))
            top.add(score["probability"], line, row, f"{score['probability']:.2f}")

    def _add_lungs(self, row: Row, line: int) -> None:
        right, left = measured_area(row, "right_lung_area"), measured_area(row, "left_lung_area")
        if right is None or left is None or right + left <= 0:
            return
        area, larger = right + left, max(right, left) / (right + left)
        self._tops["Largest lungs"].add(area, line, row, f"{area / 100:.0f} cm²")
        self._tops["Smallest lungs"].add(-area, line, row, f"{area / 100:.0f} cm²")
        shown = f"R {100 * right / area:.0f} : {100 * left / area:.0f} L"
        self._tops["Most asymmetric lungs"].add(larger, line, row, shown)

    def sections(self, thumbnail_of: Callable[[Row], str | None]) -> list[dict[str, Any]]:
        """Return groups of pictures; each picture is made once."""
        made: dict[str | None, str | None] = {}

        def source(row: Row) -> str | None:
            uid = row["sop_instance_uid"]
            if uid not in made:
                made[uid] = thumbnail_of(row)
            return made[uid]

        measures = [
            {"title": title, "pictures": _pictures(top, source), "is_finding": False}
            for title, top in self._tops.items()
            if top.held
        ]
        names = [name for name in sorted(self._findings) if "__" not in name][:_MAX_FINDINGS]
        return measures + [
            {"title": words(name), "pictures": _pictures(self._findings[name], source), "is_finding": True}
            for name in names
        ]


def _pictures(top: _Top, source: Callable[[Row], str | None]) -> list[dict[str, Any]]:
    return [
        {
            "source": source(row),
            "value": shown,
            "line": line,
            "view": row["view"] or "",
            "uid": row["sop_instance_uid"],
        }
        for line, row, shown in top.ranked()
    ]
