"""All that happens to a machine and a network, at random, while four senders send: nothing lost, nothing doubled.

The service runs with a pipeline that needs no model, so that it is killed often and starts soon; its spool is a small
disk of its own, its clock can be stepped, and a real Orthanc stands behind a relay on an address that can be cut off.
"""

import os
import random
import shutil
import signal
import sqlite3
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from cxr_dicom.store.ledger import FILE_NAME, Ledger
from cxr_dicom.synthetic import radiograph
from tests.integration import rig
from tests.integration.soak import apart, house
from tests.integration.soak.faults import Fault, Peer, modes
from tests.integration.soak.orthanc import Orthanc
from tests.integration.soak.relays import DicomRelay
from tests.service_helpers import derived_uid, is_acknowledged

_SECONDS_PER_STUDY = 0.3
_SECONDS_PER_FAULT = 12.0
_PEACE_SECONDS = 900.0
_DISK_MB, _MIN_FREE_MB = 256, 16
_ADDRESS = "10.77.0.2"  # of the archive, where we have a network of our own
_SERVE = Path(__file__).parent.parent / "service" / "serve_fast.py"
_MORE_MB, _MORE_DESCRIPTORS = 25, 8  # that the second half of a life may hold more than its first
_HOURS = (-30, -3, 3, 30)  # that the clock is stepped by

_CONFIG = """\
[spool]
folder = "{spool}"
min_free_mb = {min_free}
[listener]
port = {listener}
[assembly]
quiet_seconds = 0.5
[service]
max_interruptions = 1000
[[destinations]]
name = "pacs"
kind = "dicom"
address = "{address}"
port = {pacs}
ae_title = "ARCHIVE"
timeout_seconds = 4
"""


def day(folder: Path, studies: int, seed: int) -> bool:
    """Live through it; tell whether all was as it must be."""
    chance = random.Random(seed)
    seconds = max(90.0, studies * _SECONDS_PER_STUDY)
    print(f"a day of {seconds:.0f} s, seed {seed}: {studies} studies from four senders", flush=True)
    is_apart = apart.why_not() is None
    address = _ADDRESS if is_apart else "127.0.0.1"
    disk = folder / "disk"
    if is_apart:
        apart.add_address(_ADDRESS)
        apart.small_disk(disk, _DISK_MB)
    else:
        disk.mkdir()
    spool, port, log = disk / "spool", rig.free_port(), folder / "log"
    pacs = Orthanc(folder / "pacs")
    pacs.start()
    relay = DicomRelay(pacs.archive.dicom_port, address)
    (folder / "c.toml").write_text(
        _CONFIG.format(spool=spool, listener=port, address=address, pacs=relay.port, min_free=_MIN_FREE_MB)
    )
    clock = _Clock(folder)
    serving = house.Serving([sys.executable, str(_SERVE), str(folder / "c.toml")], log, port, clock.environment)
    serving.start()
    try:
        watch = _Watch(serving)
        watch.start()
        begin = time.monotonic()
        lanes = _lanes(serving, spool, relay, clock, seconds, seed, is_apart=is_apart)
        images = [radiograph(32, 32, seed=n, study=f"{seed} {n}") for n in range(studies)]
        ways: list[Callable] = [is_acknowledged] * 3 + [house.by_storescu(folder / "modality")]
        senders = [
            house.Modality(port, house.spread(images[number::4], seconds, chance), way, f"{seed} {number}")
            for number, way in enumerate(ways)
        ]
        for thread in (*lanes, *senders):
            thread.start()
        for thread in (*lanes, *senders):
            thread.join()
        house.note(time.monotonic() - begin, f"peace; refused and sent again: {sum(each.refused for each in senders)}")
        ledger = Ledger(spool)
        found = house.await_states(ledger, lambda found: found == {"SENT": studies}, _PEACE_SECONDS)
        house.note(time.monotonic() - begin, f"studies: {dict(found)}")
        watch.stop()
    finally:
        code = serving.stop()
    told = house.stories(ledger)
    kept, known = set(spool.glob("*/*/*.dcm")), ledger.stories.paths()
    ledger.close()
    there = pacs.sop_instance_uids()
    pacs.stop()
    verdict = house.Verdict()
    verdict.say(f"faults played: {sum(len(lane.plan) for lane in lanes)}", all(lane.is_over for lane in lanes))
    verdict.say(f"the service was started {serving.starts} times")
    verdict.say(f"studies: {dict(found)}; expected {studies} SENT", found == {"SENT": studies})
    for story in told:
        if story["state"] not in ("SENT", "COMPLETE", "ENCODED"):
            verdict.say(f"{story['study_instance_uid']} {story['state']}: {story['reason']}", is_right=False)
    wanted = {derived_uid(image.SOPInstanceUID) for sender in senders for image in sender.acknowledged}
    lost, strange = wanted - set(there), set(there) - wanted
    doubled = sum(len(story["objects"]) != len(story["instances"]) for story in told)
    verdict.say(f"acknowledged {len(wanted)}, lost {len(lost)}, strange {len(strange)}", not (lost or strange))
    verdict.say(f"studies with more objects than images: {doubled}", doubled == 0)
    verdict.say(f"files without a row: {len(kept - known)}, rows without a file: {len(known - kept)}", kept == known)
    left = [*(spool / "part").iterdir(), *(spool / "unknown").rglob("*.*"), *(kept - known)]
    verdict.say(f"files left behind: {[str(path.relative_to(spool)) for path in left]}", not left)
    watch.judge(verdict)
    lines = house.lines_by_action(log)
    verdict.say(
        f"lines of the log: {lines.total()}: " + ", ".join(f"{n} {action}" for action, n in lines.most_common(12))
    )
    verdict.say(f"exit code {code}", code == 0)
    return verdict.is_good


