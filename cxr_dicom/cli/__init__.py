"""The command line: every file here without a leading underscore is one command, of the same name.

A command's module imports the library inside its function, so that help answers at once.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import click

from cxr_dicom import __version__
from cxr_dicom.system.loading import end_soon
from cxr_dicom.system.words import printable

EXIT_FAILED = 3  # some eligible images failed
EXIT_NOTHING = 4  # nothing eligible
EXIT_UNREACHABLE = 5  # the destination is down, or this machine lacks room, memory or permission
EXIT_INTERRUPTED = 130  # Ctrl-C


class _Told(click.ClickException):
    """An error whose text may name a file of somebody else."""

    def format_message(self) -> str:
        return "\n".join(map(printable, self.message.splitlines()))


class Refused(_Told):
    """The command cannot start: wrong settings, missing weights, an output folder that cannot be written."""

    exit_code = 2


class Stopped(_Told):
    """The command cannot go on now, and will when it is started again: the destination is down, the disk is full."""

    exit_code = EXIT_UNREACHABLE


class _Commands(click.Group):
    """The commands found in this package, imported when one is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        command = getattr(importlib.import_module(f"{__name__}.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101 - a file here owes us a command of its name
        return command


@click.group("cxr-dicom", cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, "--version", "-V", prog_name="cxr-dicom")
def cli() -> None:
    """Artificial intelligence on chest radiographs that lives inside DICOM.

    Not for clinical use: research software, not a medical device.
    """


def main() -> None:
    """Run the command line; Ctrl-C ends it with one line and exit code 130."""
    try:
        code = cli.main(standalone_mode=False)
    except click.Abort:
        click.echo("Interrupted. Finished studies are kept; the same command goes on with the rest.", err=True)
        code = EXIT_INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    end_soon()
    sys.exit(code)
