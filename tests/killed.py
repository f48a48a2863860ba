"""Writers that are killed at every call to the system, and how their calls follow each other."""

import os
import signal
import sys
from io import BytesIO
from pathlib import Path

CALLS = {"open", "mkstemp", "write", "writelines", "flush", "close", "fsync", "replace", "unlink", "mkdir", "chmod"}


def kill_at_each_call(write):
    """Run ``write`` in child processes, each of which is killed (SIGKILL) at a call to the system; yield after each.

    The last child is not killed.
    """
    number = 0
    while _child(write, number) == -signal.SIGKILL:
        yield number
        number += 1
    assert number, "expected a writer that calls the system"


def _child(write, number):
    """Kill a child just before its n-th call; return how it ended, as `subprocess` says it."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    left = number

    def count(_, event, function):
        nonlocal left
        if event == "c_call" and function.__name__ in CALLS and not isinstance(function.__self__, BytesIO):
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1

    sys.setprofile(count)
    try:
        write()
    except BaseException:
        os._exit(1)
    os._exit(0)


class Disk:
    """What a power cut leaves: content that was synced, under names whose folder was synced.

    The most hostile file system that POSIX allows: a rename reaches the disk at any time, content only by fsync(2).
    """

    def __init__(self, monkeypatch):
        self.synced = set()  # inodes
        self.moved = []  # (new name, whether its content was on the disk before)
        self.folders = []  # that were synced, and how many files had been moved by then
        fsync, replace = os.fsync, os.replace

        def noting_fsync(descriptor):
            fsync(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            if path.is_dir():
                self.folders.append((path, len(self.moved)))
            self.synced.add(os.fstat(descriptor).st_ino)

        def noting_replace(origin, target, **options):
            self.moved.append((Path(target), Path(origin).stat().st_ino in self.synced))
            replace(origin, target, **options)

        monkeypatch.setattr(os, "fsync", noting_fsync)
        monkeypatch.setattr(os, "replace", noting_replace)

    def has(self, path):
        """Whether a file would be there, whole, after a power cut."""
        for number, (moved, is_synced) in enumerate(self.moved, start=1):
            if moved == path:
                return is_synced and any(folder == path.parent and count >= number for folder, count in self.folders)
        return False