def _lanes(
    serving: house.Serving,
    spool: Path,
    relay: DicomRelay,
    clock: "_Clock",
    seconds: float,
    seed: int,
    *,
    is_apart: bool,
) -> list[Peer]:
    """Return what happens beside each other; in the second half the service is not killed, so that its memory tells."""
    parts = [
        _signal("worker stopped", serving, signal.SIGSTOP, signal.SIGCONT, of_workers=True),
        _signal("worker killed", serving, signal.SIGKILL, of_workers=True),
        _signal("service stopped", serving, signal.SIGSTOP, signal.SIGCONT),
    ]
    killed = Fault(name="service killed", begin=serving.kill, end=serving.start)
    machine = [_locked(spool)] + ([_full(spool, 0), _full(spool, _MIN_FREE_MB // 2)] if is_apart else [])
    machine += [clock.stepped(hours) for hours in _HOURS]
    network = modes(relay, DicomRelay.modes) + ([_cut()] if is_apart else [])
    half = seconds / 2

    def lane(name: str, faults: list[Fault], length: float, begin_at: float = 0.0) -> Peer:
        rounds = max(1, round(length / _SECONDS_PER_FAULT / len(faults)))
        return Peer(name, faults * rounds, length, seed, house.note, begin_at=begin_at)

    return [
        lane("process", [killed, *parts, killed], half),
        lane("process", parts, half, half),
        lane("machine", machine, seconds),
        lane("archive", network, seconds),
    ]


def _signal(
    name: str, serving: house.Serving, begin: signal.Signals, end: signal.Signals | None = None, *, of_workers=False
) -> Fault:
    sent: list[int] = []

    def first() -> None:
        sent[:] = serving.workers()[:1] if of_workers else [serving.process.pid]
        _tell(sent, begin)

    return Fault(name=name, begin=first, end=lambda: _tell(sent, end) if end else None)


def _tell(processes: list[int], number: signal.Signals) -> None:
    for each in processes:
        try:
            os.kill(each, number)
        except ProcessLookupError:  # it ended by itself
            continue


def _locked(spool: Path) -> Fault:
    """Lock the ledger as a careless backup does."""
    held: list[sqlite3.Connection] = []

    def begin() -> None:
        held.append(sqlite3.connect(spool / FILE_NAME, timeout=60, isolation_level=None, check_same_thread=False))
        held[-1].execute("BEGIN IMMEDIATE")

    def end() -> None:
        held[-1].execute("ROLLBACK")
        held.pop().close()

    return Fault(name="ledger locked", begin=begin, end=end)


def _full(spool: Path, left_mb: float) -> Fault:
    """Fill the disk but for some megabytes."""
    rest = spool.parent / "rest"

    def begin() -> None:
        size = shutil.disk_usage(spool).free - int(left_mb * 2**20)
        try:
            with rest.open("wb", buffering=0) as file:
                for _ in range(size >> 16):
                    file.write(bytes(1 << 16))
        except OSError:  # the service was quicker
            return

    return Fault(name=f"disk full but for {left_mb:g} MB", begin=begin, end=lambda: rest.unlink(missing_ok=True))


def _cut() -> Fault:
    return Fault(name="cut off", begin=lambda: apart.cut(_ADDRESS), end=lambda: apart.add_address(_ADDRESS))


class _Clock:
    """The clock of the service and its workers, as far as Python asks for it; the machine's own stays as it is."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._file.write_text("0")
        self.environment = {"SERVE_CLOCK": str(self._file)}

    def stepped(self, hours: int) -> Fault:
        """Step it, and back."""
        return Fault(
            name=f"clock stepped by {hours} h",
            begin=lambda: self._file.write_text(f"{hours * 3600}"),
            end=lambda: self._file.write_text("0"),
        )


class _Watch(threading.Thread):
    """Notes memory and descriptors of the service, by life."""

    def __init__(self, serving: house.Serving) -> None:
        super().__init__(daemon=True)
        self._serving = serving
        self._seen: list[tuple[int, float, int]] = []  # process, megabytes, descriptors
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(1):
            try:
                self._seen.append((self._serving.process.pid, *self._serving.figures()))
            except (OSError, AttributeError):  # it was just killed
                continue

    def stop(self) -> None:
        """Note no more."""
        self._end.set()
        self.join()

    def judge(self, verdict: house.Verdict) -> None:
        """Compare the second quarter of the last life with its end."""
        life = [each[1:] for each in self._seen if each[0] == self._seen[-1][0]]
        quarter = max(1, len(life) // 4)
        before, after = life[quarter : 2 * quarter] or life, life[-quarter:]
        for number, (unit, bound) in enumerate({"MB": _MORE_MB, "descriptors": _MORE_DESCRIPTORS}.items()):
            early, late = (statistics.median(each[number] for each in part) for part in (before, after))
            text = f"last life, {len(life)} s: {early:.0f} {unit}, then {late:.0f}"
            verdict.say(text, late <= early + bound)
