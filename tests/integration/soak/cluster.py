"""A cluster as they are: three machines in namespaces of their own, of which some see other things than they should."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from cxr_dicom import __version__, synthetic
from tests import ROOT
from tests.integration.soak import apart
from tests.integration.soak.machines import HEAD, PORT, SHARED, Head, Machine, environment, wait

_INPUT, _OUT = SHARED / "in", SHARED / "out"
_RAY = ("--engine", "ray", "--address", f"{HEAD}:{PORT}")
_DISK_MB = 64
_STARTS = 3  # of a machine: Ray gives up on a busy one


def day(folder: Path, studies: int, seed: int) -> bool:
    """Live through it; tell whether all was as it must be."""
    if apart.why_not():
        print("a cluster needs namespaces of its own: nothing was tried", flush=True)
        return True
    with ExitStack() as stack:
        head = Head(folder)
        stack.callback(head.stop)
        cluster = _Cluster(folder, studies, seed)
        stack.callback(cluster.stop)
        right = [_tried(each, cluster) for each in CASES]  # all of them
        return all(right)


class _Cluster:
    def __init__(self, folder: Path, studies: int, seed: int) -> None:
        self.folder, self.studies = folder, studies
        self.machines: dict[str, Machine] = {}
        self._commands: list[subprocess.Popen[str]] = []
        for number in range(studies):
            image = synthetic.radiograph(240, 200, seed=1000 * seed + number, study=str(number))
            synthetic.write_study(_INPUT / str(number), [image])
        self.expected = self.finished(self.command(_OUT.with_name("alone"), "--engine", "local", "--workers", "2"))[1]

    def join(self, number: int, **options: object) -> None:
        for _ in range(_STARTS):
            machine = self.machines[f"m{number}"] = Machine(self.folder, number, **options)
            if machine.is_up():
                return
            machine.cut_power()
        raise AssertionError(f"m{number} did not start: {(self.folder / f'm{number}.log').read_text()[-1000:]}")

    def stop(self) -> None:
        for machine in self.machines.values():
            machine.cut_power()
        self.machines.clear()

    def command(self, out: Path, *options: str) -> "subprocess.Popen[str]":
        line = [sys.executable, "-m", "cxr_dicom", "run", _INPUT, "-o", out, *options]
        models = ["--models", "offline-anatomy,lung-opacity", "--device", "cpu"]
        process = subprocess.Popen(
            [*map(str, line), *models],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
            cwd=SHARED,  # Ray gives the folder of the command to workers as a place of modules
            start_new_session=True,
        )
        process.out = out
        self._commands.append(process)
        return process

    def clear(self) -> None:
        """End the commands that a case left."""
        while self._commands:
            process = self._commands.pop()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def finished(self, process) -> tuple[int, dict[str, str], str]:
        said, _ = process.communicate(timeout=1800)
        files = process.out.rglob("*.dcm")
        return process.returncode, {str(p.relative_to(process.out)): _digest(p) for p in files}, said

    def fresh(self) -> Path:
        shutil.rmtree(_OUT, ignore_errors=True)
        return _OUT

    def run(self, *options: str) -> tuple[int, dict[str, str], str]:
        return self.finished(self.command(self.fresh(), *_RAY, *options))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sessions() -> list[dict]:
    return json.loads((_OUT / "run.json").read_text())["sessions"]


def _machines() -> dict[str, dict]:
    return {machine["host"]: machine for machine in _sessions()[-1]["machines"]}


def _states() -> int:
    """Count the studies whose objects are there."""
    return len([folder for folder in _OUT.glob("*/") if any(folder.glob("*.dcm"))])


def _told(what: str, said: str = "", **checks: bool) -> bool:
    wrong = [name for name, is_right in checks.items() if not is_right]
    print(f"{'wrong' if wrong else 'right'}: {what}{': ' if wrong else ''}{', '.join(wrong)}", flush=True)
    if wrong:
        print(said[-3000:], flush=True)
    return not wrong


def _tried(case, cluster: _Cluster) -> bool:
    try:
        return case(cluster)
    except Exception as error:
        print(f"wrong: {case.__name__}: {type(error).__name__} {error}", flush=True)
        return False
    finally:
        cluster.clear()


def a_head_without_cpus_waits_for_machines_that_join_later(cluster: _Cluster) -> bool:
    process = cluster.command(cluster.fresh(), *_RAY)
    wait(lambda: list(_OUT.glob(".cxr-dicom/roll-call/*")), "the roll call")
    cluster.join(2, gpus=1)
    code, files, said = cluster.finished(process)
    did = {host: machine["studies"] for host, machine in _machines().items()}
    right = {"code": code == 0, "bytes": files == cluster.expected, "used": did == {"m2": cluster.studies}}
    return _told("a head without CPUs, and a machine that joins", said, **right)


def a_worker_that_no_machine_can_hold_is_refused(cluster: _Cluster) -> bool:
    code, _, said = cluster.run("--gpus-per-worker", "2")
    cluster.join(3)
    return _told("two GPUs, where machines have one", said, code=code == 2, words="0..N waits" in said)


def machines_that_differ_are_refused_by_name(cluster: _Cluster) -> bool:
    """One without the input, one without OUT, one with another version."""
    other = cluster.folder / "shared" / "other"
    shutil.copytree(ROOT / "cxr_dicom", other / "cxr_dicom", ignore=shutil.ignore_patterns("__pycache__"))
    init = other / "cxr_dicom" / "__init__.py"
    init.write_text(init.read_text().replace(f'"{__version__}"', '"9.9.9"'))
    cluster.fresh().mkdir()
    cluster.join(4, before=f"mount -t tmpfs tmpfs {_INPUT}")
    cluster.join(5, before=f"mount -t tmpfs tmpfs {_OUT}")
    cluster.join(6, before=f"export PYTHONPATH={SHARED / 'other'}")
    code, files, said = cluster.finished(cluster.command(_OUT, *_RAY, "--workers", "6"))
    refused = {host: machine["refused"] for host, machine in _machines().items() if machine["refused"]}
    print(*(f"  {host}: {why}" for host, why in sorted(refused.items())), sep="\n", flush=True)
    asked = cluster.finished(cluster.command(_OUT, *_RAY, "--dry-run"))[2]
    for host in ("m4", "m5", "m6"):
        cluster.machines.pop(host).cut_power()
    return _told(
        "machines that see or have something else",
        said + asked,
        code=code == 0,
        bytes=files == cluster.expected,
        by_name=set(refused) == {"m4", "m5", "m6"},
        input="of the input" in refused.get("m4", ""),
        out="does not see" in refused.get("m5", ""),
        version="9.9.9" in refused.get("m6", ""),
        dry_run=asked.count("cannot work") == 3 and asked.count(": can work") == 2,
        leaves_nothing=not list(_OUT.glob(".cxr-dicom/roll-call")),
    )


def an_input_that_vanishes_from_one_machine_fails_no_study(cluster: _Cluster) -> bool:
    process = cluster.command(cluster.fresh(), *_RAY, "--workers", "2")
    wait(lambda: _states() >= 2, "two studies")
    cluster.machines["m3"].run(f"mount -t tmpfs tmpfs {_INPUT}")
    code, files, said = cluster.finished(process)
    refused = _machines().get("m3", {}).get("refused") or ""
    cluster.machines["m3"].run(f"umount {_INPUT}")
    return _told(
        "an input that vanishes",
        said,
        code=code == 0,
        bytes=files == cluster.expected,
        by_name=bool(refused),
    )


def a_machine_without_power_changes_nothing(cluster: _Cluster) -> bool:
    process = cluster.command(cluster.fresh(), *_RAY, "--workers", "2")
    wait(lambda: _states() >= 2, "two studies")
    cluster.machines.pop("m3").cut_power()
    code, files, said = cluster.finished(process)
    return _told("a machine without power", said, code=code == 0, bytes=files == cluster.expected)


def a_command_that_is_killed_goes_on_at_once(cluster: _Cluster) -> bool:
    process = cluster.command(cluster.fresh(), *_RAY)
    wait(lambda: _states() >= 2, "two studies")
    process.send_signal(signal.SIGKILL)
    process.wait()
    code, files, said = cluster.finished(cluster.command(_OUT, *_RAY))
    return _told("a killed command, repeated at once", said, code=code == 0, bytes=files == cluster.expected)


def a_full_disk_stops_the_run_and_the_same_command_goes_on(cluster: _Cluster) -> bool:
    cluster.fresh()
    apart.small_disk(_OUT, _DISK_MB)
    cluster.machines.pop("m2").cut_power()
    cluster.join(7)  # a machine sees what was mounted before it came
    filler = _OUT / "filler"
    filler.write_bytes(bytes(max(0, _DISK_MB - 3) * 2**20))
    code, _, said = cluster.finished(cluster.command(_OUT, *_RAY))
    filler.unlink()
    time.sleep(1)
    again, files, more = cluster.finished(cluster.command(_OUT, *_RAY))
    subprocess.run(["umount", "--lazy", str(_OUT)], check=True)
    return _told(
        "a full disk",
        said + more,
        stopped=code == 5,
        cause="room on its disk" in said,
        goes_on=again == 0,
        bytes=files == cluster.expected,
    )


CASES = (
    a_head_without_cpus_waits_for_machines_that_join_later,
    a_worker_that_no_machine_can_hold_is_refused,
    machines_that_differ_are_refused_by_name,
    an_input_that_vanishes_from_one_machine_fails_no_study,
    a_machine_without_power_changes_nothing,
    a_command_that_is_killed_goes_on_at_once,
    a_full_disk_stops_the_run_and_the_same_command_goes_on,
)
