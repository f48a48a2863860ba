"""Options of the commands that read a truth, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from cxr_dicom.results.evaluate import Reading

Function = TypeVar("Function", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--map", "columns", metavar="COLUMN=NAME", multiple=True, help="What a column of the table holds."),
    click.option("--patient", metavar="COLUMN", help="Column that says whose an image is; default: by study."),
    click.option(
        "--uncertain",
        type=click.Choice(["leave-out", "positive", "negative"]),
        default="leave-out",
        show_default=True,
        help="What a label of -1 counts as.",
    ),
    click.option(
        "--blank",
        type=click.Choice(["leave-out", "negative"]),
        default="leave-out",
        show_default=True,
        help="What a cell without a label counts as.",
    ),
)


def table_options(function: Function) -> Function:
    """Add the options that say how a table of truth is read; see `reading`."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def reading(
    columns: tuple[str, ...], patient: str | None, uncertain: Any, blank: Any, by: tuple[str, ...] = ()
) -> Reading:
    """Return how a table is to be read."""
    from cxr_dicom.results.evaluate import Reading

    pairs = [text.rpartition("=") for text in columns]
    if wrong := [text for text, (name, _, target) in zip(columns, pairs, strict=True) if not (name and target)]:
        raise click.UsageError(f"--map: expected COLUMN=NAME, found {wrong[0]!r}")
    return Reading(
        columns={name: target for name, _, target in pairs}, patient=patient, by=by, uncertain=uncertain, blank=blank
    )
