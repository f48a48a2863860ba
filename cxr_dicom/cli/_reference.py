"""The command line reference, made from the commands themselves.

``python -m cxr_dicom.cli._reference > docs/cli.md`` writes it; ``tests/test_docs.py`` compares.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from cxr_dicom.cli import cli

_WIDTH = 100
_INTRODUCTION = """\
# Command line

Made from the commands by `python -m cxr_dicom.cli._reference > docs/cli.md`; do not edit by hand.

Exit codes of `run` and `demo`: 0 all eligible images processed, 2 the command cannot start (wrong
options or settings, an input that is none, missing weights, an output folder that cannot be
written), 3 some images failed, 4 nothing eligible, 5 stopped because the destination is down or the disk full,
130 interrupted.
"""


def reference() -> str:
    """Return the help of every command as Markdown."""
    sections = (f"## {context.command_path}\n\n```text\n{context.get_help()}\n```\n" for context in contexts())
    return "\n".join((_INTRODUCTION, *sections))


def contexts() -> Iterator[click.Context]:
    """Yield the context of every command, the root first."""
    return _walk(
        click.Context(
            cli,
            info_name="cxr-dicom",
            terminal_width=_WIDTH,
            max_content_width=_WIDTH,
            help_option_names=cli.context_settings["help_option_names"],
        )
    )


def _walk(context: click.Context) -> Iterator[click.Context]:
    yield context
    command = context.command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if child := command.get_command(context, name):
                yield from _walk(click.Context(child, parent=context, info_name=name))


if __name__ == "__main__":
    click.echo(reference(), nl=False)
