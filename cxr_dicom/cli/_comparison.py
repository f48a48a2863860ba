"""What ``cxr-dicom compare`` prints: tables on a terminal, else plain columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cxr_dicom.cli import _terminal

if TYPE_CHECKING:
    from cxr_dicom.results.compare import Comparison, Side

MAX_SHOWN = 10  # of a list; JSON and the page have more

Cells = Iterable[tuple[object, ...]]


def show(comparison: Comparison) -> None:
    """Print a comparison to standard output."""
    console = _terminal.console()
    for line in _head(comparison):
        console.print(line, markup=False, highlight=False)
    _table(console, "What differs", ("", "A", "B"), ((s.key, s.a, s.b) for s in comparison.settings))
    _table(
        console,
        "Calls",
        ("", "n", "agreement", "kappa", "moved", "mean difference", "largest", "r"),
        _calls(comparison),
    )
    _table(
        console,
        "Measurements",
        ("", "unit", "n", "mean difference", "limits of agreement", "largest", "r", "only A", "only B"),
        _measurements(comparison),
    )
    if comparison.masks:
        _table(
            console,
            "Dice of masks",
            ("", "n", "median", "10th percentile", "minimum", "only A", "only B", "worst image"),
            _structures(comparison),
        )
        for problem, images in comparison.masks.unread.items():
            console.print(f"Masks of {images} images were not compared: {problem}.", markup=False, highlight=False)
    _table(console, "Largest moves of calls", ("", "image", "A", "B", "value in A", "in B"), _moves(comparison))
    _table(
        console,
        "Other outcomes",
        ("image", "A", "reason", "B", "reason"),
        _first((c.sop_instance_uid, c.outcome_a, c.reason_a, c.outcome_b, c.reason_b) for c in comparison.changes),
    )


def _head(comparison: Comparison) -> Iterator[str]:
    yield _side("A", comparison.a)
    yield _side("B", comparison.b)
    yield (
        f"{comparison.images} images in both, {len(comparison.only_a)} only in A, {len(comparison.only_b)} only in B; "
        f"{comparison.processed} processed in both, {len(comparison.changes)} with another outcome"
    )
    if comparison.settings and not comparison.knows_settings:
        yield "settings are known by their digest only, where a run has no run.json"
    for where, names in (("A", comparison.names.only_a), ("B", comparison.names.only_b)):
        if names:
            yield f"only {where} has {', '.join(names)}"


def _side(name: str, side: Side) -> str:
    models = ", ".join(f"{model.name} {model.version}" for model in side.models)
    return f"{name}  {side.folder}: {side.images} images; {models or 'no model ran'}"


def _calls(comparison: Comparison) -> Cells:
    for call in comparison.calls:
        moved = ", ".join(f"{count} {move}" for move, count in call.moved.items())
        change = call.differences
        numbers = (change.mean, change.max_abs, change.correlation) if change else ()
        yield (
            call.name,
            call.n,
            _part(call.agreement),
            _number(call.kappa),
            moved or "none",
            *(_number(value) for value in numbers),
        )


def _measurements(comparison: Comparison) -> Cells:
    for measurement in comparison.measurements:
        if measurement.is_same:
            continue
        change = measurement.differences
        head = (measurement.name, measurement.unit, change.n if change else 0)
        numbers = ("", "", "", "")
        if change:
            limits = " to ".join(map(_number, change.limits_of_agreement or ()))
            numbers = (_number(change.mean), limits, _number(change.max_abs), _number(change.correlation))
        yield (*head, *numbers, measurement.only_a, measurement.only_b)
    if same := sum(measurement.is_same for measurement in comparison.measurements):
        yield (f"{same} measurements: the same on all images", *([""] * 8))


def _structures(comparison: Comparison) -> Cells:
    for structure in comparison.masks.structures if comparison.masks else ():
        worst = structure.worst[0].sop_instance_uid if structure.worst else ""
        dice = (_number(value) for value in (structure.median, structure.p10, structure.minimum))
        yield (structure.name, structure.n, *dice, structure.only_a, structure.only_b, worst)


def _moves(comparison: Comparison) -> Cells:
    moves = [(call.name, move) for call in comparison.calls for move in call.largest_moves]
    moves.sort(key=lambda item: -abs((item[1].value_b or 0) - (item[1].value_a or 0)))
    return _first(
        (name, move.sop_instance_uid, move.call_a, move.call_b, _number(move.value_a), _number(move.value_b))
        for name, move in moves
    )


def _first(rows: Cells) -> Cells:
    for number, row in enumerate(rows):
        if number == MAX_SHOWN:
            yield ("and more: --json or --html", *([""] * (len(row) - 1)))
            return
        yield row


def _table(console: Console, title: str, columns: tuple[str, ...], rows: Cells) -> None:
    table = Table(box=SIMPLE_HEAD if console.is_terminal else None, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else escape(str(cell)) for cell in row))
    if table.row_count:
        console.print(f"\n[bold]{title}[/bold]")
        console.print(table)


def _part(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"
