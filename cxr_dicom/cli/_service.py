"""What the commands of the service share: the ``--config`` option, the settings, the open ledger."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cxr_dicom.cli import Refused

if TYPE_CHECKING:
    from cxr_dicom.config import Settings
    from cxr_dicom.store.ledger import Ledger
    from cxr_dicom.store.ledger.actions import Actions, Person

DEFAULT_CONFIG = Path("cxr-dicom.toml")

config_option = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Settings file (TOML); ./cxr-dicom.toml when it is there.",
)


def load_settings(config: Path | None) -> Settings:
    """Read the settings; a named error becomes a usage error."""
    from cxr_dicom.config import load
    from cxr_dicom.errors import CxrDicomError

    try:
        return load(config_path(config))
    except CxrDicomError as error:
        raise Refused(str(error)) from error


def config_path(config: Path | None) -> Path | None:
    """Return the file that was named, or the one in this folder."""
    return config or (DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None)


def person() -> Person:
    """Say who gives a command: whose login it is, also behind ``sudo``."""
    from cxr_dicom.store.ledger.actions import Person

    return Person(name=os.environ.get("SUDO_USER") or getpass.getuser(), via="command")


@contextmanager
def open_ledger(config: Path | None) -> Iterator[Ledger]:
    """Open the ledger that the settings name; a named error becomes a usage error."""
    from cxr_dicom.errors import CxrDicomError
    from cxr_dicom.store.ledger import Ledger

    try:
        ledger = Ledger(load_settings(config).spool.folder.absolute(), create=False)
        try:
            yield ledger
        finally:
            ledger.close()
    except CxrDicomError as error:
        raise Refused(str(error)) from error


@contextmanager
def open_actions(config: Path | None) -> Iterator[Actions]:
    """Open the ledger for what a person does; a rule that forbids it becomes a usage error."""
    from cxr_dicom.store.ledger.actions import Actions

    with open_ledger(config) as ledger:
        yield Actions(ledger, person())
