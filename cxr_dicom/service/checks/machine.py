"""The machine: the spool and its disk, the ledger, the service where it runs, and ports."""

from __future__ import annotations

import errno
import ipaddress
import json
import os
import shutil
import socket
import stat
import urllib.error
import urllib.request
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import psutil

from cxr_dicom.config import Settings
from cxr_dicom.errors import CxrDicomError
from cxr_dicom.service.checks.answer import Check, ok, tried, warning, wrong
from cxr_dicom.store.ledger import FILE_NAME, Ledger, OlderLedgerError
from cxr_dicom.system import lock

_FIRST_FREE_PORT = 1024  # below it the kernel asks for a privilege
_NOT_LOCAL = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "glusterfs", "ceph", "lustre", "afs")
_GONE_AT_RESTART = ("tmpfs", "ramfs")
_HEALTH_SECONDS = 5.0


def check(settings: Settings) -> Iterator[Check]:
    """Try folder, disk, ledger and ports; where the service runs, ask it instead."""
    folder = settings.spool.folder.absolute()
    holder = running(folder)
    if holder:
        yield ok("service", f"runs, process {holder}: it has the ports, and is asked instead of trying them")
        if settings.service.metrics_port:
            yield from _health(settings.service.metrics_port)
    yield from _spool(settings, folder)
    if settings.listener.enabled:
        yield check_port("listener.port", settings.listener.address, settings.listener.port, holder)
    if settings.service.metrics_port:
        yield check_port("service.metrics_port", "127.0.0.1", settings.service.metrics_port, holder)
    yield from _work(settings)


def running(folder: Path) -> str | None:
    """Return the number of the process that uses a spool; None when none does."""
    path = folder / "spool.lock"
    if not path.exists():
        return None
    try:
        os.close(lock.take(path))
    except lock.LockedError as error:
        return str(error)
    except (OSError, ImportError):
        return None
    return None


def _health(port: int) -> Iterator[Check]:
    """Ask the service how it is."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=_HEALTH_SECONDS) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            found = json.load(error)
    except (OSError, ValueError) as error:
        why = f"does not answer on service.metrics_port = {port} ({type(error).__name__}): it may have other settings"
        yield warning("service", why)
        return
    yield ok("service", f"says that it is {found['status']}")
    for part, text in found["problems"].items():
        yield warning(f"service: {part}", text)


def _spool(settings: Settings, folder: Path) -> Iterator[Check]:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield wrong("spool.folder", f"{there} cannot be written by this user")
    elif there == folder and stat.S_IMODE(folder.stat().st_mode) & 0o077:
        yield warning("spool.folder", f"{folder} is open to others; `serve` makes it 0700")
    else:
        yield ok("spool.folder", f"{folder} can be written")
    if not settings.spool.folder.is_absolute():
        yield warning("spool.folder", f"{settings.spool.folder} starts at the folder in which a command is given")
    kind = _file_system(there)
    if kind in _NOT_LOCAL:
        yield wrong("spool.folder", f"lies on {kind}, a network file system: locks and syncs do not hold there")
    if kind in _GONE_AT_RESTART:
        yield warning("spool.folder", f"lies in {kind}: a restart of this machine loses all of it")
    free, wanted = shutil.disk_usage(there).free >> 20, settings.spool.min_free_mb
    yield (ok if free >= wanted else wrong)("spool.min_free_mb", f"{free} MB free, {wanted} MB wanted")
    if (folder / FILE_NAME).exists():
        yield tried("ledger", lambda: _ledger(folder))


def _file_system(path: Path) -> str:
    """Return the type of the file system of a path."""
    found = [part for part in psutil.disk_partitions(all=True) if path.is_relative_to(part.mountpoint)]
    return max(found, key=lambda part: len(part.mountpoint)).fstype if found else ""


def _ledger(folder: Path) -> str:
    try:
        ledger = Ledger(folder, create=False, lock_seconds=2)
    except OlderLedgerError as error:  # what an update finds at its first check
        return str(error)
    try:
        ledger.verify()
    finally:
        ledger.close()
    return "is whole"


def check_port(key: str, address: str, port: int, holder: str | None) -> Check:
    """Say whether a port can be taken, or the process that holds the spool has it."""
    if not holder:
        try:
            return ok(key, bind(address, port))
        except PermissionError:
            return warning(
                key,
                f"{port}: this user may not take a port below {_FIRST_FREE_PORT}; the service may, when its unit has"
                " AmbientCapabilities=CAP_NET_BIND_SERVICE",
            )
        except CxrDicomError as error:
            return wrong(key, str(error))
    listens = _listens(int(holder), port) if holder.isdigit() else None
    if listens is None:
        return ok(key, f"{address}:{port}: whether process {holder} listens there cannot be seen")
    if listens:
        return ok(key, f"{address}:{port}: process {holder} listens there")
    return wrong(key, f"{address}:{port}: process {holder} does not listen there: it has other settings; reload it")


def bind(address: str, port: int) -> str:
    """Take a port for a moment.

    Raises
    ------
    CxrDicomError
        If it is taken, or the address is not one of this machine.
    PermissionError
        If this user may not take it.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except PermissionError:
            raise
        except socket.gaierror as error:
            raise CxrDicomError(f"{address}: no address has this name") from error
        except OSError as error:
            why = {
                errno.EADDRINUSE: "another program has it",
                errno.EADDRNOTAVAIL: "this machine has no such address",
            }.get(error.errno or 0, error.strerror)
            raise CxrDicomError(f"{address}:{port}: {why}") from error
    return f"{address}:{port} is free"


def _listens(process: int, port: int) -> bool | None:
    """Whether a process listens on a port; None where this user may not see that."""
    try:
        found = [
            connection for connection in psutil.net_connections(kind="tcp") if connection.status == psutil.CONN_LISTEN
        ]
    except (psutil.Error, OSError):
        return None
    owners = {connection.pid for connection in found if connection.laddr and connection.laddr[1] == port}
    return True if process in owners else None if None in owners else False


def _work(settings: Settings) -> Iterator[Check]:
    cores = psutil.cpu_count() or 1
    if settings.service.workers > cores:
        yield warning("service.workers", f"{settings.service.workers}, and this machine has {cores} processors")
    listener, web = settings.listener, settings.web
    ports = {
        "listener.port": listener.port if listener.enabled and is_here(listener.address) else None,
        "service.metrics_port": settings.service.metrics_port,
        "web.port": web.port if is_here(web.address) else None,
    }
    for (first, port), (second, other) in combinations(ports.items(), 2):
        if port and port == other:
            yield wrong(second, f"{other} is {first} too: give it another one")


def is_here(address: str) -> bool:
    """Whether an address is, or includes, 127.0.0.1."""
    try:
        found = ipaddress.ip_address(address)
        return found.is_loopback or found.is_unspecified
    except ValueError:
        return address == "localhost"
