"""What the commands of the service share: the ``--config`` option, the settings, the open ledger."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


def share_output(config: Path | None) -> None:
    """Let what this command writes be for others too, where the settings say so (``files.shared``)."""
    from cxr_dicom.system import atomic

    atomic.share(load_settings(config).files.shared)


def config_path(config: Path | None) -> Path | None:
    """Return the file that was named, or the one in this folder."""
    if config is None:
        with suppress(OSError):  # a folder that this user may not look into
            config = DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None
    return config


def person() -> Person:
    """Say who gives a command: whose login it is, also behind ``sudo``."""
    from cxr_dicom.store.ledger.actions import Person

    return Person(name=os.environ.get("SUDO_USER") or getpass.getuser(), via="command")


def other_user(spool: Path) -> str | None:
    """Say that a spool is another user's, and what to do; None where it is this one's, or there is none.

    Files that another user makes in it, even root, are files that the service cannot use.
    """
    if not hasattr(os, "geteuid"):
        return None
    me = os.geteuid()
    try:
        of_service = _owner(spool)
        if of_service in (None, me):
            return None
        user = _login(of_service)
    except PermissionError as error:  # a folder above it
        return f"{error.filename} cannot be looked into by {_login(me)}; run this as the user of the service"
    return f"{spool} belongs to {user}, and you are {_login(me)}; run it so: sudo -u {user} cxr-dicom ..."


def _owner(spool: Path) -> int | None:
    """Return who made the ledger, or else the folder; None where there is none."""
    from cxr_dicom.store.ledger import FILE_NAME

    for path in (spool / FILE_NAME, spool):
        with suppress(FileNotFoundError, *((PermissionError,) if path != spool else ())):
            return path.stat().st_uid
    return None


def _login(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


@contextmanager
def open_ledger(config: Path | None) -> Iterator[Ledger]:
    """Open the ledger that the settings name; a named error becomes a usage error."""
    from cxr_dicom.errors import CxrDicomError
    from cxr_dicom.store.ledger import Ledger

    folder = load_settings(config).spool.folder.absolute()
    if stranger := other_user(folder):
        raise Refused(stranger)
    if config_path(config) is None and not folder.exists():
        raise Refused(f"{folder}: there is no such folder, and no {DEFAULT_CONFIG} here to name another: give --config")
    try:
        ledger = Ledger(folder, create=False)
        try:
            yield ledger
        finally:
            ledger.close()
    except CxrDicomError as error:
        raise Refused(str(error)) from error


@contextmanager
def open_actions(config: Path | None) -> Iterator[tuple[Actions, Ledger]]:
    """Open the ledger for what a person does; a rule that forbids it becomes a usage error."""
    from cxr_dicom.store.ledger.actions import Actions

    with open_ledger(config) as ledger:
        yield Actions(ledger, person()), ledger
