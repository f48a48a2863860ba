"""A real Orthanc that can be stopped, killed and started again on what it has stored."""

import json
import signal
import subprocess
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from pydicom import Dataset

from tests.integration import rig


class Orthanc:
    """On free ports of the loopback interface; it stores into ``folder``."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self.archive, self._command = rig.orthanc_command(folder)
        self._stack = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        url = f"{self.archive.url}/dicom-web/studies"
        self._process = self._stack.enter_context(rig.running(self._command, self._folder / "orthanc.log", url))

    def stop(self) -> None:
        """End it."""
        self._stack.close()

    def kill(self) -> None:
        """End it as a power cut does."""
        self._process.kill()
        self.stop()

    def freeze(self, *, thaw: bool = False) -> None:
        """Let it hold its connections and do nothing, or go on."""
        self._process.send_signal(signal.SIGCONT if thaw else signal.SIGSTOP)

    def store(self, image: Dataset) -> None:
        """Put an image in."""
        path = self._folder / "new.dcm"
        image.save_as(path, enforce_file_format=True)
        self.archive.store(path)

    def sop_instance_uids(self) -> list[str]:
        """Return what it has."""
        with urllib.request.urlopen(f"{self.archive.url}/instances?expand") as answer:
            return [each["MainDicomTags"]["SOPInstanceUID"] for each in json.load(answer)]
