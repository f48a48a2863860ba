"""A comparison as one self-contained HTML page: no network, no script, no patient data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import floor, log10
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cxr_dicom import __version__, pictures
from cxr_dicom.records.plane import Region
from cxr_dicom.results import pages
from cxr_dicom.results.compare import Comparison, Matched, StructureAgreement
from cxr_dicom.results.compare._overlap import read as read_masks
from cxr_dicom.results.compare._statistics import differences
from cxr_dicom.system import atomic

MAX_SHOWN = 200  # UIDs of a list; JSON has all

MAX_PICTURES = 12  # of worst masks

_PICTURE_SIDE = 320
_COLOURS: tuple[tuple[str, pictures.RGB], ...] = (
    ("A only", (255, 176, 0)),
    ("B only", (64, 160, 255)),
    ("both", (128, 128, 128)),
)
_KEY = [(name, f"rgb{colour}") for name, colour in _COLOURS]

WIDTH, HEIGHT = 460, 320  # of a plot, in its own units
_LEFT, _TOP, _RIGHT, _BOTTOM = 58, 12, 14, 44
_CELL = 2  # points closer than this are drawn once, darker: 100,000 images stay a small page
_FEW = 100  # points
_MARGIN = 0.05  # free space around the points, part of their range


@dataclass(frozen=True)
class Mark:
    """A tick or a line of a plot."""

    at: float
    text: str


@dataclass(frozen=True)
class Plot:
    """Points and lines in units of the picture."""

    title: str
    x_label: str
    y_label: str
    points: list[tuple[float, float, float]]  # x, y, opacity
    x_ticks: list[Mark]
    y_ticks: list[Mark]
    lines: list[Mark]  # horizontal
    has_identity: bool = False

    @property
    def radius(self) -> float:
        """Of a point: small where they are many."""
        return 3.5 if len(self.points) < _FEW else 1.6


def write(path: Path, comparison: Comparison, runs: Matched) -> None:
    """Write the page of a comparison of ``runs``."""
    structures = sorted(comparison.masks.structures, key=_lowest) if comparison.masks else []
    page = pages.template("compare/page.html.jinja").stream(
        package_version=__version__,
        it=comparison,
        plots=[plot for name in _ratios(runs) for plot in _plots(name, runs)],
        structures=structures,
        worst=[_worst(structure, runs) for structure in [s for s in structures if s.worst][:MAX_PICTURES]],
        key=_KEY,
        bars=_bars,
        most=MAX_SHOWN,
        frame={"width": WIDTH, "height": HEIGHT, "left": _LEFT, "top": _TOP, "right": _RIGHT, "bottom": _BOTTOM},
    )
    with atomic.open_text(path) as file:
        file.writelines(page)


def _ratios(runs: Matched) -> list[str]:
    names = runs.a.measurements.keys() & runs.b.measurements.keys()
    return sorted(name for name in names if name.startswith("cardiothoracic_ratio"))


def _plots(name: str, runs: Matched) -> list[Plot]:
    """Scatter of B over A, and difference over mean (Bland and Altman 1986)."""
    (a, _), (b, _) = runs.at_processed((runs.a.measurements[name], runs.b.measurements[name]))
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    change = differences(a, b)
    if change is None:
        return []
    mean = (a + b) / 2
    low, high = _range(np.concatenate([a, b]))
    lines = [("no difference", 0.0), ("mean", change.mean)]
    if change.limits_of_agreement:
        lines += zip(("lower limit", "upper limit"), change.limits_of_agreement, strict=True)
    bounds = _range(np.concatenate([b - a, [value for _, value in lines]]))
    return [
        Plot(
            title=pages.words(name),
            x_label="A",
            y_label="B",
            points=_points(a, b, (low, high), (low, high)),
            x_ticks=_ticks((low, high), _x),
            y_ticks=_ticks((low, high), _y),
            lines=[],
            has_identity=True,
        ),
        Plot(
            title=f"{pages.words(name)}: difference",
            x_label="mean of A and B",
            y_label="B − A",
            points=_points(mean, b - a, _range(mean), bounds),
            x_ticks=_ticks(_range(mean), _x),
            y_ticks=_ticks(bounds, _y),
            lines=[Mark(_y(value, bounds), f"{text} {value:+.3g}" if value else text) for text, value in lines],
        ),
    ]


def _lowest(structure: StructureAgreement) -> float:
    return -1.0 if structure.minimum is None else structure.minimum  # first what only one run outlines


def _worst(structure: StructureAgreement, runs: Matched) -> dict[str, Any]:
    """Draw the masks of a structure on the image where they agree least."""
    worst = structure.worst[0]
    a, b = (read_masks(run.folder, run.offset(worst.sop_instance_uid))[structure.name] for run in (runs.a, runs.b))
    return {"name": structure.name, **asdict(worst), "source": pictures.data_uri(_both(a, b))}


def _both(a: Region, b: Region) -> pictures.Colour:
    """Draw two regions in the smallest box that holds both."""
    top, left = min(a.box.top, b.box.top), min(a.box.left, b.box.left)
    bottom, right = max(a.box.bottom, b.box.bottom), max(a.box.right, b.box.right)
    matrices = np.zeros((2, bottom - top, right - left), bool)
    for matrix, region in zip(matrices, (a, b), strict=True):
        rows, columns = region.box.top - top, region.box.left - left
        matrix[rows : rows + region.box.shape[0], columns : columns + region.box.shape[1]] = region.pixels
    colours = np.array([(0, 0, 0), *(colour for _, colour in _COLOURS)], np.uint8)
    picture = Image.fromarray(colours[matrices[0] + 2 * matrices[1]])
    picture.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE), Image.Resampling.BOX)
    return np.asarray(picture)


Range = tuple[float, float]


def _range(values: Any) -> Range:
    low, high = float(np.min(values)), float(np.max(values))
    margin = (high - low) * _MARGIN or max(abs(high), 1e-3) * _MARGIN
    return low - margin, high + margin


def _x(value: Any, bounds: Range) -> Any:
    return _LEFT + (value - bounds[0]) / (bounds[1] - bounds[0]) * (WIDTH - _LEFT - _RIGHT)


def _y(value: Any, bounds: Range) -> Any:
    return HEIGHT - _BOTTOM - (value - bounds[0]) / (bounds[1] - bounds[0]) * (HEIGHT - _TOP - _BOTTOM)


def _points(x: Any, y: Any, x_bounds: Range, y_bounds: Range) -> list[tuple[float, float, float]]:
    places = np.stack([_x(x, x_bounds), _y(y, y_bounds)], axis=1)
    cells, counts = np.unique(np.rint(places / _CELL), axis=0, return_counts=True)
    return [
        (column * _CELL, row * _CELL, round(1 - 0.5 ** float(count), 3))
        for (column, row), count in zip(cells.tolist(), counts, strict=True)
    ]


def _ticks(bounds: Range, place: Any, wanted: int = 5) -> list[Mark]:
    """Round numbers inside of ``bounds``."""
    rough = (bounds[1] - bounds[0]) / wanted
    power = 10.0 ** floor(log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first, last = int(np.ceil(bounds[0] / step)), int(np.floor(bounds[1] / step))
    return [Mark(place(number * step, bounds), f"{number * step:.6g}") for number in range(first, last + 1)]


def _bars(histogram: Sequence[int]) -> list[tuple[int, float]]:
    """Return number and height (0 to 1) of the bars of a histogram that are not empty."""
    most = max(histogram, default=0)
    return [(number, count / most) for number, count in enumerate(histogram) if count]
