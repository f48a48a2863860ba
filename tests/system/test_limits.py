"""A process gets no more memory than its bound."""

import subprocess
import sys


def test_what_asks_for_more_gets_a_memory_error():
    program = """
from cxr_dicom.system.limits import bound_memory
bound_memory(1024)
bytearray(512 << 20)
try:
    bytearray(2 << 30)
except MemoryError:
    raise SystemExit(7)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 7
