"""A process gets no more memory than its bound, and as many files as the system allows."""

import resource
import subprocess
import sys
from unittest.mock import Mock

from cxr_dicom.system.limits import allow_descriptors


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


def test_as_many_files_as_the_system_allows_or_as_before_where_it_allows_fewer_than_it_says(monkeypatch):
    usual, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (usual - 1, most))
        with monkeypatch.context() as patched:
            patched.setattr(resource, "setrlimit", Mock(side_effect=ValueError("current limit exceeds maximum limit")))
            allow_descriptors()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (usual - 1, most)
        allow_descriptors()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (most, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (usual, most))
