"""File systems, names and network of their own for a soak, so that it can cut and fill them and touch nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

_IS_APART = "SOAK_APART"  # in the environment: "yes", or why not


def go_apart() -> None:
    """Start this program again in namespaces of its own; where the system does not allow it, go on as we are."""
    if _IS_APART in os.environ:
        if why_not() is None:
            _ip("link", "set", "lo", "up")
        return
    os.environ[_IS_APART] = _unshared() or "yes"
    if why_not() is None:
        command = [*_command(), sys.executable, *sys.orig_argv[1:]]
        os.execv(command[0], command)


def why_not() -> str | None:
    """Say why we share the network and the files of this machine; None when we do not."""
    said = os.environ.get(_IS_APART, "go_apart was not called")
    return None if said == "yes" else said


def names(folder: Path) -> Path:
    """Replace the names that this program and its children know by a file, which may be written at any time."""
    hosts, resolver = folder / "hosts", folder / "resolv.conf"
    hosts.write_text("127.0.0.1 localhost\n")
    resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    _run("mount", "--bind", str(hosts), "/etc/hosts")
    _run("mount", "--bind", str(resolver), str(Path("/etc/resolv.conf").resolve()))
    return hosts


def small_disk(folder: Path, megabytes: int) -> None:
    """Make a folder a disk of its own."""
    folder.mkdir()
    _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder))


def take_disks(folder: Path, *, keep: bool) -> None:
    """Take the disks in a folder away, so that it can be deleted; they end with us, so what is kept is copied."""
    for disk in [path for path in folder.iterdir() if path.is_mount()]:
        if keep:
            shutil.copytree(disk, disk.with_name(f"{disk.name}-kept"))
        _run("umount", "--lazy", str(disk))


def add_address(address: str) -> None:
    """Give the loopback interface one more address."""
    _ip("addr", "add", f"{address}/32", "dev", "lo")


def cut(address: str) -> None:
    """Take an address away: what comes from it or goes to it is lost."""
    _ip("addr", "del", f"{address}/32", "dev", "lo")


def _unshared() -> str | None:
    """Say why namespaces of our own cannot be had."""
    for name in ("unshare", "mount", "ip"):
        if shutil.which(name) is None:
            return f"{name} is not installed"
    tried = subprocess.run([*_command(), "true"], capture_output=True, text=True, check=False)
    return " ".join(tried.stderr.split()) if tried.returncode else None


def _command() -> list[str]:
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    return [str(shutil.which("unshare")), "--mount", "--net", *user]


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    subprocess.run(command, check=True)
