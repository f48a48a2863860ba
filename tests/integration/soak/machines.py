"""Machines of a Ray cluster in namespaces of their own: name, network, processes and mounts, on one machine."""

import os
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests import ROOT

NET = "10.78.0"
HEAD = f"{NET}.1"
PORT = 6379
SHARED = Path("/mnt")  # what all machines share, and see under the same path
_RAY = Path(sys.executable).with_name("ray")
_START_SECONDS = 900.0
_OPTIONS = ["--disable-usage-stats", f"--object-store-memory={80 * 2**20}", "--block"]


class Head:
    """The head of the cluster, without CPUs; the command runs beside it."""

    def __init__(self, folder: Path) -> None:
        self._log = (folder / "head.log").open("ab")
        shared = folder / "shared"
        shared.mkdir()
        for command in (
            f"mount --bind {shared} {SHARED}",
            "ip link add br0 type bridge",
            f"ip addr add {HEAD}/24 dev br0",
            "ip link set br0 up",
        ):
            subprocess.run(shlex.split(command), check=True)
        self._process = _started(
            f"exec {_RAY} start --head --node-ip-address={HEAD} --port={PORT} --num-cpus=0 --include-dashboard=false "
            + " ".join([*_OPTIONS, f"--temp-dir={folder / 'ray'}"]),
            self._log,
        )
        wait(lambda: "started" in Path(self._log.name).read_text(), "the head")

    def stop(self) -> None:
        """End it, and all that hangs on it."""
        _end(self._process)


class Machine:
    """A machine, with a disk of its own below /tmp.

    Parameters
    ----------
    number
        From 2; the last byte of its address.
    before
        Shell commands that change what it sees, before Ray is started.
    """

    def __init__(self, folder: Path, number: int, *, cpus: int = 1, before: str = "true", gpus: int = 0) -> None:
        self.host = f"m{number}"
        self._log = (folder / f"{self.host}.log").open("wb")
        ray = (
            f"{_RAY} start --address={HEAD}:{PORT} --node-ip-address={NET}.{number} --num-cpus={cpus} --num-gpus={gpus}"
        )
        script = f"""
            hostname {self.host}
            mount -t tmpfs tmpfs /tmp
            ip link set lo up
            until ip addr add {NET}.{number}/24 dev eth0 2>/dev/null; do sleep 0.1; done
            ip link set eth0 up
            {before}
            exec {ray} {" ".join(_OPTIONS)}
        """
        unshare = "exec unshare --mount --net --uts --ipc --pid --fork --kill-child --mount-proc sh -ec "
        self._process = _started(unshare + shlex.quote(script), self._log)
        self._inside = self._child()
        subprocess.run(["ip", "link", "delete", f"v{number}"], check=False, stderr=subprocess.DEVNULL)  # of one before
        for command in (
            f"ip link add v{number} type veth peer name eth0 netns {self._inside}",
            f"ip link set v{number} master br0 up",
        ):
            subprocess.run(shlex.split(command), check=True)

    def is_up(self) -> bool:
        """Wait until it takes part; False where it gave up, as Ray does on a busy machine."""
        log = Path(self._log.name)
        wait(lambda: "started" in log.read_text() or self._process.poll() is not None, self.host)
        return self._process.poll() is None

    def run(self, command: str) -> None:
        """Do something on the machine, as its administrator."""
        enter = ["nsenter", f"--target={self._inside}", "--mount", "--net", "--uts", "--ipc", "--pid"]
        subprocess.run([*enter, "sh", "-ec", command], check=True)

    def cut_power(self) -> None:
        """End it, and all its processes, at once."""
        with suppress(ProcessLookupError):
            os.kill(self._inside, signal.SIGKILL)
        _end(self._process)

    def _child(self) -> int:
        """Return its first process, as we number it."""
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        wait(lambda: path.read_text().split(), self.host)
        return int(path.read_text().split()[0])


def wait(condition, what: str, seconds: float = _START_SECONDS):
    """Wait until something is true, and return it."""
    until = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not in {seconds:g} s")
        time.sleep(0.1)
    return found


def environment() -> dict[str, str]:
    """Return the environment of a machine, and of the command."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}


def _started(script: str, log) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        ["sh", "-ec", script],
        stdout=log,
        stderr=log,
        stdin=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
