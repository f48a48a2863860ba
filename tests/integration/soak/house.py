"""The house of a soak: the service in a process of its own, modalities that send, and what is there at the end."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydicom import Dataset

from cxr_dicom.store.ledger import Ledger
from tests.integration import rig

_START_SECONDS = 120.0
_STOP_SECONDS = 90.0
_REPEATED = 0.1  # of the images are sent twice, as modalities do that did not hear the answer
_DELIVERED = ("delivered", "committed")


class Serving:
    """The service; it can be killed and started again.

    Parameters
    ----------
    command
        Starts it.
    log
        Gets what it writes to standard error, of all its lives.
    """

    def __init__(
        self, command: Sequence[str], log: Path, port: int, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command, self._log, self.port = command, log, port
        self._environment = {**os.environ, **(environment or {})}
        self.starts = 0  # each is counted, also those at which it could not
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, again and again as systemd does, and wait until it listens."""
        until = time.monotonic() + _START_SECONDS
        while not rig.listens(self.port):
            if time.monotonic() > until:
                raise rig.NotRunningError(f"the service does not start: {self._log.read_text()[-1000:]}")
            if self.process is None or self.process.poll() is not None:
                with self._log.open("ab") as log:
                    self.process = subprocess.Popen(
                        self._command, stdout=log, stderr=log, start_new_session=True, env=self._environment
                    )
                self.starts += 1
            time.sleep(0.2)

    def kill(self) -> None:
        """End it as a power cut does; its workers end by themselves."""
        if self.process:
            self.process.kill()
            self.process.wait()

    def stop(self) -> int:
        """End it as an operator does; return how it ended."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_SECONDS)

    def figures(self) -> tuple[float, int]:
        """Return the resident memory of the service in megabytes, and how many descriptors are open."""
        folder = Path("/proc") / str(self.process.pid)
        resident = int(re.search(r"VmRSS:\s+(\d+)", (folder / "status").read_text()).group(1)) / 1024
        return resident, len(list((folder / "fd").iterdir()))

    def workers(self) -> list[int]:
        """Return the process IDs of its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        lines = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
        return [child for child, line in lines.items() if b"spawn_main" in line]


class Modality(threading.Thread):
    """Sends images at their times, each until it is acknowledged.

    Parameters
    ----------
    due
        Images with the second at which each is sent.
    send
        Sends one; tells whether it was acknowledged.
    """

    def __init__(
        self, port: int, due: Sequence[tuple[float, Dataset]], send: "Callable[[int, Dataset], bool]", seed: object
    ) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[Dataset] = []
        self.refused = 0  # attempts
        self._port, self._due, self._send = port, due, send
        self._chance = random.Random(str(seed))
        self._end = threading.Event()

    def run(self) -> None:
        begin = time.monotonic()
        for second, image in self._due:
            self._end.wait(max(0.0, begin + second - time.monotonic()))
            for _ in range(1 + (self._chance.random() < _REPEATED)):
                while not self._end.is_set() and not self._send(self._port, image):
                    self.refused += 1
                    self._end.wait(0.5)
            if self._end.is_set():
                return
            self.acknowledged.append(image)

    def stop(self) -> None:
        """Send no more."""
        self._end.set()
        self.join()


def by_storescu(folder: Path) -> "Callable[[int, Dataset], bool]":
    """Send images by DCMTK's storescu, from files in ``folder``."""
    folder.mkdir()

    def send(port: int, image: Dataset) -> bool:
        path = folder / f"{image.SOPInstanceUID}.dcm"
        image.save_as(path, enforce_file_format=True)
        try:
            rig.send([path], port, "CXRDICOM")
        except rig.NotRunningError:
            return False
        return True

    return send


def spread(images: Sequence[Dataset], seconds: float, chance: random.Random) -> list[tuple[float, Dataset]]:
    """Give each image a second of the day, in their order."""
    return list(zip(sorted(chance.uniform(0, seconds) for _ in images), images, strict=True))


def states(ledger: Ledger) -> Counter[str]:
    """Count the studies by state."""
    return Counter(str(row["state"]) for row in ledger.stories.summaries(limit=1_000_000))


def await_states(ledger: Ledger, wanted: "Callable[[Counter[str]], bool]", seconds: float) -> Counter[str]:
    """Wait until the studies are in the states that are wanted, or so long; return what they are."""
    until = time.monotonic() + seconds
    while not wanted(found := states(ledger)) and time.monotonic() < until:
        time.sleep(0.5)
    return found


def stories(ledger: Ledger) -> list[dict]:
    """Return what the ledger knows of each study."""
    return [ledger.stories.show(row["study_instance_uid"]) for row in ledger.stories.summaries(limit=1_000_000)]


def sent_to(told: Sequence[dict], destination: str) -> Counter[str]:
    """Count the objects that are delivered to a destination, by SOP Instance UID."""
    return Counter(
        made["sop_instance_uid"]
        for story in told
        for made in story["objects"]
        for delivery in made["deliveries"]
        if delivery["destination"] == destination and delivery["state"] in _DELIVERED
    )


def lines_by_action(log: Path) -> Counter[str]:
    """Count the lines of a JSON log by action; what is no JSON counts as itself."""
    counted: Counter[str] = Counter()
    for line in log.read_text().splitlines():
        try:
            counted[json.loads(line)["action"]] += 1
        except (ValueError, TypeError, KeyError):
            counted[f"no JSON: {line[:60]}"] += 1
    return counted


def health(port: int) -> dict:
    """Ask the service how it is."""
    return json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10))


def cxr_dicom(*arguments: str) -> list[str]:
    """Return our command line."""
    return [sys.executable, "-m", "cxr_dicom", *arguments]


def note(second: float, text: str) -> None:
    """Say what happens in the course of the day."""
    print(f"{second:6.0f} s  {text}", flush=True)


class Verdict:
    """What must be true at the end, said line by line."""

    def __init__(self) -> None:
        self.is_good = True

    def say(self, text: str, is_right: bool = True) -> None:
        """Say one thing, and whether it is as it must be."""
        self.is_good &= is_right
        print(f"{'ok   ' if is_right else 'WRONG'} {text}", flush=True)
