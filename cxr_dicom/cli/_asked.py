"""Who answers the questions of ``models add``: options first, then the file, then a person at a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from cxr_dicom.cli import Refused


class Asked:
    """What the options say, what a person is asked, and what nobody said."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        self._missing: list[str] = []

    def optional(self, key: str) -> Any:
        """Return what an option says; None where it was not given."""
        return self.given["range_" if key == "range" else key]

    def need(
        self,
        key: str,
        known: Any,
        question: str,
        *,
        choices: tuple[str, ...] = (),
        convert: Callable[[str], Any] = str,
        default: Any = None,
    ) -> Any:
        """Return what an option says, else ``known``, else what a person answers; None where nobody is there."""
        if (said := self.optional(key)) is not None:
            return _converted(key, convert, said) if isinstance(said, str) else said
        if known is not None:
            return known
        if not is_terminal():
            self._missing.append(f"--{key.replace('_', '-')} ({question}{': ' * bool(choices)}{', '.join(choices)})")
            return None
        kind = click.Choice(choices) if choices else None
        return click.prompt(question, type=kind, default=default, value_proc=None if choices else _spoken(convert))

    def expect_all(self, file: Path) -> None:
        """Raise an error that lists all that is missing."""
        if self._missing:
            raise Refused(f"{file}: does not say all; give {'; '.join(self._missing)}")


def is_terminal() -> bool:
    """Whether somebody can be asked."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _converted(key: str, convert: Callable[[str], Any], said: str) -> Any:
    try:
        return convert(said)
    except ValueError as error:
        raise Refused(f"--{key}: {error}") from error


def _spoken(convert: Callable[[str], Any]) -> Callable[[str], Any]:
    """Let a person who answers what cannot be be asked again."""

    def answered(text: str) -> Any:
        try:
            return convert(text)
        except ValueError as error:
            raise click.UsageError(str(error)) from error

    return answered
