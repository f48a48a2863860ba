"""Freed memory stays with the process, by the page faults that the system counts."""

import mmap
import platform
import subprocess
import sys

import pytest

MEGABYTE = 2**20
ROUNDS = 5
PROGRAM = f"""
import resource, sys
from cxr_dicom.system import heap
from cxr_dicom.system.loading import loading

match sys.argv[1]:
    case "kept":
        heap.keep()
    case "networks":
        with loading():
            pass

def fill(megabytes):
    bytearray(megabytes * {MEGABYTE})

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

megabytes = int(sys.argv[2])
fill(megabytes)
before = faults()
for _ in range({ROUNDS}):
    fill(megabytes)
print(faults() - before)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory is kept by glibc only")


def faults(way, megabytes):
    command = [sys.executable, "-c", PROGRAM, way, str(megabytes)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def test_what_was_freed_is_used_again():
    pages = ROUNDS * 64 * MEGABYTE // mmap.PAGESIZE
    assert faults("kept", 64) < pages / 100
    assert faults("networks", 64) < pages / 100
    assert faults("as it comes", 64) > pages / 2


def test_more_than_a_gigabyte_is_given_back():
    pages = ROUNDS * 1100 * MEGABYTE // mmap.PAGESIZE
    assert faults("kept", 1100) > pages / 2
